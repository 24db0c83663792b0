package layer

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/view"
)

// folderTree is a tree that is a folder.
type folderTree struct {
	path  string
	root  int
	rules hostRules

	mu   sync.Mutex
	idle []*dirs
}

func openFolder(path string, rules hostRules) (*folderTree, error) {
	root, err := openRoot(path)
	if err != nil {
		return nil, err
	}
	return &folderTree{path: path, root: root, rules: rules}, nil
}

func (t *folderTree) close() {
	for _, d := range t.idle {
		d.close()
	}
	_ = unix.Close(t.root)
}

func (t *folderTree) open(name string) (io.ReadCloser, error) {
	var f *os.File
	err := t.with(func(d *dirs) (err error) {
		f, err = d.openFile(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (t *folderTree) lstat(name string) (e *view.Entry, err error) {
	return e, t.with(func(d *dirs) error {
		at, base, err := d.parent(name)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Fstatat(at, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &fs.PathError{Op: "lstat", Path: name, Err: err}
		}
		if e = entryOf(name, &st); !e.IsDir() {
			return nil
		}
		attrs, err := readXattrs(procPath(at, base))
		if err != nil {
			return err
		}
		return t.rules.takeXattrs(e, attrs)
	})
}

// with lends do a set of open directories.
func (t *folderTree) with(do func(*dirs) error) error {
	t.mu.Lock()
	var d *dirs
	if n := len(t.idle); n > 0 {
		d, t.idle = t.idle[n-1], t.idle[:n-1]
	} else {
		d = newDirs(t.root)
	}
	t.mu.Unlock()
	err := do(d)
	t.mu.Lock()
	t.idle = append(t.idle, d)
	t.mu.Unlock()
	return err
}

func (t *folderTree) unchanged(entries []*view.Entry) bool {
	d := newDirs(t.root)
	defer d.close()
	for _, e := range entries {
		if !d.unchanged(e, t.rules) {
			return false
		}
	}
	return true
}

func (t *folderTree) walk(ctx context.Context) ([]*view.Entry, error) {
	return (&treeWalk{path: t.path, rules: t.rules}).walk(ctx)
}

// treeWalk lists an unpacked layer, reading its directories in parallel.
type treeWalk struct {
	path  string
	rules hostRules

	mu      sync.Mutex
	entries []*view.Entry
	inodes  map[inode][]*view.Entry // files with several names
}

type inode struct{ dev, ino uint64 }

// walk returns the entries sorted by path, the root not among them. Nothing is opened.
func (w *treeWalk) walk(ctx context.Context) ([]*view.Entry, error) {
	w.inodes = make(map[inode][]*view.Entry)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0) + 1)
	g.Go(crash.Guard(func() error { return w.dir(ctx, g, ".") }))
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return sortWalk(w.entries, w.inodes), nil
}

func (w *treeWalk) dir(ctx context.Context, g *errgroup.Group, dir string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	list, err := os.ReadDir(filepath.Join(w.path, dir))
	if err != nil {
		return err
	}
	entries := make([]*view.Entry, 0, len(list))
	for _, item := range list {
		name := view.Join(dir, item.Name())
		e, err := w.entry(name)
		if err != nil {
			return err
		}
		if e.Type == view.TypeSocket {
			if err := removeSocket(filepath.Join(w.path, name)); err != nil {
				return err
			}
			continue
		}
		entries = append(entries, e)
	}
	w.mu.Lock()
	w.entries = append(w.entries, entries...)
	w.mu.Unlock()
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if sub := e.Path; !g.TryGo(func() error { return w.dir(ctx, g, sub) }) {
			if err := w.dir(ctx, g, sub); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeSocket removes what no layer can hold. Its folder keeps its time, which has been read already.
func removeSocket(file string) error {
	dir := filepath.Dir(file)
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: dir, Err: err}
	}
	if err := os.Remove(file); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, dir, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// entry describes one file. What overlayfs means by a device 0:0 and by its own attributes is understood and left out.
func (w *treeWalk) entry(name string) (*view.Entry, error) {
	file := filepath.Join(w.path, name)
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	e := entryOf(name, &st)
	switch e.Type {
	case view.TypeWhiteout, view.TypeSocket:
		return e, nil
	case view.TypeSymlink:
		target, err := os.Readlink(file)
		if err != nil {
			return nil, err
		}
		e.Linkname = target
	}
	attrs, err := readXattrs(file)
	if err != nil {
		return nil, err
	}
	if err := w.rules.takeXattrs(e, attrs); err != nil {
		return nil, err
	}
	if st.Nlink > 1 && !e.IsDir() {
		w.mu.Lock()
		key := inode{st.Dev, st.Ino}
		w.inodes[key] = append(w.inodes[key], e)
		w.mu.Unlock()
	}
	return e, nil
}
