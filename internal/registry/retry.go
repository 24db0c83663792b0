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
	"oras.land/oras-go/v2/registry/remote/retry"
)

// What is tried again, and how often: connection errors, 408, 429 and 5xx, after twice the time of the time before, with
// jitter, or as long as Retry-After says.
const (
	maxTries     = 5
	firstWait    = 250 * time.Millisecond
	maxWait      = 8 * time.Second
	maxRetryWait = 30 * time.Second // of Retry-After: who asks for more is given up on
)

// permanentError is an error that trying again does not mend.
type permanentError struct{ error }

func (e *permanentError) Unwrap() error { return e.error }

// newRequest is http.NewRequestWithContext. A request without a body has nil, not http.NoBody: only such a one is sent again.
func newRequest(ctx context.Context, method, url string, body io.Reader) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, method, url, body)
}

type retryPolicy struct{}

func newRetry(base http.RoundTripper) *retry.Transport {
	return &retry.Transport{Base: base, Policy: func() retry.Policy { return retryPolicy{} }}
}

// Retry implements retry.Policy.
func (retryPolicy) Retry(attempt int, resp *http.Response, err error) (time.Duration, error) {
	if attempt >= maxTries-1 {
		return -1, nil
	}
	if err != nil {
		if !worthRetry(err) {
			return -1, nil
		}
		return backoff(attempt), nil
	}
	if !retryStatus(resp.StatusCode) {
		return -1, nil
	}
	if wait, ok := retryAfter(resp.Header); ok {
		if wait > maxRetryWait {
			return -1, nil
		}
		return wait, nil
	}
	return backoff(attempt), nil
}

func retryStatus(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// worthRetry tells a bad connection from a mistake that stays one.
func worthRetry(err error) bool {
	var permanent *permanentError
	var dns *net.DNSError
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.Is(err, context.Canceled), errors.As(err, &permanent):
		return false
	case errors.As(err, &dns):
		return !dns.IsNotFound
	case errors.As(err, &authority), errors.As(err, &hostname), errors.As(err, &invalid):
		return false
	}
	return true
}

// backoff is how long to wait before the next try: full jitter over the upper half.
func backoff(attempt int) time.Duration {
	wait := min(firstWait<<attempt, maxWait)
	return wait/2 + rand.N(wait/2) //nolint:gosec // nobody gains by guessing it
}

// retryAfter reads a Retry-After header (RFC 9110, 10.2.3): seconds or a date.
func retryAfter(h http.Header) (time.Duration, bool) {
	v := h.Get("Retry-After")
	if v == "" {
		return 0, false
	}
	if s, err := strconv.Atoi(v); err == nil && s >= 0 {
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
