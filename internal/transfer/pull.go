package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/store"
)

// PullOptions are the options of Pull. The zero value pulls the image for this host.
type PullOptions struct {
	// Platforms are the platforms of an index to pull; empty for this host's.
	Platforms []ocispec.Platform
	// AllPlatforms pulls all platforms, and attestations.
	AllPlatforms bool
	// Unpack makes the trees of the layers while they are downloaded, for a process to run.
	Unpack bool
	// Progress receives the events of layers. It may be nil.
	Progress Progress
}

// Pulled is the result of a pull.
type Pulled struct {
	Image *image.Image
	// Root is the manifest or index of the name in the registry.
	Root ocispec.Descriptor
	// Fresh is false if the store had everything.
	Fresh bool
}

// Pull downloads an image by its tag or digest, and gives it that name. The next pull resumes the downloads of a pull that
// failed. The caller holds store.Use.
func Pull(ctx context.Context, c *registry.Client, local *Local, name reference.Named, o PullOptions) (pulled *Pulled, err error) {
	err = c.Try(ctx, name, func(ctx context.Context, repo *registry.Repository) error {
		pulled, err = pullFrom(ctx, repo, local, name, o)
		return err
	})
	return pulled, err
}

func pullFrom(ctx context.Context, repo *registry.Repository, local *Local, name reference.Named, o PullOptions) (*Pulled, error) {
	root, err := repo.FetchManifest(ctx, repo.Reference())
	if err != nil {
		return nil, err
	}
	p := &puller{local: local, repo: repo, origin: name.Name(), o: o}
	p.progress = o.Progress
	if p.progress == nil {
		p.progress = func(Event) {}
	}
	p.importer = &importer{config: p.config, layers: p.allLayers}
	if err := p.pull(ctx, root); err != nil {
		return nil, err
	}
	moved := true
	if before, err := local.Images.Root(ctx, name.String()); err == nil {
		moved = before.Digest != root.Descriptor.Digest
	}
	img, err := local.Images.Keep(ctx, root.Descriptor, keptNames(name, root.Descriptor.Digest)...)
	if err != nil {
		return nil, err
	}
	return &Pulled{Image: img, Root: root.Descriptor, Fresh: p.fresh || moved}, nil
}

// keptNames returns the names of a pulled or pushed image: by tag and by digest.
func keptNames(name reference.Named, d digest.Digest) []string {
	var names []string
	if _, ok := name.(reference.Digested); !ok {
		names = append(names, reference.TagNameOnly(name).String())
	}
	return append(names, reference.TrimNamed(name).String()+"@"+d.String())
}

// puller is the state of one pull.
type puller struct {
	local    *Local
	repo     *registry.Repository
	origin   string // the repository's full name, as users know it
	o        PullOptions
	progress Progress
	importer *importer

	mu    sync.Mutex
	fresh bool
}

func (p *puller) pull(ctx context.Context, root *registry.Manifest) error {
	if !oci.IsIndex(root.Descriptor.MediaType) {
		return p.image(ctx, root)
	}
	i := &pulledIndex{p: p, root: root}
	chosen, err := i.choose(ctx)
	if err != nil {
		return err
	}
	for _, e := range chosen {
		if err := p.child(ctx, e.Descriptor); err != nil {
			return err
		}
	}
	return i.write()
}

// image downloads the image of a manifest. It stores the manifest last: if a manifest is in the store, so is its image.
func (p *puller) image(ctx context.Context, m *registry.Manifest) error {
	c, err := m.Parse()
	if err != nil {
		return err
	}
	if !oci.IsImageConfig(c.Config.MediaType) {
		return p.artifact(ctx, m, c)
	}
	for _, l := range c.Layers {
		if !oci.IsLayer(l.MediaType) && !oci.IsForeignLayer(l.MediaType) {
			return &unknownLayerError{l}
		}
	}
	img, err := p.importer.image(ctx, m.Descriptor, m.Raw)
	if err != nil {
		return err
	}
	if _, err := p.local.Store.WriteBlob(img.config); err != nil {
		return err
	}
	return p.write(m)
}

// config returns a config, from the store if the store has it.
func (p *puller) config(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if err := oci.CheckDescriptor(d); err != nil {
		return nil, err
	}
	if raw, err := p.local.Store.ReadBlob(d.Digest); err == nil {
		return raw, nil
	}
	return p.repo.ReadBlob(ctx, d)
}

func (p *puller) write(m *registry.Manifest) error {
	if _, err := p.local.Store.StatBlob(m.Descriptor.Digest); err != nil {
		p.fresh = true
	}
	_, err := p.local.Store.WriteBlob(m.Raw)
	return err
}

// artifact downloads a manifest that is not an image's: an attestation in an index of which all platforms are pulled.
func (p *puller) artifact(ctx context.Context, m *registry.Manifest, c *registry.Document) error {
	if !p.o.AllPlatforms {
		return &notImageError{c.Config.MediaType}
	}
	for _, d := range append([]ocispec.Descriptor{c.Config}, c.Layers...) {
		if _, err := p.local.Store.StatBlob(d.Digest); err == nil {
			continue
		}
		if err := p.opaque(ctx, d); err != nil {
			return fmt.Errorf("blob %s: %w", short(d.Digest.String()), err)
		}
	}
	return p.write(m)
}

