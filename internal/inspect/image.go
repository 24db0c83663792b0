// Package inspect opens whatever a user names as an image, to look into it: an image of the store, a name in a registry, an archive, a
// layout, the result of a build, a directory, or one layer. All of them are an Image.
//
// Opening reads names, manifests and configs alone. A layer that the store does not have is fetched when its files are asked for. It is
// then in the store without a name: the next prune removes it.
package inspect

import (
	"context"
	"errors"
	"slices"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/view"
)

// Kind says where an image is.
type Kind string

// The kinds of images.
const (
	Stored    Kind = "store"
	Built     Kind = "build"
	Published Kind = "registry"
	Layout    Kind = "layout" // a directory
	Archive   Kind = "archive"
	Directory Kind = "directory" // of files, with neither config nor history
	OneLayer  Kind = "layer"     // with neither config nor history
)

// Image is what a name means. Its fields are not to be changed. Its methods are safe for concurrent use.
type Image struct {
	Name string // as the user wrote it
	Kind Kind
	ID   digest.Digest // of the config; "" without one
	// Root is the manifest or index that the name points at, Target the manifest. They are zero if there is none.
	Root, Target ocispec.Descriptor
	Manifest     ocispec.Manifest
	RawManifest  []byte
	// Config is zero, and RawConfig nil, of a directory or a layer.
	Config    dockerspec.DockerOCIImage
	RawConfig []byte
	History   []HistoryItem // oldest first
	Layers    []*Layer      // bottom first
	// Build is the ref of the build that made the image, if it was named by it.
	Build string

	layers  *layer.Layers
	host    *hostDirectory // of a directory
	release []func() error
}

// HistoryItem is a line of an image's history.
type HistoryItem struct {
	ocispec.History
	Layer int // the index of the layer that it made in Image.Layers, -1 for none
}

// Platform is the platform in the config.
func (i *Image) Platform() ocispec.Platform { return i.Config.Platform }

// Chain returns the DiffIDs of the layers, bottom first. That of a directory is empty.
func (i *Image) Chain() []digest.Digest {
	if i.host != nil {
		return nil
	}
	ids := make([]digest.Digest, len(i.Layers))
	for n, l := range i.Layers {
		ids[n] = l.DiffID
	}
	return ids
}

// ChainIDs returns the ChainIDs of the layers, bottom first. Those of two images are equal up to the last layer that they share.
func (i *Image) ChainIDs() []digest.Digest { return identity.ChainIDs(slices.Clone(i.Chain())) }

// Fetch fetches the layers that the store does not have, in parallel.
func (i *Image) Fetch(ctx context.Context) error { return fetch(ctx, i.Layers) }

func fetch(ctx context.Context, layers []*Layer) error { return forEach(ctx, layers, (*Layer).Fetch) }

// AddDigests is Layer.AddDigests of all layers, in parallel.
func (i *Image) AddDigests(ctx context.Context) error {
	return forEach(ctx, i.Layers, (*Layer).AddDigests)
}

func forEach(ctx context.Context, layers []*Layer, do func(*Layer, context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelFetches)
	for _, l := range layers {
		g.Go(crash.Guard(func() error { return do(l, ctx) }))
	}
	return g.Wait()
}

// parallelFetches is how many layers are fetched at once.
const parallelFetches = 4

// Files returns the root of the files of all layers, merged as a container sees them. It fetches what is missing, of layers that have
// a table of contents in the registry the table. Images with layers
// in common share the nodes of directories that no layer above those changes: equal pointers are equal directories.
func (i *Image) Files(ctx context.Context) (*index.Node, error) { return i.FilesFrom(ctx, 0) }

// FilesFrom is Files without the lowest n layers, which are not fetched.
func (i *Image) FilesFrom(ctx context.Context, n int) (*index.Node, error) {
	if i.host != nil {
		return i.host.files()
	}
	foreign, err := look(ctx, i.Layers[n:])
	if err != nil {
		return nil, err
	}
	if len(foreign) > 0 {
		return i.layers.FilesWith(ctx, i.Chain()[n:], foreign)
	}
	return i.layers.Files(ctx, i.Chain()[n:])
}

// look is Layer.look of layers, in parallel. It returns those that are not in the store.
func look(ctx context.Context, layers []*Layer) (map[digest.Digest]layer.Foreign, error) {
	err := forEach(ctx, layers, func(l *Layer, ctx context.Context) error {
		_, err := l.look(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	foreign := map[digest.Digest]layer.Foreign{}
	for _, l := range layers {
		listed, err := l.look(ctx) // known by now
		if err != nil {
			return nil, err
		}
		if listed != nil {
			foreign[l.DiffID] = &foreignLayer{l, listed}
		}
	}
	return foreign, nil
}

// Unverified counts the layers of which Layer.Unverified.
func (i *Image) Unverified() (n int) {
	for _, l := range i.Layers {
		if l.Unverified() {
			n++
		}
	}
	return n
}

// Browse is View for a caller that reads few files. Of layers that have a table of contents in the registry, each file is fetched alone,
// when it is opened.
func (i *Image) Browse(ctx context.Context) (view.View, error) {
	if i.host != nil {
		return i.host.view()
	}
	foreign, err := look(ctx, i.Layers)
	if err != nil {
		return nil, err
	}
	if len(foreign) > 0 {
		return i.layers.ViewWith(ctx, i.Chain(), foreign)
	}
	return i.layers.View(ctx, i.Chain())
}

// View is the filesystem of all layers. It fetches what is missing.
func (i *Image) View(ctx context.Context) (view.View, error) {
	if i.host != nil {
		return i.host.view()
	}
	if err := i.Fetch(ctx); err != nil {
		return nil, err
	}
	return i.layers.View(ctx, i.Chain())
}

// Close ends the use of the image. What was fetched for it may be pruned from then on.
func (i *Image) Close() error {
	var errs []error
	for _, release := range slices.Backward(i.release) {
		errs = append(errs, release())
	}
	i.release = nil
	return errors.Join(errs...)
}

// setHistory sets the history of a config, and what it says of the layers.
func (i *Image) setHistory() {
	next := 0
	for n, h := range i.Config.History {
		item := HistoryItem{History: h, Layer: -1}
		if !h.EmptyLayer && next < len(i.Layers) {
			item.Layer = next
			i.Layers[next].CreatedBy, i.Layers[next].History = h.CreatedBy, n
			next++
		}
		i.History = append(i.History, item)
	}
}
