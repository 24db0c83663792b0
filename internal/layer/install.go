package layer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/store"
)

// draft is a layer being made, in a directory of its own in tmp/.
type draft struct {
	temp  *store.Temp
	toc   []byte
	sum   toc.Summary
	tree  string // a tree to move into the layer, or ""
	blobs blobRecord
}

func (d *draft) dir() string { return filepath.Join(d.temp.Path, "layer") }

// preparedTree is the path of the tree in the layer's directory. Its name depends on its kind.
func (d *draft) preparedTree() string { return filepath.Join(d.dir(), filepath.Base(d.tree)) }

// install makes the draft the layer of its DiffID. If another process was first, it adds to the layer that exists
// what that lacks.
func (l *Layers) install(ctx context.Context, d *draft) (*Layer, error) {
	id := d.sum.DiffID
	if err := l.prepare(d); err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	err := os.Rename(d.dir(), l.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(l.store.Path("layers"), 0o755); err == nil {
			err = os.Rename(d.dir(), l.path(id))
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
	if err := os.Mkdir(d.dir(), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.dir(), tocFile), d.toc, 0o644); err != nil {
		return err
	}
	if err := d.blobs.writeDraft(d.dir()); err != nil {
		return err
	}
	if d.tree == "" {
		return nil
	}
	return os.Rename(d.tree, d.preparedTree())
}

// complete moves from the draft into the layer of the store what that lacks.
func (l *Layers) complete(ctx context.Context, d *draft) error {
	id := d.sum.DiffID
	lock, err := l.lock(ctx, id)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Unlock() }()
	// A table from which the tar can be written, or that has digests, is better than one without.
	if s, err := l.summary(id); err != nil || d.sum.Canonical && !s.Canonical || s.Undigested && !d.sum.Undigested {
		if err := os.Rename(filepath.Join(d.dir(), tocFile), l.path(id, tocFile)); err != nil {
			return err
		}
		l.summaries.Delete(id)
	}
	if err := l.addBlobs(id, d.blobs.Stored); err != nil {
		return err
	}
	if d.tree == "" || l.unpacked(id) {
		return nil
	}
	return os.Rename(d.preparedTree(), l.path(id, filepath.Base(d.tree)))
}