// opaque downloads a blob that is not a layer.
func (p *puller) opaque(ctx context.Context, d ocispec.Descriptor) error {
	if err := oci.CheckDescriptor(d); err != nil {
		return err
	}
	w, err := p.local.Store.NewBlob()
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	r := p.repo.OpenBlob(ctx, d, 0)
	defer func() { _ = r.Close() }()
	if _, err := io.Copy(w, r); err != nil {
		return err
	}
	_, err = w.Commit(d.Digest)
	return err
}

func (p *puller) allLayers(ctx context.Context, list []ocispec.Descriptor, ids []digest.Digest) error {
	for _, d := range list {
		p.progress(Event{Layer: d.Digest, State: Waiting, Total: d.Size})
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelLayers)
	seen := map[digest.Digest]bool{}
	for i, d := range list {
		if seen[ids[i]] {
			p.progress(Event{Layer: d.Digest, State: Exists, Total: d.Size})
			continue
		}
		seen[ids[i]] = true
		g.Go(crash.Guard(func() error {
			if err := p.layer(ctx, d, ids[i]); err != nil {
				return fmt.Errorf("layer %s: %w", short(d.Digest.String()), err)
			}
			return nil
		}))
	}
	return g.Wait()
}

// layer downloads a layer, unless the store has it.
func (p *puller) layer(ctx context.Context, d ocispec.Descriptor, id digest.Digest) error {
	if l, err := p.local.Layers.Get(id); err == nil && l.Present() {
		p.progress(Event{Layer: d.Digest, State: Exists, Total: d.Size})
		return p.remember(id, d)
	}
	p.setFresh()
	var content *contentError
	for try := 0; ; try++ {
		err := p.download(ctx, d, id)
		switch {
		case errors.Is(err, store.ErrExists):
			if l, err := p.local.Layers.Get(id); err == nil && l.Present() {
				p.progress(Event{Layer: d.Digest, State: Exists, Total: d.Size})
				return p.remember(id, d)
			}
		case err == nil:
			p.progress(Event{Layer: d.Digest, State: Done, Total: d.Size})
			return p.remember(id, d)
		case !errors.Is(err, store.ErrDamaged) && !errors.As(err, &content):
			if oci.IsForeignLayer(d.MediaType) && registry.IsNotFound(err) {
				err = fmt.Errorf("it is a foreign layer, which the registry does not have (%s); mica does not fetch it from elsewhere", d.MediaType)
			}
			return err
		}
		if try > 0 {
			return err
		}
		// The transfer may have damaged it: download it again, from the start.
		p.progress(Event{Layer: d.Digest, State: Retrying, Total: d.Size})
	}
}

// contentError is the error of a layer that cannot be read. The transfer may have damaged it.
type contentError struct{ error }

func (e *contentError) Unwrap() error { return e.error }

func (p *puller) setFresh() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fresh = true
}

// remember records that the repository has the layer's blob, so that pushes can mount it.
func (p *puller) remember(id digest.Digest, d ocispec.Descriptor) error {
	return p.local.Layers.AddKnownBlob(id, layer.KnownBlob{Blob: d, Repositories: []string{p.origin}})
}

// download stores a layer in one pass: blob, DiffID, table of contents and, with Unpack, tree.
func (p *puller) download(ctx context.Context, d ocispec.Descriptor, id digest.Digest) (err error) {
	if f, err := p.local.Store.VerifiedBlob(d.Digest); err == nil {
		// The store has the blob, but not the layer.
		defer func() { _ = f.Close() }()
		_, _, err := p.local.Layers.IngestFrom(ctx, layer.Incoming{Reader: f, Blob: d.Digest, DiffID: id, Unpack: p.o.Unpack})
		if err == nil || ctx.Err() != nil || registry.IsLocal(err) {
			return err
		}
		// The blob is damaged: download it again.
	}
	part, err := p.local.Store.NewPartial(ctx, d.Digest)
	if err != nil {
		return err
	}
	if part.Had() > d.Size {
		return errors.Join(part.Discard(), fmt.Errorf("%w: the partial download is too long", store.ErrDamaged))
	}
	body := p.repo.OpenBlob(ctx, d, part.Had())
	defer func() { _ = body.Close() }()
	in := &progressReader{parts: []reader{part.Earlier(), body}, event: Event{Layer: d.Digest, State: Downloading, Total: d.Size}, send: p.progress}
	_, _, err = p.local.Layers.IngestFrom(ctx, layer.Incoming{
		Reader: in, Blob: d.Digest, DiffID: id, Into: part.BlobWriter, Unpack: p.o.Unpack,
	})
	if err == nil {
		return part.Close()
	}
	if in.err != nil || ctx.Err() != nil {
		return errors.Join(err, part.Close())
	}
	// The content does not match the digest, or the disk is full.
	if !registry.IsLocal(err) && !errors.Is(err, store.ErrDamaged) {
		err = &contentError{err}
	}
	return errors.Join(err, part.Discard())
}
