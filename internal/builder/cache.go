package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/transfer"
)

// The places of a build cache, as `--cache-to type=…` names them.
const (
	CacheRegistry = "registry"
	CacheLocal    = "local"
	CacheInline   = "inline"
)

// Cache is where a build cache is read from or written to, with the attributes that BuildKit has
// (docs.docker.com/build/cache/backends).
type Cache struct {
	Type  string
	Attrs map[string]string
}

// cacheAttributes are what each place understands.
var cacheAttributes = map[string]struct{ from, to []string }{
	CacheRegistry: {
		[]string{"ref", "registry.insecure"},
		[]string{"ref", "mode", "compression", "compression-level", "force-compression", "oci-mediatypes", "image-manifest", "ignore-error", "registry.insecure"},
	},
	CacheLocal: {
		[]string{"src", "digest", "tag"},
		[]string{"dest", "mode", "tag", "compression", "compression-level", "force-compression", "oci-mediatypes", "image-manifest", "ignore-error"},
	},
	CacheInline: {nil, []string{"mode"}},
}

// Check refuses a cache that cannot be read, or with to not be written.
func (c *Cache) Check(to bool) error {
	known, ok := cacheAttributes[c.Type]
	names, needs := known.from, map[string]string{CacheRegistry: "ref", CacheLocal: "src"}[c.Type]
	if to {
		names = known.to
		if c.Type == CacheLocal {
			needs = "dest"
		}
	}
	switch {
	case !ok || !to && c.Type == CacheInline:
		return fmt.Errorf("unknown cache type %q: use registry or local, or to write inline", c.Type)
	case needs != "" && c.Attrs[needs] == "":
		return fmt.Errorf("cache type %s needs %s", c.Type, needs)
	}
	for k, v := range c.Attrs {
		if !slices.Contains(names, k) {
			return fmt.Errorf("cache type %s has no attribute %q", c.Type, k)
		}
		switch k {
		case "mode":
			if v != "min" && v != "max" {
				return fmt.Errorf("invalid cache mode %q: use min or max", v)
			}
		case "force-compression", "oci-mediatypes", "image-manifest", "ignore-error", "registry.insecure":
			if _, err := strconv.ParseBool(v); err != nil {
				return fmt.Errorf("cache attribute %s: %q is neither true nor false", k, v)
			}
		case "compression-level":
			if _, err := strconv.Atoi(v); err != nil {
				return fmt.Errorf("cache attribute %s: %q is no number", k, v)
			}
		}
	}
	if ref := c.Attrs["ref"]; ref != "" {
		if _, err := reference.ParseNormalizedNamed(ref); err != nil {
			return fmt.Errorf("invalid cache reference %q: %w", ref, err)
		}
	}
	if c.flag("image-manifest", false) && !c.flag("oci-mediatypes", true) {
		return errors.New("image-manifest=true conflicts with oci-mediatypes=false")
	}
	a, level := c.compression()
	if a == compression.Estargz && !c.flag("oci-mediatypes", true) {
		return errors.New("compression=estargz conflicts with oci-mediatypes=false")
	}
	return compression.CheckLevel(a, level)
}

func (c *Cache) flag(name string, unset bool) bool {
	if b, err := strconv.ParseBool(c.Attrs[name]); err == nil {
		return b
	}
	return unset
}

func (c *Cache) compression() (compression.Algorithm, int) {
	level, _ := strconv.Atoi(c.Attrs["compression-level"])
	switch a := c.Attrs["compression"]; a {
	case "":
		return compression.Gzip, level
	case "uncompressed":
		return compression.None, level
	default:
		return compression.Algorithm(a), level
	}
}

func (c *Cache) exportOptions() remotecache.ExportOptions {
	o := remotecache.ExportOptions{Index: !c.flag("image-manifest", true), DockerTypes: !c.flag("oci-mediatypes", true)}
	if c.Attrs["mode"] == "max" {
		o.Mode = remotecache.ModeMax
	}
	return o
}

