package builder

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/ocilayout"
)

// layouts are the named contexts that are OCI layouts in directories: "oci-layout://DIR[:TAG][@DIGEST]".
type layouts struct {
	b    *Builder
	open map[string]*layout // by the name that the front end uses

	mu     sync.Mutex
	images map[string]*image.Image // by digest and platform
}

// layout is an open OCI layout.
type layout struct {
	source *ocilayout.Source
	root   ocispec.Descriptor
}

const layoutScheme = "oci-layout://"

// openLayouts opens the layouts among the contexts, and gives the front end names for them.
func (b *Builder) openLayouts(ctx context.Context, contexts map[string]string, opts map[string]string) (*layouts, error) {
	ls := &layouts{b: b, open: map[string]*layout{}, images: map[string]*image.Image{}}
	for name, value := range contexts {
		rest, ok := strings.CutPrefix(value, layoutScheme)
		if !ok {
			continue
		}
		l, err := openLayout(ctx, rest)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("context %s: %w", name, err), ls.close())
		}
		id := fmt.Sprintf("layout%d", len(ls.open))
		ls.open[id] = l
		opts["context:"+name] = layoutScheme + id + "@" + l.root.Digest.String()
	}
	return ls, nil
}

func openLayout(ctx context.Context, name string) (*layout, error) {
	at := &ocilayout.Location{Kind: ocilayout.OCI, Path: name, Text: layoutScheme + name}
	path, d, digested := strings.Cut(name, "@")
	if digested {
		at.Path, at.Ref = path, d
	}
	if i := strings.LastIndexByte(at.Path, ':'); i > strings.LastIndexByte(at.Path, '/') {
		if !digested {
			at.Ref = at.Path[i+1:]
		}
		at.Path = at.Path[:i]
	}
	src, err := at.Open(ctx, "")
	if err != nil {
		return nil, err
	}
	root, err := src.Root(ctx)
	if err != nil {
		return nil, errors.Join(err, src.Close())
	}
	return &layout{src, root}, nil
}

func (ls *layouts) close() error {
	var errs []error
	for _, l := range ls.open {
		errs = append(errs, l.source.Close())
	}
	return errors.Join(errs...)
}

// resolve copies the image of a layout for a platform into the store, without a name.
func (ls *layouts) resolve(ctx context.Context, id string, platform *ocispec.Platform) (*image.Image, error) {
	l, ok := ls.open[id]
	if !ok {
		return nil, fmt.Errorf("unknown layout %s", id)
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	key := layoutKey(l.root.Digest, platform)
	if img, ok := ls.images[key]; ok {
		return img, nil
	}
	img, err := ls.b.local().ImportLayout(ctx, l.source, l.root, platform)
	if err == nil {
		ls.images[key] = img
	}
	return img, err
}

// find returns an image that was resolved before.
func (ls *layouts) find(d digest.Digest, platform *ocispec.Platform) (*image.Image, error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	img, ok := ls.images[layoutKey(d, platform)]
	if !ok {
		return nil, fmt.Errorf("layout %s was not resolved", d)
	}
	return img, nil
}

func layoutKey(d digest.Digest, platform *ocispec.Platform) string {
	p := platforms.DefaultSpec()
	if platform != nil {
		p = *platform
	}
	return d.String() + " " + formatted(p)
}
