package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
)

// objectLimits are those of object storage, to which small parts of objects are sent.
var objectLimits = limits{silent: time.Minute, body: 3 * time.Minute, upload: 2 * time.Minute}

// Objects is a client of services that keep blobs over HTTP, by the rules for blobs of registries: requests are sent again, downloads
// resume, hosts that are silent are given up, certs.d directories are heeded. Redirects are not followed, and errors have no URLs: they may
// be signed. It is safe for concurrent use.
type Objects struct {
	client  *http.Client
	agent   string
	backoff backoff
}

// Objects returns a client of other services.
func (c *Client) Objects() *Objects {
	conns := &objectTransports{transports{insecure: func(string) bool { return false }, limits: objectLimits, byHost: map[string]*http.Transport{}}}
	return &Objects{
		client: &http.Client{
			Transport:     &retrying{conns, c.backoff},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		agent: c.auth.Header.Get("User-Agent"), backoff: c.backoff,
	}
}

// objectTransports leave responses as they are.
type objectTransports struct{ transports }

func (t *objectTransports) RoundTrip(req *http.Request) (*http.Response, error) {
	host, err := t.of(req.Context(), req.URL.Host)
	if err != nil {
		return nil, err
	}
	return t.limits.send(host, req)
}

// Do sends a request. A body has to be one that http.NewRequest can get again.
func (o *Objects) Do(req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", o.agent)
	resp, err := o.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, err
	}
	return resp, nil
}

// Object is one to read.
type Object struct {
	Descriptor ocispec.Descriptor
	// Request returns a request of the whole object, for each connection that is needed. header is to be sent, and signed.
	Request func(ctx context.Context, header http.Header) (*http.Request, error)
	// Refused returns the error of a response that is not a success.
	Refused func(*http.Response) error
}

// Open reads an object, unverified. A download that breaks off resumes. The object is asked for now, so that errdef.ErrNotFound is returned
// if it does not exist.
func (o *Objects) Open(ctx context.Context, obj Object) (io.ReadCloser, error) {
	open := func(ctx context.Context, s span) (io.ReadCloser, span, error) { return o.openSpan(ctx, obj, s) }
	r := &spanReader{ctx: ctx, open: open, span: span{0, obj.Descriptor.Size}, backoff: o.backoff}
	if r.to == 0 {
		return r, nil
	}
	if err := r.connect(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (o *Objects) openSpan(ctx context.Context, obj Object, s span) (io.ReadCloser, span, error) {
	header := http.Header{}
	if s.from > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", s.from, s.to-1))
	}
	req, err := obj.Request(blobContext(ctx), header)
	if err != nil {
		return nil, s, err
	}
	resp, err := o.Do(req)
	if err != nil {
		return nil, s, err
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
		got, err := spanOf(resp, obj.Descriptor, s)
		if err != nil {
			return nil, got, errors.Join(err, resp.Body.Close())
		}
		return resp.Body, got, nil
	}
	defer func() { _ = resp.Body.Close() }()
	if err = obj.Refused(resp); resp.StatusCode == http.StatusNotFound && !errors.Is(err, errdef.ErrNotFound) {
		err = fmt.Errorf("%w: %w", errdef.ErrNotFound, err)
	}
	return nil, s, &permanentError{err}
}
