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

	"oras.land/oras-go/v2/content"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/ocilayout"
)

// layouts are the named contexts that are OCI layouts, in directories of the host, "oci-layout://DIR[:TAG][@DIGEST]", or in stores of the
// client.
type layouts struct {
	b *Builder
	// client has the layouts that are not open; nil for none.
	client Client
	open   map[string]*layout // by the name that the front end uses

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
func (b *Builder) openLayouts(ctx context.Context, contexts, opts map[string]string, c Client) (*layouts, error) {
	ls := &layouts{b: b, client: c, open: map[string]*layout{}, images: map[string]*image.Image{}}
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

// resolve copies the image of a layout for a platform into the store, without a name. The digest is that of its manifest or index, "" for
// that of an open layout.
func (ls *layouts) resolve(ctx context.Context, session, id string, d digest.Digest, platform *ocispec.Platform) (*image.Image, error) {
	l, ok := ls.open[id]
	if ok && (d == "" || d == l.root.Digest) {
		return ls.load(ctx, l.source, l.root, platform)
	}
	if ok || ls.client == nil {
		return nil, fmt.Errorf("unknown layout %s", id)
	}
	src, err := ls.client.Store(ctx, session, "oci:"+id)
	if err != nil {
		return nil, fmt.Errorf("layout %s: %w", id, err)
	}
	root, err := readRoot(ctx, src, d)
	if err != nil {
		return nil, fmt.Errorf("layout %s: %w", id, err)
	}
	return ls.load(ctx, src, root, platform)
}

func (ls *layouts) load(ctx context.Context, src content.Fetcher, root ocispec.Descriptor, platform *ocispec.Platform) (*image.Image, error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	key := layoutKey(root.Digest, platform)
	if img, ok := ls.images[key]; ok {
		return img, nil
	}
	img, err := ls.b.local().ImportLayout(ctx, src, root, platform)
	if err == nil {
		ls.images[key] = img
	}
	return img, err
}

// find returns an image that was resolved before, or one of the client.
func (ls *layouts) find(ctx context.Context, session, id string, d digest.Digest, platform *ocispec.Platform) (*image.Image, error) {
	ls.mu.Lock()
	img, ok := ls.images[layoutKey(d, platform)]
	ls.mu.Unlock()
	switch {
	case ok:
		return img, nil
	case ls.client == nil || id == "":
		return nil, fmt.Errorf("layout %s was not resolved", d)
	}
	return ls.resolve(ctx, session, id, d, platform)
}

func layoutKey(d digest.Digest, platform *ocispec.Platform) string {
	p := platforms.DefaultSpec()
	if platform != nil {
		p = *platform
	}
	return d.String() + " " + formatted(p)
}
