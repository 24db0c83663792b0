package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// PushBlob sends a blob whose digest is known. open is called again for every try.
func (r *Repository) PushBlob(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	return r.client.tryUpload(ctx, func() error {
		u, _, err := r.startUpload(ctx, "")
		if err != nil {
			return err
		}
		return u.blob(ctx, desc, open)
	})
}

// blob sends a blob to where the registry wants it.
func (u *upload) blob(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	for move := 0; ; move++ {
		err := u.blobOnce(ctx, desc, open)
		var moved *movedError
		if !errors.As(err, &moved) || move == maxMoves {
			return err
		}
	}
}

func (u *upload) blobOnce(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	r, err := open()
	if err != nil {
		return &localError{err}
	}
	watch := &watchReader{r: r}
	var body io.Reader = watch
	if desc.Size == 0 {
		body = http.NoBody
	}
	err = u.put(ctx, desc.Digest, body, desc.Size)
	// A request that has failed may go on reading for a while.
	if readErr := watch.stop(); readErr != nil {
		err = &localError{readErr}
	}
	return errors.Join(err, r.Close())
}

// MountBlob asks the registry to take a blob from another of its repositories. If the registry starts an upload instead,
// open is called for the content.
func (r *Repository) MountBlob(ctx context.Context, d ocispec.Descriptor, from string, open func() (io.ReadCloser, error)) error {
	other := r.remote.Reference
	other.Repository = from
	ctx = auth.AppendRepositoryScope(ctx, other, auth.ActionPull)
	u, done, err := r.startUpload(ctx, "?mount="+url.QueryEscape(d.Digest.String())+"&from="+url.QueryEscape(from))
	if err != nil || done {
		return err
	}
	return u.blob(ctx, d, open)
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
		if err := sleep(ctx, c.backoff.wait(try)); err != nil {
			return err
		}
	}
}
