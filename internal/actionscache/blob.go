package actionscache

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/objectstorage"
	"github.com/micabuild/mica/internal/registry"
)

// download reads the blob of an entry. A download that breaks off asks for another signed URL: they are valid for a short time.
func (c *Cache) download(ctx context.Context, d ocispec.Descriptor, e *entry) (io.ReadCloser, error) {
	return c.o.Objects.Open(ctx, registry.Object{
		Descriptor: d,
		Request: func(ctx context.Context, header http.Header) (*http.Request, error) {
			at := e
			if e == nil {
				var err error
				if at, err = c.findBlob(ctx, d); err != nil {
					return nil, err
				}
			}
			e = nil
			req, err := newRequest(ctx, http.MethodGet, at.url, nil)
			if err == nil {
				maps.Copy(req.Header, header)
			}
			return req, err
		},
		Refused: refusal,
	})
}

// upload writes the blob of a signed URL.
func (c *Cache) upload(ctx context.Context, at string, size int64, r io.Reader) error {
	u, err := url.Parse(at)
	if err != nil {
		return errors.New("the service returns an invalid URL")
	}
	return objectstorage.PutBlocks(ctx, c.sender, r, size, func(ctx context.Context, query url.Values, body []byte) error {
		return c.put(ctx, u, query, body)
	})
}

func (c *Cache) put(ctx context.Context, at *url.URL, query url.Values, body []byte) error {
	u := *at
	u.RawQuery = strings.TrimPrefix(u.RawQuery+"&"+query.Encode(), "&")
	resp, err := c.send(ctx, http.MethodPut, u.String(), body, nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
