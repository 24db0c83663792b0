package builder

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/transfer"
)

// elsewhere has the blobs, at registries and in remote caches, of layers that the store does not have, by their DiffIDs.
type elsewhere map[digest.Digest]transfer.Elsewhere

// locate finds the layers of the result that the store does not have, if every output is a push or nothing. A push then copies
// blobs that the registry lacks from where they are, and downloads nothing else. In all other cases locate returns nil, and the
// caller fetches the layers.
func (b *Builder) locate(ctx context.Context, s *solver.Solver, base *baseImages, out *response, o *Options, remote *remotecache.Cache) elsewhere {
	if remote == nil || len(o.Outputs) == 0 {
		return nil
	}
	for _, e := range o.Outputs {
		if !needsNoLayers(&e) {
			return nil
		}
	}
	found := elsewhere{}
	var cached []remotecache.ImportedLayer
	for _, p := range out.platforms {
		for _, l := range s.Missing(p.result) {
			at, ok := inCache(remote, l.DiffID)
			if ok {
				cached = append(cached, remote.Imported(l.DiffID)[0])
			}
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
	if (o.pushes() || o.exportsCache()) && !exist(ctx, cached) {
		return nil
	}
	return found
}

// blobChecker is a cache that can be asked for a blob.
type blobChecker interface {
	Exists(ctx context.Context, d ocispec.Descriptor) (bool, error)
}

// exist reports whether caches still have the blobs that they name.
func exist(ctx context.Context, blobs []remotecache.ImportedLayer) bool {
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(8)
	for _, at := range blobs {
		if from, ok := at.From.(blobChecker); ok {
			eg.Go(func() error {
				there, err := from.Exists(ctx, at.Blob)
				if err == nil && !there {
					err = errdef.ErrNotFound
				}
				return err
			})
		}
	}
	return eg.Wait() == nil
}

// needsNoLayers reports whether an output can be written without the layers in the store.
func needsNoLayers(e *buildspec.Output) bool {
	if e.Type == buildspec.OutputNone {
		return e.Lazy
	}
	return e.Type == buildspec.OutputImage && e.Push && e.Lazy && e.Form.Compression != compression.Estargz &&
		!e.Form.ForceCompression && !e.Form.RewriteTimestamp && !e.Upload.Force
}

// compressed reports whether a blob of a layer is compressed: a push leaves it as it is.
func compressed(d ocispec.Descriptor) bool {
	return strings.HasSuffix(d.MediaType, "gzip") || strings.HasSuffix(d.MediaType, "zstd")
}

// exportsCache reports whether the build exports a cache apart from the image, when it has ended. An export takes layers from the store and from remote
// caches, not from the registries of base images.
func (o *Options) exportsCache() bool {
	for _, c := range o.CacheTo {
		if c.Type != buildspec.CacheInline && !c.Steps {
			return true
		}
	}
	return false
}

// pushes reports whether an output is a push.
func (o *Options) pushes() bool {
	return slices.ContainsFunc(o.Outputs, func(e buildspec.Output) bool { return e.Push })
}

// inCache finds a layer in the imported caches.
func inCache(remote *remotecache.Cache, id digest.Digest) (transfer.Elsewhere, bool) {
	var found transfer.Elsewhere
	for _, at := range remote.Imported(id) {
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

// elsewhere finds a layer of a base image that was inspected but not pulled.
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
