package layer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/erofs"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// imageTree is a tree that is one file.
type imageTree struct {
	image *erofs.Image
	rules hostRules
}

func openImage(path string, rules hostRules) (storedTree, error) {
	m, err := erofs.Open(path)
	if err != nil {
		return nil, damagedImage(err)
	}
	return &imageTree{m, rules}, nil
}

func damagedImage(err error) error {
	if errors.Is(err, erofs.ErrDamaged) {
		return fmt.Errorf("its tree is %w: %w", store.ErrDamaged, err)
	}
	return err
}

// image returns a layer's tree that is one file, which stays open: those who read one file of it read more.
func (l *Layers) image(id digest.Digest) (storedTree, error) {
	if t, ok := l.images.Load(id); ok {
		return t.(storedTree), nil
	}
	t, err := openImage(l.path(id, treeImage), l.host())
	if err != nil {
		return nil, err
	}
	if first, ok := l.images.LoadOrStore(id, t); ok {
		t.close()
		return first.(storedTree), nil
	}
	return t, nil
}

func (t *imageTree) close() { _ = t.image.Close() }

func (t *imageTree) open(name string) (io.ReadCloser, error) {
	r, err := t.image.Open(name)
	if err != nil {
		return nil, damagedImage(err)
	}
	return io.NopCloser(r), nil
}

// unchanged compares what can have been damaged; nobody adds names to an image.
func (t *imageTree) unchanged(entries []*view.Entry) bool {
	for _, e := range entries {
		if e.Path == "." || e.Hardlink != "" {
			continue
		}
		n, err := t.image.Lstat(e.Path)
		if err != nil || !looksLike(statOf(n), e) {
			return false
		}
	}
	return true
}

func (t *imageTree) walk(ctx context.Context) ([]*view.Entry, error) {
	w := &imageWalk{tree: t, names: make(map[uint64][]*view.Entry)}
	if err := w.dir(ctx, "."); err != nil {
		return nil, damagedImage(err)
	}
	return sortWalk(w.entries, w.names), nil
}

type imageWalk struct {
	tree    *imageTree
	entries []*view.Entry
	names   map[uint64][]*view.Entry // of files that have several
}

func (w *imageWalk) dir(ctx context.Context, dir string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	names, err := w.tree.image.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		e, err := w.entry(joinPath(dir, name))
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
	n, err := w.tree.image.Lstat(name)
	if err != nil {
		return nil, err
	}
	e := entryOf(name, statOf(n))
	if e.Type == view.TypeWhiteout {
		return e, nil
	}
	if e.Type == view.TypeSymlink {
		target, err := w.tree.image.Open(name)
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
	return e, w.tree.rules.takeXattrs(e, n.Xattrs)
}

func statOf(n *erofs.Info) *unix.Stat_t {
	st := &unix.Stat_t{Mode: n.Mode, Uid: n.UID, Gid: n.GID, Size: n.Size, Rdev: n.Device}
	st.Mtim.Sec, st.Mtim.Nsec = n.Seconds, int64(n.Nanoseconds)
	return st
}
