package registry

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/crash"
)

// upload is a blob on its way to a repository (distribution-spec, "Pushing Blobs").
type upload struct {
	repo *Repository
	// authorization is what the registry took when the upload began: a body that is a stream cannot be sent twice.
	authorization string
	at            *url.URL
}

// maxMoves is how often an upload may be sent to another place before its bytes are taken.
const maxMoves = 5

// movedError is the error of an upload that is redirected, and starts anew.
type movedError struct{ to *url.URL }

func (e *movedError) Error() string {
	return "the registry moves the upload again and again, now to " + e.to.Host
}

// startUpload requests a URL to send a blob to. With a query, the registry may do without: then done is set, and it has the
// blob.
func (r *Repository) startUpload(ctx context.Context, query string) (u *upload, done bool, err error) {
	req, err := newRequest(r.pushScope(ctx), http.MethodPost, r.url()+"/blobs/uploads/"+query, nil)
	if err != nil {
		return nil, false, err
	}
	resp, err := r.remote.Client.Do(req)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode == http.StatusCreated && query != "":
		return nil, true, nil
	case resp.StatusCode != http.StatusAccepted:
		return nil, false, responseError(resp)
	}
	u = &upload{repo: r}
	if sameOrigin(resp.Request.URL, u.home()) {
		u.authorization = resp.Request.Header.Get("Authorization")
	}
	return u, false, u.next(resp)
}

// home is the registry itself.
func (u *upload) home() *url.URL {
	at, err := url.Parse(u.repo.url())
	if err != nil {
		return &url.URL{}
	}
	return at
}

// next takes the URL that a response names: at the registry, or at storage of another host that signs its URLs.
// Credentials go to the registry alone, and nothing that was to be encrypted goes in the clear.
func (u *upload) next(resp *http.Response) error {
	at, err := resp.Location()
	if err != nil {
		return &permanentError{fmt.Errorf("the registry does not say where to upload to: %w", err)}
	}
	home, from := u.home(), resp.Request.URL
	if at.Scheme != "https" && (at.Scheme != "http" || from.Scheme == "https" || home.Scheme == "https") || at.Host == "" {
		return &permanentError{fmt.Errorf("the registry wants the upload sent to %s without TLS", at.Host)}
	}
	at.User, at.Fragment = nil, ""
	// A registry that is called by its port may leave the scheme's own out.
	if sameOrigin(at, from) {
		at.Host = from.Host
	}
	u.at = at
	return nil
}

func sameOrigin(a, b *url.URL) bool { return a.Scheme == b.Scheme && hostPort(a) == hostPort(b) }

// hostPort is a URL's host with its port, also where that is the scheme's own.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// do sends a request of the upload to where that is, with credentials if it is the registry.
func (u *upload) do(ctx context.Context, method string, body io.Reader, size int64) (*http.Response, error) {
	req, err := newRequest(u.repo.pushScope(ctx), method, u.at.String(), body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.ContentLength = size
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	if !sameOrigin(u.at, u.home()) {
		req.Header.Set("User-Agent", u.repo.client.auth.Header.Get("User-Agent"))
		return u.repo.client.auth.Client.Do(req)
	}
	// A body that is a stream cannot be sent twice; for the rest the client sees to it, as tokens may run out meanwhile.
	if u.authorization != "" && body != nil {
		req.Header.Set("Authorization", u.authorization)
	}
	return u.repo.remote.Client.Do(req)
}

// PushStream sends a blob whose digest is not known before: what write writes. It returns its digest and size. write is
// called again for every try, and for every URL that the registry redirects the upload to.
func (r *Repository) PushStream(ctx context.Context, write func(io.Writer) error) (d digest.Digest, size int64, err error) {
	err = r.client.tryUpload(ctx, func() error {
		u, _, err := r.startUpload(ctx, "")
		if err != nil {
			return err
		}
		d, size, err = u.stream(ctx, write)
		return err
	})
	return d, size, err
}

// stream sends what write writes, and returns the blob's digest and size. write is called again for every place that the
// registry moves the upload to.
func (u *upload) stream(ctx context.Context, write func(io.Writer) error) (digest.Digest, int64, error) {
	for move := 0; ; move++ {
		d, size, err := u.streamOnce(ctx, write)
		var moved *movedError
		if err == nil {
			return d, size, u.commit(ctx, d)
		}
		if !errors.As(err, &moved) || move == maxMoves {
			return "", 0, err
		}
	}
}

func (u *upload) streamOnce(ctx context.Context, write func(io.Writer) error) (digest.Digest, int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	through := newPipe()
	hash, size := sha256.New(), &counter{}
	written := make(chan error, 1)
	go func() {
		err := crash.Guard(func() error { return write(io.MultiWriter(through, hash, size)) })()
		through.end(err)
		written <- err
	}()
	// Not a closer: a request that fails would close the pipe, which would look like a failure of the writer.
	err := u.patch(ctx, io.NopCloser(through))
	through.stop(errStopped)
	switch writeErr := <-written; {
	case errors.Is(writeErr, errStopped) && err == nil:
		err = &brokenError{errors.New("the registry ended the upload before it was whole")}
	case writeErr != nil && !errors.Is(writeErr, errStopped):
		err = &localError{writeErr}
	}
	if err != nil {
		return "", 0, err
	}
	return digest.NewDigest(digest.SHA256, hash), size.n.Load(), nil
}

// errStopped ends the writer of a stream whose reader has ended.
var errStopped = errors.New("upload stopped")

// localError is the error of reading what is sent. A retry is no use.
type localError struct{ error }

func (e *localError) Unwrap() error { return e.error }

func (u *upload) patch(ctx context.Context, body io.Reader) error {
	resp, err := u.do(ctx, http.MethodPatch, body, -1)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if isMove(resp) {
		return u.moved(resp)
	}
	if resp.StatusCode != http.StatusAccepted {
		return responseError(resp)
	}
	return u.next(resp)
}

// isMove reports whether the request is to be made elsewhere (RFC 9110, 15.4.8).
func isMove(resp *http.Response) bool {
	return resp.StatusCode == http.StatusTemporaryRedirect || resp.StatusCode == http.StatusPermanentRedirect
}

func (u *upload) moved(resp *http.Response) error {
	if err := u.next(resp); err != nil {
		return err
	}
	return &movedError{u.at}
}

// commit names what was sent.
func (u *upload) commit(ctx context.Context, d digest.Digest) error {
	return u.put(ctx, d, nil, 0)
}

// put ends the upload; body is the blob, nil if it was sent already. The place may have a query that is signed: it stays as
// it is.
func (u *upload) put(ctx context.Context, d digest.Digest, body io.Reader, size int64) error {
	if u.at.RawQuery != "" {
		u.at.RawQuery += "&"
	}
	u.at.RawQuery += "digest=" + url.QueryEscape(d.String())
	resp, err := u.do(ctx, http.MethodPut, body, size)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if isMove(resp) {
		return u.moved(resp)
	}
	elsewhere := !sameOrigin(u.at, u.home()) // storage responds as storage does
	if resp.StatusCode == http.StatusCreated || elsewhere && (resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusNoContent) {
		return nil
	}
	return responseError(resp)
}

// counter counts what is written through it.
type counter struct{ n atomic.Int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}
