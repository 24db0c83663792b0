package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/ocilayout"
	"github.com/micabuild/mica/internal/recorder"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/transfer"
)

// exportOptions returns the options of an export without the function that writes layers.
func exportOptions(c *buildspec.Cache) remotecache.ExportOptions {
	o := remotecache.ExportOptions{Index: c.Index, DockerTypes: c.DockerTypes}
	if c.Max {
		o.Mode = remotecache.ModeMax
	}
	return o
}

// cacheRepository opens the repository of a cache at a registry.
func (b *Builder) cacheRepository(ctx context.Context, c *buildspec.Cache) (*transfer.CacheRepository, error) {
	name, err := reference.ParseNormalizedNamed(c.Ref)
	if err != nil {
		return nil, err
	}
	if c.Insecure {
		b.Registry.AllowInsecure(name)
	}
	o := transfer.PushOptions{Force: c.Force}
	o.Compression, o.Level = c.Compression, c.Level
	if o.Compression == compression.Estargz {
		o.Compression, o.Level, o.Force = compression.Gzip, 0, false // cacheWriter.estargz makes these blobs
	}
	return transfer.OpenCache(ctx, b.Registry, b.local(), name, o)
}

// localCachePrefix begins the IDs of a client's stores with local caches.
const localCachePrefix = "local:"

// defaultCacheTag is the name of a cache in a layout if none is given (client/solve.go, parseCacheOptions).
const defaultCacheTag = "latest"

// layoutOf is the location of a cache of type local.
func layoutOf(c *buildspec.Cache) *ocilayout.Location {
	return &ocilayout.Location{Kind: ocilayout.OCI, Path: c.Dir, Ref: cmp.Or(c.Digest, c.Tag, defaultCacheTag)}
}

// writeCaches exports the results that keys identify to each cache but that of type inline, which the image contains.
func (x *cacheWriter) writeCaches(ctx context.Context, o *Options, keys []remotecache.Key) error {
	for _, c := range o.CacheTo {
		if c.Type == buildspec.CacheInline || c.Steps || !o.hasCache(&c) {
			continue
		}
		if x.note == nil {
			x.note = x.rec.Note()
		}
		p := startStep(o.Events, "exporting cache to "+exportedTo[c.Type])
		err := x.write(ctx, &c, keys)
		p.end(err)
		if err != nil && !c.IgnoreError {
			return fmt.Errorf("export build cache: %w", err)
		}
	}
	return nil
}

// exportedTo is what BuildKit calls the types of caches.
var exportedTo = map[string]string{
	buildspec.CacheRegistry: "registry", buildspec.CacheLocal: "client directory", buildspec.CacheActions: "GitHub Actions Cache",
	buildspec.CacheS3: "Amazon S3", buildspec.CacheAzure: "Azure Blob Storage",
}

// cacheWriter exports the results of a build to remote caches.
type cacheWriter struct {
	b     *Builder
	cache *remotecache.Cache
	sums  *remotecache.Sums
	rec   *recorder.Recorder
	base  *baseImages
	steps *stepCaches
	note  []byte // what the caches tell of the build

	at map[writtenTo]*transfer.CacheRepository // opened by repository

	client   Client              // nil for the host
	manifest *ocispec.Descriptor // of the cache that the client has got, which adds it to the list of its layout
}

// writtenTo is a repository and the form of the layers in it.
type writtenTo struct {
	ref         string
	compression compression.Algorithm
	level       int
	force       bool
}

// repository opens the repository of a cache, once: what is written to it by several ways is written one after the other.
func (x *cacheWriter) repository(ctx context.Context, c *buildspec.Cache) (*transfer.CacheRepository, error) {
	key := writtenTo{c.Ref, c.Compression, c.Level, c.Force}
	if at := x.at[key]; at != nil {
		return at, nil
	}
	at, err := x.b.cacheRepository(ctx, c)
	if err == nil {
		if x.at == nil {
			x.at = map[writtenTo]*transfer.CacheRepository{}
		}
		x.at[key] = at
	}
	return at, err
}

// write exports to one cache.
func (x *cacheWriter) write(ctx context.Context, c *buildspec.Cache, keys []remotecache.Key) error {
	o := exportOptions(c)
	o.Note = x.note
	switch c.Type {
	case buildspec.CacheActions:
		return x.writeActions(ctx, c, o, keys)
	case buildspec.CacheS3, buildspec.CacheAzure:
		return x.writeObjects(ctx, c, o, keys)
	case buildspec.CacheLocal:
		return x.writeLayout(ctx, c, o, keys)
	}
	at, err := x.b.cacheRepository(ctx, c)
	if err != nil {
		return err
	}
	o.Blob = func(ctx context.Context, l remotecache.Layer) (ocispec.Descriptor, error) {
		return x.toRegistry(ctx, at, c, l.DiffID)
	}
	got, err := x.cache.Export(ctx, o, keys...)
	if err != nil || got == nil {
		return err
	}
	if err := at.Blob(ctx, got.ConfigDescriptor, got.Config); err != nil {
		return err
	}
	return at.Put(ctx, got.ManifestDescriptor, got.Manifest)
}

