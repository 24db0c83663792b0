package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/registry"
)

// PushOptions are the options of Push. The zero value pushes the blobs of the store as they are, and compresses other layers
// with gzip.
type PushOptions struct {
	// Compression is that of layers that are not compressed. "" is gzip for layers that mica made. Layers from registries stay as
	// they are then.
	Compression compression.Algorithm
	Level       int // 0: the algorithm's default
	// Force also compresses layers that are already compressed.
	Force bool
	// ByDigest pushes without a tag.
	ByDigest bool
	// Platform selects one image of an index; nil for all that are in the store.
	Platform *ocispec.Platform
	Progress Progress
	// Manifest is called before the manifest or index that gets the name is pushed, which is the last; nil for nothing.
	Manifest func(d ocispec.Descriptor)
	// Elsewhere are layers that the store does not have, by their DiffIDs. An image with such a layer is not recorded.
	Elsewhere map[digest.Digest]Elsewhere
}

// Elsewhere is a layer that the store does not have.
type Elsewhere struct {
	Blob         ocispec.Descriptor
	Repositories []string // repositories with the blob
	Open         func(ctx context.Context) (io.ReadCloser, error)
}

// Pushed is the result of a push.
type Pushed struct {
	Root ocispec.Descriptor
	// Reduced is the index that has the name, if not all of it could be pushed. Otherwise its digest is "".
	Reduced ocispec.Descriptor
}

// Push pushes the image of the manifest or index root to the repository of its name. Digests change only if layers are
// compressed. The caller holds store.Use.
func Push(ctx context.Context, c *registry.Client, local *Local, name reference.Named, root ocispec.Descriptor, o PushOptions) (*Pushed, error) {
	p := &pusher{local: local, name: name, progress: o.Progress, blobs: map[digest.Digest]*sync.Mutex{}}
	if o.Compression == "" {
		o.Compression = compression.Gzip
		p.asItIs = !o.Force && local.Images.HasDigestName(root.Digest)
	}
	if err := compression.CheckLevel(o.Compression, o.Level); err != nil {
		return nil, err
	}
	p.o = o
	if p.progress == nil {
		p.progress = func(Event) {}
	}
	p.slots = make(chan struct{}, parallelLayers)
	var err error
	if p.repo, err = c.Repository(ctx, name); err != nil {
		return nil, registry.Explain(reference.FamiliarString(name), err)
	}
	got, err := p.push(ctx, root)
	return got, registry.Explain(reference.FamiliarString(p.repo.Name()), err)
}

// pusher is the state of one push.
type pusher struct {
	local    *Local
	repo     *registry.Repository
	name     reference.Named
	o        PushOptions
	progress Progress
	asItIs   bool // registries have these blobs
	slots    chan struct{}

	mu    sync.Mutex
	blobs map[digest.Digest]*sync.Mutex // by layer: images of one index share some
}

func (p *pusher) push(ctx context.Context, root ocispec.Descriptor) (*Pushed, error) {
	var err error
	done := &Pushed{}
	var m *registry.Manifest
	if oci.IsIndex(root.MediaType) && p.o.Platform == nil {
		m, err = p.index(ctx, root, 0)
		if err == nil && m.Descriptor.Digest != root.Digest {
			done.Reduced = root
		}
	} else {
		m, err = p.single(ctx, root)
	}
	if err != nil {
		return nil, err
	}
	done.Root = m.Descriptor
	ref := p.repo.Reference()
	if p.o.ByDigest {
		ref = m.Descriptor.Digest.String()
	}
	if p.o.Manifest != nil {
		p.o.Manifest(m.Descriptor)
	}
	if err := p.pushManifest(ctx, m, ref); err != nil {
		return nil, err
	}
	if len(p.o.Elsewhere) > 0 {
		return done, nil
	}
	// The image is in the registry: give it a name by digest.
	if _, err := p.local.Store.WriteBlob(m.Raw); err != nil {
		return nil, err
	}
	_, err = p.local.Images.Keep(ctx, m.Descriptor, reference.TrimNamed(p.name).String()+"@"+m.Descriptor.Digest.String())
	return done, err
}

// single pushes the blobs of an image, and returns its manifest, which it does not push.
func (p *pusher) single(ctx context.Context, root ocispec.Descriptor) (*registry.Manifest, error) {
	if oci.IsIndex(root.MediaType) {
		e, err := oci.Find(ctx, root, p.readIndex, p.o.Platform)
		if err != nil {
			return nil, err
		}
		root = e.Descriptor
	}
	return p.image(ctx, root)
}

// pushManifest pushes a manifest, unless the registry has it under this reference.
func (p *pusher) pushManifest(ctx context.Context, m *registry.Manifest, ref string) error {
	if p.repo.Digest(ctx, ref) == m.Descriptor.Digest {
		return nil
	}
	return p.repo.PutManifest(ctx, m, ref)
}

