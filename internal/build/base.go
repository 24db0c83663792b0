package build

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
)

// bases finds base images, each once in a build: a name that another process moves meanwhile keeps its first meaning.
type bases struct {
	images *image.Images

	mu    sync.Mutex
	found map[string]*image.Image // by full name, and by full name with digest
}

// imageRef takes the image's name out of an LLB source identifier.
func imageRef(identifier string) (string, bool) {
	return strings.CutPrefix(identifier, "docker-image://")
}

// resolve finds an image and sees that it is for the platform asked.
func (b *bases) resolve(ctx context.Context, ref string, opt *sourceresolver.ResolveImageOpt) (*image.Image, error) {
	if opt != nil && opt.ResolveMode == llb.ResolveModeForcePull.String() {
		return nil, fmt.Errorf("%s: this mica does not pull images; load or import it, and build without --pull", ref)
	}
	img, err := b.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	if opt != nil && opt.Platform != nil {
		if err := forPlatform(img, ref, *opt.Platform); err != nil {
			return nil, err
		}
	}
	return img, nil
}

func forPlatform(img *image.Image, ref string, want ocispec.Platform) error {
	have := platformOf(&img.Config)
	p, err := platforms.Parse(have)
	if err != nil || platforms.Only(want).Match(p) {
		return nil //nolint:nilerr // an image that does not say what it is for is taken as it is
	}
	return fmt.Errorf("%s: no match for platform %s: the image is for %s", ref, platforms.Format(want), have)
}

// find looks ref up once. The compiler asks by name first and then by the digest that it was told.
func (b *bases) find(ctx context.Context, ref string) (*image.Image, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if img, ok := b.found[ref]; ok {
		return img, nil
	}
	img, err := b.images.Find(ctx, ref)
	if err != nil {
		var missing *image.NotFoundError
		if errors.As(err, &missing) {
			return nil, fmt.Errorf("failed to resolve source metadata for %s: not found: load or import it first", ref)
		}
		return nil, err
	}
	b.found[ref] = img
	if !strings.Contains(ref, "@") {
		b.found[ref+"@"+img.Target.Digest.String()] = img
	}
	return img, nil
}
