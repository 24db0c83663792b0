package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// limits bound how long a registry may take.
type limits struct {
	// silent is how long it may take to begin a response.
	silent time.Duration
	// body is how long a response other than a blob may take to arrive.
	body time.Duration
	// upload is how long it may read nothing of an upload, or not respond at the end of it: large blobs are assembled and
	// hashed first.
	upload time.Duration
}

var defaultLimits = limits{silent: time.Minute, body: 3 * time.Minute, upload: 10 * time.Minute}

// slowError is the error of a registry that took too long. Another try is worth it only if there was no response at all.
type slowError struct {
	what string
	time time.Duration
}

func (e *slowError) Error() string { return fmt.Sprintf("%s for %s", e.what, e.time) }

// Is makes a response that did not end in time an errTooSlow.
func (e *slowError) Is(target error) bool { return target == errTooSlow && e.what == tooSlow }

const (
	noResponse = "no response"
	tooSlow    = "the response was not complete after waiting"
)

type blobKey struct{}

// blobContext is the context of requests for a blob. Its response may take as long as bytes arrive: spanReader watches that.
func blobContext(ctx context.Context) context.Context {
	return context.WithValue(ctx, blobKey{}, true)
}

// send sends a request, and gives up on a registry that is silent or too slow.
func (l limits) send(to http.RoundTripper, req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	first := l.silent
	upload := req.Method == http.MethodPut || req.Method == http.MethodPatch
	if upload {
		first = l.upload
	}
	timer := time.AfterFunc(first, func() { cancel(&slowError{noResponse, first}) })
	sent := req.WithContext(ctx)
	if upload && req.Body != nil && req.Body != http.NoBody {
		sent.Body = &touched{req.Body, func() { timer.Reset(first) }}
	}
	resp, err := to.RoundTrip(sent)
	timer.Stop()
	if err != nil {
		err = slow(ctx, req.Context(), err)
		cancel(nil)
		return nil, err
	}
	body := &timedBody{ReadCloser: resp.Body, ctx: ctx, outer: req.Context(), cancel: cancel}
	if req.Context().Value(blobKey{}) == nil {
		body.timer = time.AfterFunc(l.body, func() { cancel(&slowError{tooSlow, l.body}) })
	}
	resp.Body = body
	return resp, nil
}

// slow is err, or that it took too long if that is why.
func slow(ctx, outer context.Context, err error) error {
	var reason *slowError
	if outer.Err() == nil && errors.As(context.Cause(ctx), &reason) {
		return reason
	}
	return err
}

// touched calls touch for each read.
type touched struct {
	io.ReadCloser
	touch func()
}

func (t *touched) Read(p []byte) (int, error) {
	t.touch()
	return t.ReadCloser.Read(p)
}

// timedBody frees the request's context with the response's body.
type timedBody struct {
	io.ReadCloser
	ctx, outer context.Context
	cancel     context.CancelCauseFunc
	timer      *time.Timer
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = slow(b.ctx, b.outer, err)
	}
	return n, err
}

func (b *timedBody) Close() error {
	if b.timer != nil {
		b.timer.Stop()
	}
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}
