package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/view"
)

// Commit makes a layer of an overlay upper directory, in the same filesystem as the store, by renaming it into place;
// nothing may write to it any more. The tar is hashed as it would be written. The upper's root directory is no part of
// the layer, as in BuildKit's and Docker's layers, and becomes plain (0755, of root) again; sockets are removed. After
// an error what is left of upper is the caller's to remove.
func (l *Layers) Commit(ctx context.Context, upper string) (*Layer, error) {
	temp, err := l.store.TempDir("layer")
	if err != nil {
		return nil, err
	}
	defer func() { _ = temp.Remove() }()
	d := &draft{temp: temp}
	if err := l.recordUpper(ctx, upper, d); err != nil {
		return nil, fmt.Errorf("commit layer: %w", err)
	}
	d.tree = filepath.Join(temp.Path, treeDir)
	if err := os.Rename(upper, d.tree); err != nil {
		return nil, fmt.Errorf("commit layer: %w", err)
	}
	if err := plainRoot(d.tree, l.host()); err != nil {
		return nil, fmt.Errorf("commit layer: %w", err)
	}
	return l.install(ctx, d)
}

// plainRoot makes a tree's root directory what it is in layers that do not describe it.
func plainRoot(tree string, rules hostRules) error {
	err := unix.Lremovexattr(tree, rules.overlayXattr("opaque"))
	if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
		return &fs.PathError{Op: "remove attribute", Path: tree, Err: err}
	}
	if err := os.Lchown(tree, 0, 0); err != nil {
		return err
	}
	if err := os.Chmod(tree, 0o755); err != nil {
		return err
	}
	return os.Chtimes(tree, time.Unix(0, 0), time.Unix(0, 0))
}

func (l *Layers) recordUpper(ctx context.Context, upper string, d *draft) error {
	tree, err := openFolder(upper, l.host())
	if err != nil {
		return err
	}
	defer tree.close()
	return recordTree(ctx, tree, d)
}

// recordTree hashes the tar of a tree and makes the draft's table of contents.
func recordTree(ctx context.Context, tree storedTree, d *draft) error {
	entries, err := tree.walk(ctx)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := checkEntry(e); err != nil {
			return err
		}
	}
	r := &recording{entries: entries, open: func(_ context.Context, i int) (io.ReadCloser, error) {
		return tree.open(entries[i].Path)
	}}
	return r.hash(ctx, d)
}

// fileOpener opens files beneath a root for several goroutines.
type fileOpener struct {
	root int
	mu   sync.Mutex
	idle []*dirs
}

func (o *fileOpener) open(name string) (*os.File, error) {
	o.mu.Lock()
	var d *dirs
	if n := len(o.idle); n > 0 {
		d, o.idle = o.idle[n-1], o.idle[:n-1]
	} else {
		d = newDirs(o.root)
	}
	o.mu.Unlock()
	f, err := d.openFile(name)
	o.mu.Lock()
	o.idle = append(o.idle, d)
	o.mu.Unlock()
	return f, err
}

func (o *fileOpener) close() {
	for _, d := range o.idle {
		d.close()
	}
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
	g.Go(func() error { return w.dir(ctx, g, ".") })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return sortWalk(w.entries, w.inodes), nil
}

// sortWalk sorts what was found. The first of the names of a file is the one with the content.
func sortWalk[K comparable](entries []*view.Entry, names map[K][]*view.Entry) []*view.Entry {
	byPath := func(a, b *view.Entry) int { return strings.Compare(a.Path, b.Path) }
	slices.SortFunc(entries, byPath)
	for _, same := range names {
		slices.SortFunc(same, byPath)
		for _, e := range same[1:] {
			e.Hardlink = same[0].Path
		}
	}
	return entries
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
		name := joinPath(dir, item.Name())
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

// entryOf is what stat(2) says of a tree's file: a device 0:0 is a whiteout.
func entryOf(name string, st *unix.Stat_t) *view.Entry {
	if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
		return &view.Entry{Path: name, Type: view.TypeWhiteout}
	}
	e := view.StatEntry(st)
	e.Path = name
	return e
}

// takeXattrs gives an entry the attributes that are the file's own. Overlayfs's redirects and metadata-only copies are refused:
// a layer with them would mean nothing outside of the mount that made it.
func (h hostRules) takeXattrs(e *view.Entry, attrs map[string]string) error {
	for name, value := range attrs {
		if !view.OverlayXattr(name) {
			continue
		}
		switch name {
		case h.overlayXattr("opaque"):
			e.Opaque = e.IsDir() && value == "y"
		case h.overlayXattr("redirect"), h.overlayXattr("metacopy"):
			return fmt.Errorf("%q was written through an overlay mount with redirect_dir or metacopy", e.Path)
		}
		delete(attrs, name)
	}
	if len(attrs) > 0 {
		e.Xattrs = attrs
	}
	return nil
}