// repository opens the registry's repository that the cache is in.
func (b *Builder) cacheRepository(ctx context.Context, c *Cache) (*transfer.CacheRepository, error) {
	name, err := reference.ParseNormalizedNamed(c.Attrs["ref"])
	if err != nil {
		return nil, err
	}
	if c.flag("registry.insecure", false) {
		b.Registry.AllowInsecure(name)
	}
	o := transfer.PushOptions{Force: c.flag("force-compression", false)}
	o.Compression, o.Level = c.compression()
	if o.Compression == compression.Estargz {
		o.Compression, o.Level, o.Force = compression.Gzip, 0, false // what is sent is packed so before
	}
	return transfer.OpenCache(ctx, b.Registry, b.local(), name, o)
}

// openCaches reads the caches to import. One that is not there, or cannot be read, is no reason to fail: it is shown.
// It returns nil where no cache of others is read or written.
func (b *Builder) openCaches(ctx context.Context, o *Options) (*remotecache.Cache, *remotecache.Sums) {
	if len(o.CacheFrom) == 0 && len(o.CacheTo) == 0 {
		return nil, nil
	}
	var imports []*remotecache.Import
	for _, c := range o.CacheFrom {
		name := c.Attrs["ref"]
		if c.Type == CacheLocal {
			name = "local cache " + c.Attrs["src"]
		}
		p := startStep(o.Events, "importing cache manifest from "+name)
		got, err := b.readCache(ctx, &c)
		p.end(err)
		imports = append(imports, got...)
	}
	sums := remotecache.OpenSums(b.Store.Path("cache", "buildkit-sums"))
	return remotecache.New(imports, sums), sums
}

func (b *Builder) readCache(ctx context.Context, c *Cache) ([]*remotecache.Import, error) {
	if c.Type == CacheRegistry {
		at, err := b.cacheRepository(ctx, c)
		if err != nil {
			return nil, err
		}
		root, err := at.Root(ctx)
		if err != nil {
			return nil, err
		}
		return remotecache.Read(ctx, at, root)
	}
	folder := remotecache.NewFolder(c.Attrs["src"])
	tag := c.Attrs["tag"]
	if tag == "" {
		tag = remotecache.DefaultTag
	}
	if d := c.Attrs["digest"]; d != "" {
		tag = d
	}
	root, err := folder.Root(tag)
	if err != nil {
		return nil, err
	}
	return remotecache.Read(ctx, folder, root)
}

// writeCaches exports the cache of what was built.
func (x *cacheWriter) writeCaches(ctx context.Context, o *Options, keys []remotecache.Key) error {
	for _, c := range o.CacheTo {
		if c.Type == CacheInline {
			continue
		}
		p := startStep(o.Events, "exporting cache to "+map[string]string{CacheRegistry: "registry", CacheLocal: "client directory"}[c.Type])
		err := x.write(ctx, &c, keys)
		p.end(err)
		if err != nil && !c.flag("ignore-error", false) {
			return fmt.Errorf("export build cache: %w", err)
		}
	}
	return nil
}

// cacheWriter writes what one build has of a cache.
type cacheWriter struct {
	b     *Builder
	cache *remotecache.Cache
}

