package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/build"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/store"
)

// bakeLinks hand the results of targets to those that have them as contexts. A result is an OCI layout in a temporary
// folder, with manifests and configs alone: the layers are in the store, where the build that reads the layout looks first.
// So nothing is packed or copied, several platforms stay together, and no name is given that somebody else could see.
type bakeLinks struct {
	app    *App
	tmp    *store.Temp
	wanted map[string]bool        // the targets that others need
	before map[digest.Digest]bool // images that were in the store at the beginning
	mu     sync.Mutex
	hidden []digest.Digest // images that were only made for others
}

func newBakeLinks(app *App, targets map[string]*bakeTarget) (*bakeLinks, error) {
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

// add takes the result of a target.
func (l *bakeLinks) add(t *bakeTarget, res *build.Result) error {
	if !l.wanted[t.name] && !t.hidden {
		return nil
	}
	root := res.Image.Root // what was built, before a registry had it packed
	if root.Digest == "" {
		root = res.Root
	}
	w := &layoutWriter{store: l.app.Store, dir: filepath.Join(l.tmp.Path, t.name)}
	if err := w.write(root); err != nil {
		return fmt.Errorf("keep the result for other targets: %w", err)
	}
	if t.hidden {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, id := range w.images {
			if !l.before[id] {
				l.hidden = append(l.hidden, id)
			}
		}
	}
	return nil
}

// remove takes away what was only there for other targets. An image that has got a name meanwhile, or runs, is somebody's.
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

// layoutWriter writes an image without its layers, or an index of such, as an OCI layout
// (https://github.com/opencontainers/image-spec/blob/main/image-layout.md).
type layoutWriter struct {
	store  *store.Store
	dir    string
	images []digest.Digest // configs
}

func (w *layoutWriter) write(root ocispec.Descriptor) error {
	if err := os.MkdirAll(filepath.Join(w.dir, ocispec.ImageBlobsDir, "sha256"), 0o755); err != nil {
		return err
	}
	if err := w.manifests(root); err != nil {
		return err
	}
	root.Annotations = nil
	return errors.Join(
		w.json(ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}),
		w.json(ocispec.ImageIndexFile, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{root}}),
	)
}

func (w *layoutWriter) json(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.dir, name), data, 0o644)
}

func (w *layoutWriter) manifests(root ocispec.Descriptor) error {
	data, err := w.blob(root.Digest)
	if err != nil {
		return err
	}
	var m struct {
		Config    ocispec.Descriptor   `json:"config"`
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("manifest %s: %w", root.Digest, err)
	}
	if !oci.IsIndex(root.MediaType) {
		w.images = append(w.images, m.Config.Digest)
		_, err := w.blob(m.Config.Digest)
		return err
	}
	for _, d := range m.Manifests {
		if err := w.manifests(d); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
}

func (w *layoutWriter) blob(d digest.Digest) ([]byte, error) {
	data, err := w.store.ReadBlob(d)
	if err != nil {
		return nil, err
	}
	return data, os.WriteFile(filepath.Join(w.dir, ocispec.ImageBlobsDir, "sha256", d.Encoded()), data, 0o644)
}
