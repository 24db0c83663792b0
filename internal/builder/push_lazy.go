package builder

import (
	"context"
	"io"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/transfer"
)

// elsewhere are the layers of a result that the store does not have, by their DiffIDs: blobs at registries and in other caches.
type elsewhere map[digest.Digest]transfer.Elsewhere

// locate says where the layers are that the store lacks of what was built, if all that is asked for is to push it, or nothing: then
// nothing need be downloaded but what the registry has not. It is nil, and the layers are to be fetched, in every other case.
func (b *Builder) locate(s *solver.Solver, base *baseImages, out *response, o *Options, others *remotecache.Cache) elsewhere {
	if others == nil || len(o.Outputs) == 0 {
		return nil
	}
	for _, e := range o.Outputs {
		if !needsNoLayers(&e) {
			return nil
		}
	}
	found := elsewhere{}
	for _, p := range out.platforms {
		for _, l := range s.Missing(p.result) {
			at, ok := ofCache(others, l.DiffID)
			if !ok && o.exportsCache() {
				return nil
			}
			if !ok {
				at, ok = base.elsewhere(b.Registry, l.DiffID)
			}
			if !ok || !compressed(at.Blob) {
				return nil
			}
			found[l.DiffID] = at
		}
	}
	return found
}

// needsNoLayers reports whether an output needs no layer to be in the store.
func needsNoLayers(e *buildspec.Output) bool {
	if e.Type == buildspec.OutputNone {
		return e.Lazy
	}
	return e.Type == buildspec.OutputImage && e.Push && e.Lazy && e.Form.Compression != compression.Estargz &&
		!e.Form.ForceCompression && !e.Form.RewriteTimestamp && !e.Upload.Force
}

func compressed(d ocispec.Descriptor) bool {
	return strings.HasSuffix(d.MediaType, "gzip") || strings.HasSuffix(d.MediaType, "zstd")
}

// exportsCache reports whether a cache is written beside the image: of that, layers come from the store or from caches.
func (o *Options) exportsCache() bool {
	for _, c := range o.CacheTo {
		if c.Type != buildspec.CacheInline {
			return true
		}
	}
	return false
}

// ofCache finds a layer in the caches that were read.
func ofCache(others *remotecache.Cache, id digest.Digest) (transfer.Elsewhere, bool) {
	var found transfer.Elsewhere
	for _, at := range others.Imported(id) {
		if found.Open == nil {
			found.Blob = at.Blob
			found.Open = func(ctx context.Context) (io.ReadCloser, error) { return at.From.Fetch(ctx, at.Blob) }
		}
		if r, ok := at.From.(*transfer.CacheRepository); ok && at.Blob.Digest == found.Blob.Digest {
			found.Repositories = append(found.Repositories, r.Name())
		}
	}
	return found, found.Open != nil
}

// elsewhere finds a layer of a base image that was looked up, but not pulled.
func (b *baseImages) elsewhere(c *registry.Client, id digest.Digest) (transfer.Elsewhere, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, lazy := range b.lazy {
		for i, have := range lazy.chain {
			if have != id {
				continue
			}
			name, blob := reference.TrimNamed(lazy.name).Name(), lazy.blobs[i]
			return transfer.Elsewhere{
				Blob: blob, Repositories: []string{name},
				Open: func(ctx context.Context) (io.ReadCloser, error) { return c.OpenBlob(ctx, name, blob) },
			}, true
		}
	}
	return transfer.Elsewhere{}, false
}
