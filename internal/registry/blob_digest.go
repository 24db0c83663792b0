package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// OpenDigest opens a blob of which only the digest is known, at the first mirror that has it or at the registry itself. The content is not
// verified.
func (c *Client) OpenDigest(ctx context.Context, name reference.Named, d digest.Digest) (io.ReadCloser, error) {
	var found *Repository
	desc := ocispec.Descriptor{Digest: d}
	err := c.Try(ctx, name, func(ctx context.Context, r *Repository) (err error) {
		found = r
		desc.Size, err = r.blobSize(ctx, d)
		return err
	})
	if err != nil {
		return nil, err
	}
	return found.OpenBlob(ctx, desc, 0), nil
}

// blobSize asks for the first byte of a blob, whose response says the size of all. HEAD is not known by all registries, nor by storage that
// signs URLs for GET.
func (r *Repository) blobSize(ctx context.Context, d digest.Digest) (size int64, err error) {
	if err := d.Validate(); err != nil {
		return 0, err
	}
	req, err := newRequest(blobContext(r.pullScope(ctx)), http.MethodGet, r.url()+"/blobs/"+d.String(), nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Range", "bytes=0-0")
	resp, err := r.remote.Client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	switch resp.StatusCode {
	case http.StatusOK:
		size = resp.ContentLength
	case http.StatusPartialContent:
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes 0-0/%d", &size); err != nil {
			size = -1
		}
	case http.StatusNotFound:
		return 0, fmt.Errorf("blob %s is not in the repository", d)
	default:
		return 0, responseError(resp)
	}
	if size < 0 {
		return 0, fmt.Errorf("blob %s: the registry does not say its size", d)
	}
	return size, nil
}
