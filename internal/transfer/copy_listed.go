package transfer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/registry"
)

// listed has the descriptors of unknown types in the indexes of a copy. Most registries keep the entries of an index as
// manifests, whatever their type. Some keep them as blobs.
type listed struct {
	mu    sync.Mutex
	types map[digest.Digest]bool
	depth map[digest.Digest]int
}

func newListed() *listed {
	return &listed{types: map[digest.Digest]bool{}, depth: map[digest.Digest]int{}}
}

func (l *listed) has(d ocispec.Descriptor) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.types[d.Digest]
}

// isBlob records that the source keeps an entry as a blob.
func (l *listed) isBlob(d ocispec.Descriptor) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.types, d.Digest)
}

// successors returns the descriptors that a manifest or index needs. The depth of nested indexes is limited to oci.MaxDepth.
func (l *listed) successors(ctx context.Context, from content.Fetcher, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	list, err := content.Successors(ctx, from, d)
	if err != nil || !oci.IsIndex(d.MediaType) {
		return list, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	depth := l.depth[d.Digest]
	if depth > oci.MaxDepth {
		return nil, fmt.Errorf("index %s is nested too deeply: %d levels are followed", d.Digest, oci.MaxDepth)
	}
	for _, e := range list {
		switch {
		case oci.IsIndex(e.MediaType):
			l.depth[e.Digest] = max(l.depth[e.Digest], depth+1)
		case !oci.IsManifestOrIndex(e.MediaType) && !oci.IsLayer(e.MediaType): // indexes of build caches list layers
			l.types[e.Digest] = true
		}
	}
	return list, nil
}

// pushListed pushes an entry of an index as a manifest or, if the registry refuses manifests of its type, as a blob.
func (d *repositoryDestination) pushListed(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	raw, err := content.ReadAll(r, desc)
	if err != nil {
		return err
	}
	if err := d.repo.PutAny(ctx, &registry.Manifest{Descriptor: desc, Raw: raw}, desc.Digest.String()); err == nil || ctx.Err() != nil {
		return err
	}
	return d.repo.PushBlob(ctx, desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil })
}
