package layer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/store"
)

// draft is a layer being made, in a folder of its own in tmp/.
type draft struct {
	temp *store.Temp
	toc  []byte
	sum  toc.Summary
	tree string // a tree to move into the layer, or ""
	pack []ocispec.Descriptor
}

func (d *draft) folder() string { return filepath.Join(d.temp.Path, "layer") }

// preparedTree is where the tree stands in the layer's folder: its name tells a folder from a file.
func (d *draft) preparedTree() string { return filepath.Join(d.folder(), filepath.Base(d.tree)) }

// install makes the draft the layer of its DiffID. Where another process was first, the layer that is there is given
// what it lacks.
func (l *Layers) install(ctx context.Context, d *draft) (*Layer, error) {
	id := d.sum.DiffID
	if err := l.prepare(d); err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	err := os.Rename(d.folder(), l.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(l.store.Path("layers"), 0o755); err == nil {
			err = os.Rename(d.folder(), l.path(id))
		}
	}
	fresh := err == nil
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		err = l.complete(ctx, d)
	}
	if err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	l.summaries.Delete(id) // of a layer that another process has pruned
	if d.tree != "" && fresh {
		l.verified.Store(id, true)
	}
	return l.Get(id)
}

func (l *Layers) prepare(d *draft) error {
	if err := os.Mkdir(d.folder(), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.folder(), tocFile), d.toc, 0o644); err != nil {
		return err
	}
	if len(d.pack) > 0 {
		if err := writePacks(filepath.Join(d.folder(), packsFile), d.pack); err != nil {
			return err
		}
	}
	if d.tree == "" {
		return nil
	}
	return os.Rename(d.tree, d.preparedTree())
}

// complete moves what the layer in the store lacks out of the draft into it.
func (l *Layers) complete(ctx context.Context, d *draft) error {
	id := d.sum.DiffID
	lock, err := l.lock(ctx, id)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Unlock() }()
	// A table that says how to pack the layer again, or has digests, is worth more than one that does not.
	if s, err := l.summary(id); err != nil || d.sum.Canonical && !s.Canonical || s.Undigested && !d.sum.Undigested {
		if err := os.Rename(filepath.Join(d.folder(), tocFile), l.path(id, tocFile)); err != nil {
			return err
		}
		l.summaries.Delete(id)
	}
	if err := l.addPacks(id, d.pack); err != nil {
		return err
	}
	if d.tree == "" || l.unpacked(id) {
		return nil
	}
	return os.Rename(d.preparedTree(), l.path(id, filepath.Base(d.tree)))
}
