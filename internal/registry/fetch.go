package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// stallTime is how long a connection may bring less than minProgress bytes before another is tried: a blob may be slow, but
// it must go on.
const (
	stallTime   = 60 * time.Second
	minProgress = 1 << 10
)

// Of a span that breaks off again and again this many bytes are to arrive for each connection, the first of which are free.
const (
	freeConnects    = 32
	bytesPerConnect = 64 << 10
)

// span is a part of a blob: bytes from up to, not including, to.
type span struct{ from, to int64 }

// openSpan requests a part of a blob. A registry may send the whole blob instead: then got begins at 0.
func (r *Repository) openSpan(ctx context.Context, desc ocispec.Descriptor, s span) (body io.ReadCloser, got span, err error) {
	req, err := newRequest(blobContext(r.pullScope(ctx)), http.MethodGet, r.url()+"/blobs/"+desc.Digest.String(), nil)
	if err != nil {
		return nil, got, err
	}
	if s.from > 0 || s.to < desc.Size {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", s.from, s.to-1))
	}
	resp, err := r.remote.Client.Do(req)
	if err != nil {
		return nil, got, err
	}
	got, err = spanOf(resp, desc, s)
	if err != nil {
		return nil, got, errors.Join(err, resp.Body.Close())
	}
	return resp.Body, got, nil
}

// spanOf returns which part of the blob a response has.
func spanOf(resp *http.Response, desc ocispec.Descriptor, asked span) (span, error) {
	whole := span{0, desc.Size}
	switch resp.StatusCode {
	case http.StatusOK:
		if resp.ContentLength >= 0 && resp.ContentLength != desc.Size {
			return whole, &permanentError{fmt.Errorf("blob %s: the manifest says %d bytes, the registry %d", desc.Digest, desc.Size, resp.ContentLength)}
		}
		return whole, nil
	case http.StatusPartialContent:
		got := span{}
		var last, total int64
		_, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &got.from, &last, &total)
		got.to = last + 1
		if err != nil || got.from != asked.from || got.to > asked.to || got.to <= got.from || total != desc.Size {
			return got, &permanentError{fmt.Errorf("blob %s: bytes %d-%d of %d were asked for, the registry sent %q",
				desc.Digest, asked.from, asked.to-1, desc.Size, resp.Header.Get("Content-Range"))}
		}
		return got, nil
	case http.StatusNotFound:
		return whole, &permanentError{fmt.Errorf("blob %s: %w", desc.Digest, errdef.ErrNotFound)}
	}
	return whole, &permanentError{responseError(resp)}
}

// responseError is the error of a response that refuses, in the form of package oras.
func responseError(resp *http.Response) error {
	e := &errcode.ErrorResponse{Method: resp.Request.Method, URL: resp.Request.URL, StatusCode: resp.StatusCode}
	var body struct {
		Errors errcode.Errors `json:"errors"`
	}
	if decodeJSON(io.LimitReader(resp.Body, 64<<10), &body) == nil {
		e.Errors = body.Errors
	}
	return e
}

// spanReader reads a part of a blob. When a connection breaks, it resumes over another.
type spanReader struct {
	ctx   context.Context
	open  func(ctx context.Context, s span) (io.ReadCloser, span, error)
	span  // what is still to be read
	body  io.ReadCloser
	stop  context.CancelFunc // of the request
	stall *time.Timer
	came  int // bytes since stall was set
	tries int // since minProgress bytes last came

	connects int64         // so far
	quiet    time.Duration // 0: stallTime
	backoff  backoff
}

// progress puts off the end of a connection that brings something.
func (r *spanReader) progress(n int) {
	if r.came += n; r.came >= minProgress {
		r.came, r.tries = 0, 0
		r.stall.Reset(r.patience())
	}
}

func (r *spanReader) patience() time.Duration {
	if r.quiet > 0 {
		return r.quiet
	}
	return stallTime
}

func (r *spanReader) Read(p []byte) (int, error) {
	for {
		if r.from >= r.to {
			return 0, io.EOF
		}
		if r.body == nil {
			if err := r.connect(); err != nil {
				return 0, err
			}
		}
		n, err := r.body.Read(p[:min(int64(len(p)), r.to-r.from)])
		r.from += int64(n)
		if n > 0 {
			r.progress(n)
			return n, nil
		}
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		r.disconnect()
		if err := r.again(err); err != nil {
			return 0, err
		}
	}
}

// again waits before the next try, or gives up.
func (r *spanReader) again(err error) error {
	if cause := context.Cause(r.ctx); cause != nil {
		return cause
	}
	if r.tries++; r.tries >= maxTries {
		return fmt.Errorf("the connection broke %d times: %w", r.tries, err)
	}
	return sleep(r.ctx, r.backoff.wait(r.tries-1))
}

func (r *spanReader) connect() error {
	for {
		if r.connects++; r.connects > freeConnects+(r.to-r.from)/bytesPerConnect {
			return fmt.Errorf("the connection broke %d times, and each brought too little", r.connects-1)
		}
		ctx, cancel := context.WithCancel(r.ctx)
		body, got, err := r.open(ctx, r.span)
		if err != nil {
			cancel()
			return err // which has been tried again already
		}
		r.body, r.stop, r.stall = body, cancel, time.AfterFunc(r.patience(), cancel)
		r.came = 0
		if err = r.skip(r.from - got.from); err == nil {
			return nil
		}
		r.disconnect()
		if err := r.again(err); err != nil {
			return err
		}
	}
}

// skip discards bytes that were read before, from a registry that does not support ranges.
func (r *spanReader) skip(n int64) error {
	buf := make([]byte, 64<<10)
	for n > 0 {
		m, err := r.body.Read(buf[:min(n, int64(len(buf)))])
		n -= int64(m)
		if m > 0 {
			r.progress(m)
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (r *spanReader) disconnect() {
	if r.body != nil {
		r.stall.Stop()
		r.stop()
		_ = r.body.Close()
		r.body = nil
	}
}

func (r *spanReader) Close() error {
	r.disconnect()
	return nil
}

// OpenBlob reads a blob from an offset on. The content is not verified. Connections that break are replaced.
func (r *Repository) OpenBlob(ctx context.Context, desc ocispec.Descriptor, from int64) io.ReadCloser {
	open := func(ctx context.Context, s span) (io.ReadCloser, span, error) { return r.openSpan(ctx, desc, s) }
	whole := &spanReader{ctx: ctx, open: open, span: span{from, desc.Size}, backoff: r.client.backoff}
	if desc.Size-from < minRanges {
		return whole
	}
	return &rangesReader{whole: whole}
}
