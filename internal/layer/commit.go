package layer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/view"
)

// Commit makes a layer of an overlay upper directory, in the same filesystem as the store, by renaming it into place;
// nothing may write to it any more. What does not change base is removed from it, unless base is nil. The tar is hashed as it
// would be written. The upper's root directory is no part of the layer, as in BuildKit's and Docker's layers, and becomes
// plain (0755, of root) again; sockets are removed. After an error what is left of upper is the caller's to remove.
func (l *Layers) Commit(ctx context.Context, upper string, base view.View) (*Layer, error) {
	temp, err := l.store.TempDir("layer")
	if err != nil {
		return nil, err
	}
	defer func() { _ = temp.Remove() }()
	d := &draft{temp: temp}
	if d.toc, d.sum, err = l.recordUpper(ctx, upper, base); err != nil {
		return nil, fmt.Errorf("commit layer: %w", err)
	}
	d.tree = filepath.Join(temp.Path, tree.DirectoryName)
	if err := os.Rename(upper, d.tree); err != nil {
		return nil, fmt.Errorf("commit layer: %w", err)
	}
	if err := plainRoot(d.tree, l.trees.OverlayXattr("opaque")); err != nil {
		return nil, fmt.Errorf("commit layer: %w", err)
	}
	return l.install(ctx, d)
}

// plainRoot makes a tree's root directory what it is in layers that do not describe it. xattr is what marks it opaque.
func plainRoot(path, xattr string) error {
	// Without CAP_SYS_ADMIN no file has attributes of the class trusted, and removing one is not permitted.
	_, err := unix.Lgetxattr(path, xattr, nil)
	if err == nil {
		err = unix.Lremovexattr(path, xattr)
	}
	if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
		return &fs.PathError{Op: "remove attribute", Path: path, Err: err}
	}
	if err := os.Lchown(path, 0, 0); err != nil {
		return err
	}
	if err := os.Chmod(path, 0o755); err != nil {
		return err
	}
	return os.Chtimes(path, time.Unix(0, 0), time.Unix(0, 0))
}

// recordUpper makes the table of contents of a directory that is not yet the tree of a layer.
func (l *Layers) recordUpper(ctx context.Context, path string, base view.View) ([]byte, toc.Summary, error) {
	open := func() (tree.Tree, error) { return l.trees.OpenUpper(ctx, path, base) }
	if base == nil {
		open = func() (tree.Tree, error) { return l.trees.OpenDirectory(path) }
	}
	t, err := open()
	if err != nil {
		return nil, toc.Summary{}, err
	}
	defer t.Close()
	return recordTree(ctx, t)
}
