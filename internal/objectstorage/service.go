package objectstorage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/registry"
)

// Call is a request of a service. Name is that of an object, "" for its bucket or container.
type Call struct {
	Method, Name string
	Query        url.Values
	Header       http.Header
	Body         []byte
}

// Service is a bucket or container of a service. It is safe for concurrent use.
type Service struct {
	// Objects sends the requests.
	Objects *registry.Objects
	// Sign makes the request of a call with its credentials.
	Sign func(ctx context.Context, c Call) (*http.Request, error)
	// Refused returns the error of a response that refuses a request.
	Refused func(*http.Response) error
}

// Send sends a request. The caller closes the body of the response.
func (s *Service) Send(ctx context.Context, c Call) (*http.Response, error) {
	req, err := s.Sign(ctx, c)
	if err != nil {
		return nil, err
	}
	resp, err := s.Objects.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < http.StatusMultipleChoices {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	return nil, s.Refused(resp)
}

// maxManifest limits the config of a cache, in bytes.
const maxManifest = 64 << 20

// Manifest reads the config of a cache. The error is errdef.ErrNotFound if it does not exist.
func (s *Service) Manifest(ctx context.Context, name string) ([]byte, error) {
	resp, err := s.Send(ctx, Call{Method: http.MethodGet, Name: name})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(raw) > maxManifest {
		return nil, fmt.Errorf("%s: it is larger than %d bytes", name, maxManifest)
	}
	return raw, nil
}

// Head returns the header of an object, and whether the object has a size: another one is what an upload has left that was interrupted elsewhere.
// The header is nil if the object does not exist.
func (s *Service) Head(ctx context.Context, name string, size int64) (header http.Header, ok bool, err error) {
	resp, err := s.Send(ctx, Call{Method: http.MethodHead, Name: name})
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", name, err)
	}
	_ = resp.Body.Close()
	return resp.Header, resp.ContentLength == size, nil
}

// Open reads a blob, unverified.
func (s *Service) Open(ctx context.Context, d ocispec.Descriptor, name string) (io.ReadCloser, error) {
	if err := oci.CheckDescriptor(d); err != nil {
		return nil, err
	}
	r, err := s.Objects.Open(ctx, registry.Object{
		Descriptor: d, Refused: s.Refused,
		Request: func(ctx context.Context, header http.Header) (*http.Request, error) {
			return s.Sign(ctx, Call{Method: http.MethodGet, Name: name, Header: header})
		},
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}
