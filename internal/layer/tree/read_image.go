package tree

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/erofs"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// image is a tree that is an EROFS filesystem in a file.
type image struct {
	fs   *erofs.FS
	host *Host
}

// OpenImage opens a tree that is an image: fs.ErrNotExist, store.ErrDamaged. The caller closes it.
func (h *Host) OpenImage(path string) (Tree, error) {
	m, err := erofs.Open(path)
	if err != nil {
		return nil, damagedImage(err)
	}
	return &image{m, h}, nil
}

func damagedImage(err error) error {
	if errors.Is(err, erofs.ErrDamaged) {
		return fmt.Errorf("its tree is %w: %w", store.ErrDamaged, err)
	}
	return err
}

func (t *image) Close() { _ = t.fs.Close() }

func (t *image) Open(name string) (io.ReadCloser, error) {
	r, err := t.fs.Open(name)
	if err != nil {
		return nil, damagedImage(err)
	}
	return io.NopCloser(r), nil
}

func (t *image) Lstat(name string) (*view.Entry, error) {
	n, err := t.fs.Lstat(name)
	if err != nil {
		return nil, damagedImage(err)
	}
	e := entryOf(name, statOf(n))
	return e, t.host.takeXattrs(e, n.Xattrs)
}

// unchanged looks at what damage can change. It cannot add names.
func (t *image) unchanged(entries []*view.Entry) bool {
	for _, e := range entries {
		if e.Path == "." || e.Hardlink != "" {
			continue
		}
		n, err := t.fs.Lstat(e.Path)
		if err != nil || !looksLike(statOf(n), e) {
			return false
		}
	}
	return true
}

func (t *image) Walk(ctx context.Context) ([]*view.Entry, error) {
	w := &imageWalk{tree: t, names: make(map[uint64][]*view.Entry), dirs: make(map[uint64]bool)}
	if err := w.dir(ctx, "."); err != nil {
		return nil, damagedImage(err)
	}
	return sortWalk(w.entries, w.names), nil
}

type imageWalk struct {
	tree    *image
	entries []*view.Entry
	names   map[uint64][]*view.Entry // of files that have several
	dirs    map[uint64]bool          // directories, by inode
}

func (w *imageWalk) dir(ctx context.Context, dir string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// Where the filesystem is damaged, directories may lie in themselves.
	info, err := w.tree.fs.Lstat(dir)
	if err != nil {
		return err
	}
	if w.dirs[info.Inode] {
		return fmt.Errorf("%w: %q is there twice", erofs.ErrDamaged, dir)
	}
	w.dirs[info.Inode] = true
	names, err := w.tree.fs.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		e, err := w.entry(view.Join(dir, name))
		if err != nil {
			return err
		}
		w.entries = append(w.entries, e)
		if e.IsDir() {
			if err := w.dir(ctx, e.Path); err != nil {
				return err
			}
		}
	}
	return nil
}

// entry describes one file, as treeWalk's does.
func (w *imageWalk) entry(name string) (*view.Entry, error) {
	n, err := w.tree.fs.Lstat(name)
	if err != nil {
		return nil, err
	}
	e := entryOf(name, statOf(n))
	if e.Type == view.TypeWhiteout {
		return e, nil
	}
	if e.Type == view.TypeSymlink {
		target, err := w.tree.fs.Open(name)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(io.LimitReader(target, unix.PathMax))
		if err != nil {
			return nil, err
		}
		e.Linkname = string(b)
	}
	if n.Links > 1 && !e.IsDir() {
		w.names[n.Inode] = append(w.names[n.Inode], e)
	}
	return e, w.tree.host.takeXattrs(e, n.Xattrs)
}

func statOf(n *erofs.Info) *unix.Stat_t {
	st := &unix.Stat_t{Mode: n.Mode, Uid: n.UID, Gid: n.GID, Size: n.Size, Rdev: n.Device}
	st.Mtim.Sec, st.Mtim.Nsec = n.Seconds, int64(n.Nanoseconds)
	return st
}
