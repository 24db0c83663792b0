package buildcmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/ocilayout"
	"github.com/micabuild/mica/internal/store"
)

// bakeLinks pass the results of targets to the targets that have them as contexts. A result is an OCI layout in a temporary
// directory that has only manifests and configs: the build that reads it takes the layers from the store. So no layer is compressed
// or copied, an index keeps all its platforms, and the image gets no name that others could see.
type bakeLinks struct {
	app    *command.App
	tmp    *store.Temp
	wanted map[string]bool        // the targets that are contexts of others
	before map[digest.Digest]bool // images that were in the store before
	mu     sync.Mutex
	hidden []digest.Digest // images that were made only as contexts
}

func newBakeLinks(app *command.App, targets map[string]*bakeTarget) (*bakeLinks, error) {
	l := &bakeLinks{app: app, wanted: map[string]bool{}, before: map[digest.Digest]bool{}}
	needed := false
	for _, t := range targets {
		needed = needed || t.hidden || len(t.links) > 0
		for _, other := range t.links {
			l.wanted[other] = true
		}
	}
	if !needed {
		return l, nil
	}
	records, err := app.Store.Records().List()
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		l.before[digest.Digest(r.Ref)] = true
	}
	l.tmp, err = app.Store.TempDir("bake")
	return l, err
}

// context is the named context that a target's result is.
func (l *bakeLinks) context(target string) string {
	return "oci-layout://" + filepath.Join(l.tmp.Path, target)
}

// add records the result of a target.
func (l *bakeLinks) add(ctx context.Context, t *bakeTarget, res *builder.Result) error {
	if !l.wanted[t.name] && !t.hidden {
		return nil
	}
	root := res.Image.Root // the image as it was built, before a push compressed its layers
	if root.Digest == "" {
		root = res.Root
	}
	configs, err := l.write(ctx, filepath.Join(l.tmp.Path, t.name), root)
	if err != nil {
		return fmt.Errorf("store the result for other targets: %w", err)
	}
	if t.hidden {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, id := range configs {
			if !l.before[id] {
				l.hidden = append(l.hidden, id)
			}
		}
	}
	return nil
}

// remove removes the images that were made only as contexts. It keeps an image that has got a name meanwhile, or is in use.
func (l *bakeLinks) remove(ctx context.Context) error {
	if l.tmp == nil {
		return nil
	}
	for _, id := range l.hidden {
		if img, err := l.app.Images.FindNamed(ctx, id.String(), nil); err == nil && len(img.Names)+len(img.Digests) == 0 {
			_, _ = l.app.Images.Remove(ctx, id.String(), false)
		}
	}
	return l.tmp.Remove()
}

// write writes the manifests and configs of an image, or of those images of an index that are in the store, to a layout. It
// returns the digests of the configs.
func (l *bakeLinks) write(ctx context.Context, dir string, root ocispec.Descriptor) (_ []digest.Digest, err error) {
	at := &ocilayout.Location{Kind: ocilayout.OCI, Path: dir}
	dst, err := at.Create(ctx, ocilayout.CreateOptions{Scratch: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	k := &layoutWriter{store: l.app.Store, to: dst}
	if err := k.manifests(ctx, root); err != nil {
		return nil, err
	}
	return k.configs, dst.Commit(ctx, root)
}

type layoutWriter struct {
	store   *store.Store
	to      *ocilayout.Destination
	configs []digest.Digest
}

func (k *layoutWriter) manifests(ctx context.Context, d ocispec.Descriptor) error {
	raw, err := k.blob(ctx, d)
	if err != nil {
		return err
	}
	if !oci.IsIndex(d.MediaType) {
		m, err := oci.ParseManifest(d.Digest, raw)
		if err != nil {
			return err
		}
		k.configs = append(k.configs, m.Config.Digest)
		_, err = k.blob(ctx, m.Config)
		return err
	}
	index, err := oci.ParseIndex(d, raw)
	if err != nil {
		return err
	}
	for _, e := range index.Manifests {
		if err := k.manifests(ctx, e); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
}

func (k *layoutWriter) blob(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	raw, err := k.store.ReadBlob(d.Digest)
	if err != nil {
		return nil, err
	}
	d.Size = int64(len(raw))
	return raw, k.to.Push(ctx, d, bytes.NewReader(raw))
}
