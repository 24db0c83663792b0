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
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// upload is a blob on its way to a repository whose digest is known when it ends (distribution-spec, "Pushing a blob in
// chunks", of one chunk).
type upload struct {
	c    *Client
	repo *remote.Repository
	// authorization is what the registry took when the upload began: a body that is a stream cannot be sent twice.
	authorization string
	at            *url.URL
}

// beginUpload asks for a place to send a blob to.
func (c *Client) beginUpload(ctx context.Context, repo *remote.Repository) (*upload, error) {
	ctx = pushScope(ctx, repo)
	req, err := newRequest(ctx, http.MethodPost, baseURL(repo)+"/blobs/uploads/", nil)
	if err != nil {
		return nil, err
	}
	resp, err := repo.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusAccepted {
		return nil, responseError(resp)
	}
	u := &upload{c: c, repo: repo, authorization: resp.Request.Header.Get("Authorization")}
	return u, u.next(resp)
}

func pushScope(ctx context.Context, repo *remote.Repository) context.Context {
	return auth.AppendRepositoryScope(ctx, repo.Reference, auth.ActionPull, auth.ActionPush)
}

// next takes the place that an answer names, which must be the same registry: credentials go there.
func (u *upload) next(resp *http.Response) error {
	at, err := resp.Location()
	if err != nil {
		return fmt.Errorf("the registry does not say where to upload to: %w", err)
	}
	from := resp.Request.URL
	if hostPort(at) != hostPort(from) || from.Scheme == "https" && at.Scheme != "https" {
		return fmt.Errorf("the registry wants the upload sent to another host, %s", at.Host)
	}
	if at.Port() == "" && from.Port() == "443" {
		at.Host = from.Host
	}
	u.at = at
	return nil
}

// hostPort is a URL's host with its port, also where that is the scheme's own.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// stream sends what write writes, and returns the blob's digest and size.
func (u *upload) stream(ctx context.Context, write func(io.Writer) error) (digest.Digest, int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	through := newPipe()
	hash, size := sha256.New(), &counter{}
	written := make(chan error, 1)
	go func() {
		err := write(io.MultiWriter(through, hash, size))
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
	d := digest.NewDigest(digest.SHA256, hash)
	return d, size.n.Load(), u.commit(ctx, d)
}

// errStopped ends the writer of a stream that nobody reads any more.
var errStopped = errors.New("upload stopped")

// localError is a failure to make what was to be sent: no other try helps.
type localError struct{ error }

func (e *localError) Unwrap() error { return e.error }

func (u *upload) patch(ctx context.Context, body io.Reader) error {
	req, err := u.request(ctx, http.MethodPatch, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := u.repo.Client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusAccepted {
		return responseError(resp)
	}
	return u.next(resp)
}

// commit names what was sent.
func (u *upload) commit(ctx context.Context, d digest.Digest) error {
	q := u.at.Query()
	q.Set("digest", d.String())
	u.at.RawQuery = q.Encode()
	req, err := u.request(ctx, http.MethodPut, nil)
	if err != nil {
		return err
	}
	resp, err := u.repo.Client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusCreated {
		return responseError(resp)
	}
	return nil
}

func (u *upload) request(ctx context.Context, method string, body io.Reader) (*http.Request, error) {
	req, err := newRequest(pushScope(ctx, u.repo), method, u.at.String(), body)
	// A body that is a stream cannot be sent twice; for the rest the client sees to it, as tokens may run out meanwhile.
	if err == nil && u.authorization != "" && body != nil {
		req.Header.Set("Authorization", u.authorization)
	}
	return req, err
}

// pushBlob sends a blob whose digest is known. open is called again for every try.
func (c *Client) pushBlob(ctx context.Context, repo *remote.Repository, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	return c.tryUpload(ctx, func() error {
		r, err := open()
		if err != nil {
			return &localError{err}
		}
		watch := &watchReader{r: r}
		err = repo.Blobs().Push(ctx, desc, watch)
		// A request that has failed may go on reading for a while.
		if readErr := watch.stop(); readErr != nil {
			err = &localError{readErr}
		}
		return errors.Join(err, r.Close())
	})
}

// watchReader remembers that reading failed, and reads no more once it is stopped.
type watchReader struct {
	r io.Reader

	mu      sync.Mutex
	stopped bool
	err     error
}

func (w *watchReader) stop() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	return w.err
}

func (w *watchReader) Read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return 0, errStopped
	}
	n, err := w.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}

// tryUpload tries again what a bad connection broke.
func (c *Client) tryUpload(ctx context.Context, do func() error) error {
	for try := 0; ; try++ {
		err := do()
		var local *localError
		if err == nil || ctx.Err() != nil || errors.As(err, &local) || try == maxTries-1 || !uploadAgain(err) {
			return err
		}
		if err := sleep(ctx, backoff(try)); err != nil {
			return err
		}
	}
}