func (x *cacheWriter) write(ctx context.Context, c *Cache, keys []remotecache.Key) error {
	o := c.exportOptions()
	if c.Type == CacheLocal {
		folder := remotecache.NewFolder(c.Attrs["dest"])
		o.Blob = func(ctx context.Context, l remotecache.Layer) (ocispec.Descriptor, error) {
			return x.toFolder(ctx, folder, c, l.DiffID)
		}
		got, err := x.cache.Export(ctx, o, keys...)
		if err != nil || got == nil {
			return err
		}
		tag := c.Attrs["tag"]
		if tag == "" {
			tag = remotecache.DefaultTag
		}
		return folder.Put(got, tag)
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
	return at.Put(ctx, got.ConfigDescriptor, got.ManifestDescriptor, got.Config, got.Manifest)
}

// absent is where a layer may be had that the store does not have: a result of others that nobody needed.
func (x *cacheWriter) absent(id digest.Digest) (*remotecache.RemoteLayer, bool) {
	if got, err := x.b.Layers.Get(id); err == nil && got.Present() {
		return nil, false
	}
	for _, at := range x.cache.Remote(id) {
		return &at, true
	}
	return nil, false
}

func (x *cacheWriter) toRegistry(ctx context.Context, at *transfer.CacheRepository, c *Cache, id digest.Digest) (ocispec.Descriptor, error) {
	if from, ok := x.absent(id); ok {
		return from.Blob, at.Copy(ctx, from.Blob, func() (io.ReadCloser, error) { return from.From.Open(ctx, from.Blob) })
	}
	if a, level := c.compression(); a == compression.Estargz {
		other, notes, err := x.estargz(ctx, c, id, level)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		desc, err := at.Layer(ctx, other)
		desc.Annotations = notes
		return desc, err
	}
	return at.Layer(ctx, id)
}

// estargz makes of a layer one that is packed so, unless it is packed otherwise already and that is not forced, and returns
// it with the annotations of its blob.
func (x *cacheWriter) estargz(ctx context.Context, c *Cache, id digest.Digest, level int) (digest.Digest, map[string]string, error) {
	got, err := x.b.Layers.Get(id)
	if err != nil {
		return "", nil, err
	}
	if packed(got) != nil && !c.flag("force-compression", false) {
		return id, nil, nil
	}
	e, err := x.b.Layers.Estargz(ctx, id, level)
	if err != nil {
		return "", nil, err
	}
	notes := maps.Clone(e.Blob.Annotations)
	notes[remotecache.AnnotationDiffID] = e.DiffID.String()
	return e.DiffID, notes, nil
}

// packed is the compressed blob that a layer came as, nil for none.
func packed(l *layer.Layer) *ocispec.Descriptor {
	for i := range l.Blobs {
		if l.Blobs[i].Digest != l.DiffID {
			return &l.Blobs[i]
		}
	}
	return nil
}

func (x *cacheWriter) toFolder(ctx context.Context, folder *remotecache.Folder, c *Cache, id digest.Digest) (ocispec.Descriptor, error) {
	desc, open, err := x.pack(ctx, c, id)
	if err != nil || folder.Has(desc) {
		return desc, err
	}
	got, err := folder.Write(func(w io.Writer) (err error) {
		r, err := open()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.Close()) }()
		_, err = io.Copy(w, r)
		return err
	})
	if err == nil && got.Digest != desc.Digest {
		err = fmt.Errorf("layer %s changed while it was written", id)
	}
	return desc, err
}

// pack is the blob by which a folder has a layer.
func (x *cacheWriter) pack(ctx context.Context, c *Cache, id digest.Digest) (ocispec.Descriptor, func() (io.ReadCloser, error), error) {
	if from, ok := x.absent(id); ok {
		return from.Blob, func() (io.ReadCloser, error) { return from.From.Open(ctx, from.Blob) }, nil
	}
	a, level := c.compression()
	var notes map[string]string
	if a == compression.Estargz {
		var err error
		if id, notes, err = x.estargz(ctx, c, id, level); err != nil {
			return ocispec.Descriptor{}, nil, err
		}
	}
	got, err := x.b.Layers.Get(id)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: id, Size: got.TarSize}
	p := packed(got)
	switch {
	case p != nil && (notes != nil || !c.flag("force-compression", false)):
		desc = *p
		desc.Annotations = notes
	case a != compression.None:
		if desc, err = x.b.Layers.Compress(ctx, id, a, level); err != nil {
			return desc, nil, err
		}
	}
	return desc, func() (io.ReadCloser, error) { return x.b.Layers.OpenBlob(ctx, id, desc) }, nil
}

// inline reports whether the image is to be its own cache.
func (o *Options) inline() bool {
	return slices.ContainsFunc(o.CacheTo, func(c Cache) bool { return c.Type == CacheInline })
}
