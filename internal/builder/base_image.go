package builder

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/transfer"
)

// baseImages finds base images, in the store or else at their registry. It resolves each name once in a build: a tag that is
// moved meanwhile keeps its first meaning.
type baseImages struct {
	images *image.Images
	pull   func(ctx context.Context, name reference.Named, platform *ocispec.Platform, unpack bool, progress transfer.Progress) error
	events solver.Events
	// inspect reads an image at a registry without its layers; nil if these are always needed.
	inspect func(ctx context.Context, name reference.Named) (*transfer.Published, error)
	// look reads what a registry has under a name.
	look func(ctx context.Context, name reference.Named) (*transfer.Published, error)

	mu    sync.Mutex
	found map[string]*baseImage // by full name and platform, and by full name with digest
	lazy  []*lazyBase
}

// newBaseImages returns the base images of a build. With remote caches, or where steps run elsewhere, an image is pulled only when a step needs
// its files here.
func (b *Builder) newBaseImages(o *Options) *baseImages {
	base := &baseImages{images: b.Images, pull: b.pull, events: o.Events, found: map[string]*baseImage{}}
	base.look = func(ctx context.Context, name reference.Named) (*transfer.Published, error) {
		return transfer.Inspect(ctx, b.Registry, name)
	}
	if len(o.CacheFrom) > 0 || len(o.namedCaches()) > 0 || o.Elsewhere != nil {
		base.inspect = base.look
	}
	return base
}

// baseImage is an image that was found, or is being searched.
type baseImage struct {
	ref    string // the name in the Dockerfile, "" for an image by its digest
	wanted *ocispec.Platform
	done   chan struct{}
	img    *image.Image
	err    error
}

// imageRef takes the image's name out of an LLB source identifier.
func imageRef(identifier string) (string, bool) {
	return strings.CutPrefix(identifier, "docker-image://")
}

// resolve finds an image for a platform.
func (b *baseImages) resolve(ctx context.Context, ref string, opt *sourceresolver.ResolveImageOpt) (*image.Image, error) {
	var platform *ocispec.Platform
	always := false
	if opt != nil {
		platform, always = opt.Platform, opt.ResolveMode == llb.ResolveModeForcePull.String()
	}
	return b.get(ctx, ref, platform, always)
}

// find returns an image for the solver: the compiler has resolved its name to a digest before.
func (b *baseImages) find(ctx context.Context, ref string) (*image.Image, error) {
	return b.get(ctx, ref, nil, false)
}

// published returns the digest that a name has at its registry now.
func (b *baseImages) published(ctx context.Context, ref string) (digest.Digest, error) {
	name, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", err
	}
	found, err := b.look(ctx, reference.TagNameOnly(name))
	if err != nil {
		return "", err
	}
	return found.Root.Digest, nil
}

func (b *baseImages) get(ctx context.Context, ref string, platform *ocispec.Platform, always bool) (*image.Image, error) {
	key := ref
	if platform != nil && !strings.Contains(ref, "@") {
		key += " " + platforms.Format(*platform)
	}
	b.mu.Lock()
	wanted, ok := b.found[key]
	if !ok {
		wanted = &baseImage{done: make(chan struct{}), wanted: platform}
		if !strings.Contains(ref, "@") {
			wanted.ref = ref
		}
		b.found[key] = wanted
	}
	b.mu.Unlock()
	if !ok {
		wanted.img, wanted.err = b.search(ctx, ref, platform, always)
		b.remember(ref, wanted)
		close(wanted.done)
	}
	select {
	case <-wanted.done:
		return wanted.img, wanted.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// remember adds an image under its digest, which the solver asks for.
func (b *baseImages) remember(ref string, found *baseImage) {
	if found.err != nil || strings.Contains(ref, "@") {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.found[ref+"@"+found.img.Target.Digest.String()] = found
}

// search finds an image in the store, or pulls it.
func (b *baseImages) search(ctx context.Context, ref string, platform *ocispec.Platform, always bool) (*image.Image, error) {
	var missing error
	if !always {
		img, err := b.images.FindFor(ctx, ref, platform)
		if err == nil || !image.IsMissing(err) {
			return img, err
		}
		missing = err
	}
	name, err := reference.ParseNormalizedNamed(ref)
	if err == nil {
		name = reference.TagNameOnly(name)
		if img := b.inspectLazily(ctx, name, platform); img != nil {
			return img, nil
		}
		p := startStep(b.events, "pull "+name.String())
		err = b.pull(ctx, name, platform, false, p.layer)
		p.end(err)
	}
	var other *image.PlatformError
	switch {
	case err != nil && errors.As(missing, &other):
		return nil, fmt.Errorf("failed to resolve source metadata for %s: no match for platform %s in the store, and %w", ref, other.Platform, err)
	case err != nil:
		return nil, fmt.Errorf("failed to resolve source metadata for %s: %w", ref, err)
	}
	img, err := b.images.FindFor(ctx, ref, platform)
	if errors.As(err, &other) {
		// The compiler warns of an image of another platform (InvalidBaseImagePlatform), if it is the only one of its name.
		if only, findErr := b.images.Find(ctx, ref); findErr == nil && only.Root.Digest == only.Target.Digest {
			return only, nil
		}
	}
	return img, err
}
