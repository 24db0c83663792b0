package registry

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"oras.land/oras-go/v2/registry/remote/errcode"
)

// What is tried again, and how often: connection errors, 408, 429 and 5xx, after twice the time of the time before, with
// jitter, or as long as Retry-After says.
const (
	maxTries  = 5
	firstWait = 250 * time.Millisecond
	maxWait   = 8 * time.Second
)

// patience is how long a registry is waited for.
type patience struct {
	tries      int
	retryAfter time.Duration // the longest Retry-After that is heeded
	dial       bool          // hosts that cannot be connected to are tried again
}

var (
	patient = patience{maxTries, 30 * time.Second, true}
	// hasty is for mirrors: others can be asked.
	hasty = patience{2, 2 * time.Second, false}
)

type patienceKey struct{}

// withPatience sets how long the requests of a context wait for a registry that is busy or out of reach.
func withPatience(ctx context.Context, p patience) context.Context {
	return context.WithValue(ctx, patienceKey{}, p)
}

func patienceOf(ctx context.Context) patience {
	if p, ok := ctx.Value(patienceKey{}).(patience); ok {
		return p
	}
	return patient
}

// permanentError is an error for which a retry is no use.
type permanentError struct{ error }

func (e *permanentError) Unwrap() error { return e.error }

// newRequest is http.NewRequestWithContext. A request without a body has nil, not http.NoBody: otherwise it would not be sent again.
func newRequest(ctx context.Context, method, url string, body io.Reader) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, method, url, body)
}

// retrying sends a request again, if its body can be had again.
type retrying struct {
	base    http.RoundTripper
	backoff backoff
}

func (t *retrying) RoundTrip(req *http.Request) (*http.Response, error) {
	p := patienceOf(req.Context())
	for try := 0; ; try++ {
		resp, err := t.base.RoundTrip(req)
		wait, again := p.wait(t.backoff, try, resp, err)
		if !again {
			return resp, err
		}
		next, ok := repeated(req)
		if !ok {
			return resp, err
		}
		req = next
		if err == nil {
			_ = resp.Body.Close()
		}
		if err := sleep(req.Context(), wait); err != nil {
			return nil, err
		}
	}
}

// repeated is the request for another try; ok is false where its body is gone.
func repeated(req *http.Request) (next *http.Request, ok bool) {
	if req.Body == nil || req.Body == http.NoBody {
		return req, true
	}
	if req.GetBody == nil {
		return nil, false
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, false
	}
	next = req.Clone(req.Context())
	next.Body = body
	return next, true
}

// wait says whether a request that ended so is sent again, and after how long.
func (p patience) wait(b backoff, try int, resp *http.Response, err error) (time.Duration, bool) {
	if try >= p.tries-1 {
		return 0, false
	}
	if err != nil {
		return b.wait(try), worthRetry(err) && (p.dial || !isDial(err))
	}
	if !retryStatus(resp.StatusCode) {
		return 0, false
	}
	if wait, ok := retryAfter(resp.Header); ok {
		return wait, wait <= p.retryAfter
	}
	return b.wait(try), true
}

func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func retryStatus(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// worthRetry reports whether an error is one of a bad connection, and may pass.
func worthRetry(err error) bool {
	var permanent *permanentError
	var dns *net.DNSError
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, errTooSlow), errors.As(err, &permanent):
		return false
	case errors.As(err, &dns):
		return !dns.IsNotFound
	case errors.As(err, &authority), errors.As(err, &hostname), errors.As(err, &invalid):
		return false
	}
	return true
}

// backoff is how long to wait before the first retry.
type backoff time.Duration

// wait is how long to wait before the next try: full jitter over the upper half.
func (b backoff) wait(attempt int) time.Duration {
	wait := min(time.Duration(b)<<attempt, maxWait)
	return wait/2 + rand.N(max(wait/2, 1)) //nolint:gosec // nobody gains by guessing it
}

// retryAfter reads a Retry-After header (RFC 9110, 10.2.3): seconds or a date.
func retryAfter(h http.Header) (time.Duration, bool) {
	v := h.Get("Retry-After")
	if v == "" {
		return 0, false
	}
	if s, err := strconv.ParseUint(v, 10, 32); err == nil {
		return time.Duration(s) * time.Second, true
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(time.Until(at), 0), true
	}
	return 0, false
}

// sleep waits, or ends early with ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// uploadAgain reports whether an upload that ended so may succeed when it is begun anew. An upload that the registry has
// forgotten (404) may.
func uploadAgain(err error) bool {
	// The request that begins an upload has no body, and has been tried again already.
	var resp *errcode.ErrorResponse
	if errors.As(err, &resp) {
		return resp.Method != http.MethodPost && (retryStatus(resp.StatusCode) || resp.StatusCode == http.StatusNotFound ||
			resp.StatusCode == http.StatusRequestedRangeNotSatisfiable)
	}
	var request *url.Error
	if errors.As(err, &request) {
		return request.Op != "Post" && worthRetry(err)
	}
	return brokeOff(err)
}