// writeLayout writes the cache to a layout in a directory.
func (x *cacheWriter) writeLayout(ctx context.Context, c *buildspec.Cache, o remotecache.ExportOptions, keys []remotecache.Key) (err error) {
	if x.client != nil {
		return x.writeStore(ctx, c, o, keys)
	}
	dst, err := layoutOf(c).Create(ctx, ocilayout.CreateOptions{Scratch: true, Shared: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	manifest, err := x.push(ctx, dst, c, o, keys)
	if err != nil || manifest == nil {
		return err
	}
	return dst.Commit(ctx, *manifest)
}

// writeStore writes the cache to a store of the client.
func (x *cacheWriter) writeStore(ctx context.Context, c *buildspec.Cache, o remotecache.ExportOptions, keys []remotecache.Key) error {
	dst, err := x.client.Store(ctx, "", localCachePrefix+c.Dir)
	if err != nil {
		return err
	}
	manifest, err := x.push(ctx, dst, c, o, keys)
	if manifest != nil {
		x.manifest = manifest
	}
	return err
}

// push writes the cache to a layout or a store, and returns its manifest; nil if there is nothing to write.
func (x *cacheWriter) push(
	ctx context.Context, dst content.Storage, c *buildspec.Cache, o remotecache.ExportOptions, keys []remotecache.Key,
) (*ocispec.Descriptor, error) {
	got, err := x.exported(ctx, dst, c, o, keys)
	if err != nil || got == nil {
		return nil, err
	}
	return &got.ManifestDescriptor, got.Push(ctx, dst)
}

// exported writes the layers of the cache to a storage; nil if there is nothing to write.
func (x *cacheWriter) exported(
	ctx context.Context, dst content.Storage, c *buildspec.Cache, o remotecache.ExportOptions, keys []remotecache.Key,
) (*remotecache.Exported, error) {
	o.Blob = func(ctx context.Context, l remotecache.Layer) (ocispec.Descriptor, error) {
		return x.toLayout(ctx, dst, c, l.DiffID)
	}
	return x.cache.Export(ctx, o, keys...)
}

// toRegistry writes a layer to a repository, and returns its blob.
func (x *cacheWriter) toRegistry(ctx context.Context, at *transfer.CacheRepository, c *buildspec.Cache, id digest.Digest) (ocispec.Descriptor, error) {
	desc, ok, err := x.copyImported(ctx, id, func(b *blobElsewhere) error { return at.Copy(ctx, b.desc, b.repositories, b.open) })
	if ok || err != nil {
		return desc, err
	}
	if c.Compression == compression.Estargz {
		other, notes, err := x.estargz(ctx, c, id)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		desc, err := at.Layer(ctx, other)
		desc.Annotations = notes
		return desc, err
	}
	return at.Layer(ctx, id)
}

// estargz converts a layer to one that eStargz can represent, and returns it with the annotations of its blob. Without
// force-compression, it keeps a layer that has a compressed blob already.
func (x *cacheWriter) estargz(ctx context.Context, c *buildspec.Cache, id digest.Digest) (digest.Digest, map[string]string, error) {
	got, err := x.b.Layers.Get(id)
	if err != nil {
		return "", nil, err
	}
	if compressedBlob(got) != nil && !c.Force {
		return id, nil, nil
	}
	e, err := x.b.Layers.Estargz(ctx, id, c.Level)
	if err != nil {
		return "", nil, err
	}
	notes := maps.Clone(e.Blob.Annotations)
	notes[remotecache.AnnotationDiffID] = e.DiffID.String()
	return e.DiffID, notes, nil
}

// compressedBlob returns the compressed blob that the store has of a layer, nil for none.
func compressedBlob(l *layer.Layer) *ocispec.Descriptor {
	for i := range l.Blobs {
		if l.Blobs[i].Digest != l.DiffID {
			return &l.Blobs[i]
		}
	}
	return nil
}

// toLayout writes a layer to a layout, and returns its blob.
func (x *cacheWriter) toLayout(ctx context.Context, dst content.Storage, c *buildspec.Cache, id digest.Digest) (ocispec.Descriptor, error) {
	push := func(d ocispec.Descriptor, open opener) error {
		if exists, err := dst.Exists(ctx, d); err != nil || exists {
			return err
		}
		r, err := open()
		if err != nil {
			return err
		}
		return errors.Join(dst.Push(ctx, d, r), r.Close())
	}
	desc, ok, err := x.copyImported(ctx, id, func(b *blobElsewhere) error { return push(b.desc, b.open) })
	if ok || err != nil {
		return desc, err
	}
	desc, open, err := x.blob(ctx, c, id)
	if err != nil {
		return desc, err
	}
	return desc, push(desc, open)
}

// blob returns the blob that represents a layer in a layout, in the compression of the cache, and opens it.
func (x *cacheWriter) blob(ctx context.Context, c *buildspec.Cache, id digest.Digest) (ocispec.Descriptor, opener, error) {
	var notes map[string]string
	if c.Compression == compression.Estargz {
		var err error
		if id, notes, err = x.estargz(ctx, c, id); err != nil {
			return ocispec.Descriptor{}, nil, err
		}
	}
	got, err := x.b.Layers.Get(id)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: id, Size: got.TarSize}
	have := compressedBlob(got)
	switch {
	case have != nil && (notes != nil || !c.Force):
		desc = *have
		desc.Annotations = notes
	case c.Compression != compression.None:
		if desc, err = x.b.Layers.Compress(ctx, id, c.Compression, c.Level); err != nil {
			return desc, nil, err
		}
	}
	return desc, func() (io.ReadCloser, error) { return x.b.Layers.OpenBlob(ctx, id, desc) }, nil
}
