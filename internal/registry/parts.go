package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// ErrNoRanges is the error of a registry that does not send a part of a blob.
var ErrNoRanges = errors.New("the registry does not send parts of blobs")

// OpenRange reads the bytes of a blob from one position up to, not including, another. It fails with ErrNoRanges where the registry would
// send the whole blob. The content is not verified. Connections that break are replaced.
func (r *Repository) OpenRange(ctx context.Context, desc ocispec.Descriptor, from, to int64) (io.ReadCloser, error) {
	if from < 0 || from >= to || to > desc.Size {
		return nil, fmt.Errorf("blob %s: there are no bytes %d-%d of %d", desc.Digest, from, to-1, desc.Size)
	}
	open := func(ctx context.Context, s span) (io.ReadCloser, span, error) {
		body, got, err := r.openSpan(ctx, desc, s)
		var refused *errcode.ErrorResponse
		switch {
		case errors.As(err, &refused) && refused.StatusCode == http.StatusRequestedRangeNotSatisfiable:
			return nil, got, fmt.Errorf("blob %s: %w", desc.Digest, ErrNoRanges)
		case err == nil && (got.from < s.from || got.to > s.to):
			return nil, got, errors.Join(fmt.Errorf("blob %s: %w", desc.Digest, ErrNoRanges), body.Close())
		}
		return body, got, err
	}
	s := &spanReader{ctx: ctx, open: open, span: span{from, to}, backoff: r.client.backoff}
	return s, s.connect()
}
