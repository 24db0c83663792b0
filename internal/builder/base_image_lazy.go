package builder

import (
	"context"
	"slices"
	"sync"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/transfer"
)

// lazyBase is a base image of which the store has only the manifest and config. If a remote cache has everything that is built on
// it, its layers are not needed. The first step that needs one pulls the image, as BuildKit's lazy references do.
type lazyBase struct {
	name  reference.Named
	root  ocispec.Descriptor
	want  *ocispec.Platform
	chain []digest.Digest
	blobs []ocispec.Descriptor // of the chain

	mu   sync.Mutex
	here bool // the image was pulled
}

// inspectLazily reads a base image at its registry, without its layers. It returns nil if the image has to be pulled, also
// where the pull will fail: its error explains why.
func (b *baseImages) inspectLazily(ctx context.Context, name reference.Named, want *ocispec.Platform) *image.Image {
	if b.inspect == nil {
		return nil
	}
	r, err := b.inspect(ctx, name)
	if err != nil {
		return nil
	}
	got, err := r.Image(ctx, want)
	if err != nil || !isPlain(got) {
		return nil
	}
	if p := got.Config.Platform; !oci.IsIndex(r.Root.MediaType) && want != nil && p.Architecture != "" && !platforms.Only(*want).Match(p) {
		return nil
	}
	lazy := &lazyBase{name: name, root: r.Root, want: want, chain: got.Config.RootFS.DiffIDs, blobs: got.Manifest.Layers}
	b.mu.Lock()
	b.lazy = append(b.lazy, lazy)
	b.mu.Unlock()
	return &image.Image{
		ID: got.Manifest.Config.Digest, Target: got.Target, Root: r.Root,
		Manifest: got.Manifest, Config: got.Config, RawConfig: got.RawConfig,
	}
}

// isPlain reports whether the layers of an image can be unpacked, and its config has the DiffID of each.
func isPlain(img *transfer.PublishedImage) bool {
	if ids, err := oci.DiffIDs(img.RawConfig); err != nil || len(ids) != len(img.Manifest.Layers) {
		return false
	}
	for _, l := range img.Manifest.Layers {
		if !oci.IsLayer(l.MediaType) || oci.CheckDescriptor(l) != nil {
			return false
		}
	}
	return oci.IsImageConfig(img.Manifest.Config.MediaType)
}

// findLazy finds the lazy base image that a chain is built on, or that has the only layer of the chain.
func (b *baseImages) findLazy(chain []digest.Digest) *solver.Base {
	b.mu.Lock()
	list := b.lazy
	b.mu.Unlock()
	for _, lazy := range list {
		n := len(lazy.chain)
		on := n > 0 && n <= len(chain) && slices.Equal(lazy.chain, chain[:n])
		if on || len(chain) == 1 && slices.Contains(lazy.chain, chain[0]) {
			return b.base(lazy)
		}
	}
	for _, lazy := range list { // on some of its layers (pb.AttrImageLayerLimit)
		if len(chain) > 0 && len(lazy.chain) > 0 && lazy.chain[0] == chain[0] {
			return b.base(lazy)
		}
	}
	return nil
}

// base is a lazy base image as the solver fetches it.
func (b *baseImages) base(lazy *lazyBase) *solver.Base {
	return &solver.Base{
		Chain: lazy.chain,
		Fetch: func(ctx context.Context, unpack bool) error { return b.pullLazy(ctx, lazy, unpack) },
	}
}

// pullLazy pulls the image that the name had when it was inspected, and gives it that name.
func (b *baseImages) pullLazy(ctx context.Context, lazy *lazyBase, unpack bool) (err error) {
	lazy.mu.Lock()
	defer lazy.mu.Unlock()
	if lazy.here {
		return nil
	}
	pinned, err := reference.WithDigest(reference.TrimNamed(lazy.name), lazy.root.Digest)
	if err != nil {
		return err
	}
	p := startStep(b.events, "pull "+lazy.name.String())
	defer func() { p.end(err) }()
	if err := b.pull(ctx, pinned, lazy.want, unpack, p.layer); err != nil {
		return err
	}
	lazy.here = true
	if _, ok := lazy.name.(reference.Digested); ok {
		return nil
	}
	_, err = b.images.Keep(ctx, lazy.root, lazy.name.String())
	return err
}
