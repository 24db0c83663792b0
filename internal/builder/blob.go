package builder

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/sources"
)

// blob opens a blob of a registry, or of a store of the client.
func (ls *layouts) blob(ctx context.Context, ref sources.BlobRef) (io.ReadCloser, error) {
	if ref.Store == "" {
		named, err := reference.ParseNormalizedNamed(ref.Name)
		if err != nil {
			return nil, err
		}
		return ls.b.Registry.OpenDigest(ctx, named, ref.Digest)
	}
	if ls.client == nil {
		return nil, errors.New("stores of blobs are those of clients of mica serve")
	}
	store, err := ls.client.Store(ctx, ref.Session, "oci:"+ref.Store)
	if err != nil {
		return nil, fmt.Errorf("layout %s: %w", ref.Store, err)
	}
	return store.Fetch(ctx, ocispec.Descriptor{Digest: ref.Digest})
}
