package tree

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
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/view"
)

// directory is a tree that is a directory.
type directory struct {
	path string
	root int
	host *Host

	mu   sync.Mutex
	idle []*dirs
}

// OpenDirectory opens a tree that is a directory. The caller closes it.
func (h *Host) OpenDirectory(path string) (Tree, error) {
	root, err := openRoot(path)
	if err != nil {
		return nil, err
	}
	return &directory{path: path, root: root, host: h}, nil
}

func (t *directory) Close() {
	for _, d := range t.idle {
		d.close()
	}
	_ = unix.Close(t.root)
}

func (t *directory) Open(name string) (io.ReadCloser, error) {
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

func (t *directory) Lstat(name string) (e *view.Entry, err error) {
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
		return t.host.takeXattrs(e, attrs)
	})
}

// with lends do a set of open directories.
func (t *directory) with(do func(*dirs) error) error {
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

func (t *directory) unchanged(entries []*view.Entry) bool {
	d := newDirs(t.root)
	defer d.close()
	for _, e := range entries {
		if !d.unchanged(e, t.host) {
			return false
		}
	}
	return true
}

func (d *dirs) unchanged(e *view.Entry, host *Host) bool {
	if e.Path == "." || e.Hardlink != "" || host.Nested() && toc.IsDevice(e) {
		return true
	}
	at, base, err := d.parent(e.Path)
	if err != nil {
		return false
	}
	var st unix.Stat_t
	if unix.Fstatat(at, base, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false
	}
	return looksLike(&st, e)
}

func (t *directory) Walk(ctx context.Context) ([]*view.Entry, error) {
	return (&treeWalk{path: t.path, host: t.host}).walk(ctx)
}

// treeWalk lists a directory tree. It reads directories in parallel.
type treeWalk struct {
	path string
	host *Host

	mu      sync.Mutex
	entries []*view.Entry
	inodes  map[inode][]*view.Entry // files with several names
}

type inode struct{ dev, ino uint64 }

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

// removeSocket removes a socket, which no layer can hold. Its directory keeps its time, which has been read already.
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

// entry describes one file. Overlayfs's whiteouts and attributes become those of the entry.
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
	if err := w.host.takeXattrs(e, attrs); err != nil {
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
