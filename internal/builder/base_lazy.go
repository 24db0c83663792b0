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
	"github.com/micabuild/mica/internal/transfer"
)

// lazyBase is a base image of which only manifest and config are here. Where a cache of others has all that is built on it,
// nobody needs more; the first who needs one of its layers gets the image, as BuildKit's lazy references do.
type lazyBase struct {
	name  reference.Named
	root  ocispec.Descriptor
	want  *ocispec.Platform
	chain []digest.Digest
	blobs []ocispec.Descriptor // of the chain

	mu   sync.Mutex
	here bool
}

// lazily looks a base image up at its registry, without its layers. It returns nil where the image has to be pulled: for
// what is odd about it the pull has the words.
func (b *bases) lazily(ctx context.Context, name reference.Named, want *ocispec.Platform) *image.Image {
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

// isPlain reports whether an image is one whose layers can be unpacked, each of which its config describes.
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

// bring gets the lazy base image that a chain is built on, or that has the only layer of it.
func (b *bases) bring(ctx context.Context, chain []digest.Digest) (found bool, err error) {
	b.mu.Lock()
	list := b.lazy
	b.mu.Unlock()
	for _, lazy := range list {
		n := len(lazy.chain)
		on := n > 0 && n <= len(chain) && slices.Equal(lazy.chain, chain[:n])
		if on || len(chain) == 1 && slices.Contains(lazy.chain, chain[0]) {
			return true, b.bringBase(ctx, lazy)
		}
	}
	return false, nil
}

// bringBase pulls what the name stood for when it was looked up, and gives it that name.
func (b *bases) bringBase(ctx context.Context, lazy *lazyBase) (err error) {
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
	if err := b.pull(ctx, pinned, lazy.want, p.layer); err != nil {
		return err
	}
	lazy.here = true
	if _, ok := lazy.name.(reference.Digested); ok {
		return nil
	}
	_, err = b.images.Keep(ctx, lazy.root, lazy.name.String())
	return err
}