// image pushes the blobs of a manifest, and returns the manifest to push.
func (p *pusher) image(ctx context.Context, target ocispec.Descriptor) (*registry.Manifest, error) {
	raw, err := p.local.Store.ReadBlob(target.Digest)
	if err != nil {
		return nil, err
	}
	m, err := oci.ParseManifest(target.Digest, raw)
	if err != nil {
		return nil, err
	}
	config, err := p.local.Store.ReadBlob(m.Config.Digest)
	if err != nil {
		return nil, err
	}
	var ids []digest.Digest
	if oci.IsImageConfig(m.Config.MediaType) {
		if ids, err = oci.DiffIDs(config); err != nil {
			return nil, err
		}
	}
	if ids == nil {
		ids = make([]digest.Digest, len(m.Layers)) // not layers of files, but blobs that the store has
	}
	if err := oci.CheckLayers(target.Digest, m.Layers, ids); err != nil {
		return nil, err
	}
	layers, err := p.layers(ctx, *m, ids, config)
	if err != nil {
		return nil, err
	}
	if slices.EqualFunc(layers, m.Layers, func(a, b ocispec.Descriptor) bool { return a.Digest == b.Digest }) {
		return &registry.Manifest{Descriptor: target, Raw: raw}, nil
	}
	m.Layers = layers
	retype(m)
	if raw, err = json.Marshal(m); err != nil {
		return nil, err
	}
	d := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	return &registry.Manifest{Descriptor: d, Raw: raw}, nil
}

// retype gives a manifest whose layers have changed the media types of one family: Docker's if it had them and Docker specifies all of
// them. Few clients read Docker's type of layers of zstd: an image has it only if it was built so.
func retype(m *ocispec.Manifest) {
	m.SchemaVersion = 2
	if m.MediaType != oci.DockerManifest || slices.ContainsFunc(m.Layers, hasZstdType) {
		m.MediaType, m.Config.MediaType = ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig
		return
	}
	for i, l := range m.Layers {
		m.Layers[i].MediaType = oci.LayerTypeDocker(l.MediaType)
	}
}

func hasZstdType(d ocispec.Descriptor) bool { return d.MediaType == ocispec.MediaTypeImageLayerZstd }

// layers pushes layers and config in parallel, and returns the layers' descriptors in the registry.
func (p *pusher) layers(ctx context.Context, m ocispec.Manifest, ids []digest.Digest, config []byte) ([]ocispec.Descriptor, error) {
	for i, d := range m.Layers {
		p.progress(Event{Layer: shown(ids[i], d), State: Waiting})
	}
	layers := slices.Clone(m.Layers)
	g, ctx := errgroup.WithContext(ctx)
	for i, d := range m.Layers {
		g.Go(crash.Guard(func() error {
			l := &pushedLayer{p: p, id: ids[i], desc: d, shown: shown(ids[i], d)}
			got, err := l.push(ctx)
			if err != nil {
				return fmt.Errorf("layer %s: %w", short(l.shown.String()), err)
			}
			layers[i].MediaType, layers[i].Digest, layers[i].Size = got.MediaType, got.Digest, got.Size
			return nil
		}))
	}
	g.Go(crash.Guard(func() error { return p.config(ctx, m.Config, config) }))
	return layers, g.Wait()
}

// shown returns the digest of a layer for the progress: docker shows the first digits of the DiffID.
func shown(id digest.Digest, d ocispec.Descriptor) digest.Digest {
	if id == "" {
		return d.Digest
	}
	return id
}

func (p *pusher) config(ctx context.Context, d ocispec.Descriptor, config []byte) error {
	there, err := p.repo.HasBlob(ctx, d)
	if err != nil || there {
		return err
	}
	return p.repo.PushBlob(ctx, d, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(config)), nil })
}

// lockLayer prevents that two images of one index push the same layer.
func (p *pusher) lockLayer(id digest.Digest) func() {
	p.mu.Lock()
	l, ok := p.blobs[id]
	if !ok {
		l = &sync.Mutex{}
		p.blobs[id] = l
	}
	p.mu.Unlock()
	l.Lock()
	return l.Unlock
}

// errNotMounted is the error of a registry that starts an upload instead of mounting.
var errNotMounted = errors.New("not mounted")

// mount mounts a blob of another repository of the registry.
func (p *pusher) mount(ctx context.Context, d ocispec.Descriptor, from string) bool {
	return p.repo.MountBlob(ctx, d, from, func() (io.ReadCloser, error) { return nil, errNotMounted }) == nil
}

// isCompressed reports whether a media type is that of a compressed layer.
func isCompressed(mediaType string) bool {
	return strings.HasSuffix(mediaType, "gzip") || strings.HasSuffix(mediaType, "zstd")
}
