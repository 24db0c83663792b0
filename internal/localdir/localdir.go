// Package localdir writes filesystems into directories of the host.
package localdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/view"
)

// Write writes a filesystem into a directory, as `--output type=local` does: files belong to the user who builds, files that
// are there stay unless one of the same name replaces them, and devices are left out where the user may make none. With
// remove, files that v does not have are removed (mode=delete). Nothing is written outside dir, whatever symlinks the
// filesystem or the directory has.
func Write(ctx context.Context, v view.View, dir string, remove bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("output directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("output directory: %w", err)
	}
	defer func() { _ = root.Close() }()
	w := &writer{ctx: ctx, view: v, root: root, base: ".", remove: remove}
	if err := w.children("."); err != nil {
		return fmt.Errorf("write output to %s: %w", dir, err)
	}
	return nil
}

// Copy copies the directory at name of a filesystem, with owners and modes, to a new directory, which is empty where name
// is not a directory.
func Copy(ctx context.Context, v view.View, name, dir string) (err error) {
	e, err := v.Lstat(ctx, name)
	if err != nil || !e.IsDir() {
		return os.Mkdir(dir, 0o755)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	w := &writer{ctx: ctx, view: v, root: root, base: name, owners: true}
	if err := w.children(name); err != nil {
		return err
	}
	return w.metadata(e)
}

type writer struct {
	ctx    context.Context
	view   view.View
	root   *os.Root
	base   string // the directory of the view that root is a copy of
	owners bool   // files keep their owners
	remove bool   // what the view does not have is removed
}

// place is where an entry goes, relative to root.
func (w *writer) place(name string) string {
	if name == w.base {
		return "."
	}
	if w.base == "." {
		return name
	}
	return strings.TrimPrefix(name, w.base+"/")
}

func (w *writer) children(name string) error {
	entries, err := w.view.ReadDir(w.ctx, name)
	if err != nil {
		return err
	}
	if w.remove {
		if err := w.removeOthers(name, entries); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if err := w.entry(e); err != nil {
			return err
		}
	}
	return nil
}

// removeOthers removes the files of a directory that are not among the entries.
func (w *writer) removeOthers(name string, entries []*view.Entry) error {
	dir, err := w.root.Open(w.place(name))
	if err != nil {
		return err
	}
	there, err := dir.Readdirnames(-1)
	if err := errors.Join(err, dir.Close()); err != nil {
		return err
	}
	keep := make(map[string]bool, len(entries))
	for _, e := range entries {
		keep[path.Base(e.Path)] = true
	}
	for _, base := range there {
		if keep[base] {
			continue
		}
		if err := w.root.RemoveAll(path.Join(w.place(name), base)); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) entry(e *view.Entry) error {
	if err := w.makeRoom(e); err != nil {
		return err
	}
	if e.Hardlink != "" && (w.base == "." || strings.HasPrefix(e.Hardlink, w.base+"/")) {
		return w.link(e)
	}
	switch e.Type {
	case view.TypeDir:
		return w.dir(e)
	case view.TypeRegular:
		return w.file(e)
	case view.TypeSymlink:
		if err := w.root.Symlink(e.Linkname, w.place(e.Path)); err != nil {
			return err
		}
		return w.linkTime(e)
	case view.TypeFifo, view.TypeChar, view.TypeBlock:
		return w.special(e)
	}
	return nil
}

// link makes another name of a file that is among those that are copied.
func (w *writer) link(e *view.Entry) error {
	err := w.root.Link(w.place(e.Hardlink), w.place(e.Path))
	if errors.Is(err, fs.ErrNotExist) && isDevice(e) {
		return nil // its first name was left out
	}
	return err
}

// makeRoom removes a file of the same name, unless both are directories.
func (w *writer) makeRoom(e *view.Entry) error {
	info, err := w.root.Lstat(w.place(e.Path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || (info.IsDir() && e.IsDir()) {
		return err
	}
	return w.root.RemoveAll(w.place(e.Path))
}

func (w *writer) dir(e *view.Entry) error {
	if err := w.root.Mkdir(w.place(e.Path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := w.children(e.Path); err != nil {
		return err
	}
	return w.metadata(e)
}

func (w *writer) file(e *view.Entry) error {
	src, err := w.view.Open(w.ctx, e.Path)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	dst, err := w.root.OpenFile(w.place(e.Path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if err := errors.Join(err, dst.Close()); err != nil {
		return err
	}
	return w.metadata(e)
}

func (w *writer) metadata(e *view.Entry) error {
	at := w.place(e.Path)
	if w.owners {
		if err := w.root.Lchown(at, e.UID, e.GID); err != nil {
			return err
		}
	}
	if err := w.root.Chmod(at, e.FileMode()); err != nil {
		return err
	}
	return w.root.Chtimes(at, time.Now(), e.ModTime)
}

// special makes a pipe or a device.
func (w *writer) special(e *view.Entry) error {
	kinds := map[view.Type]uint32{view.TypeFifo: unix.S_IFIFO, view.TypeChar: unix.S_IFCHR, view.TypeBlock: unix.S_IFBLK}
	err := w.inParent(e, func(dir int, base string) error {
		return unix.Mknodat(dir, base, kinds[e.Type]|0o600, int(unix.Mkdev(uint32(e.Major), uint32(e.Minor))))
	})
	switch {
	case errors.Is(err, fs.ErrPermission) && isDevice(e):
		return nil
	case err != nil:
		return &fs.PathError{Op: "make", Path: w.place(e.Path), Err: err}
	}
	return w.metadata(e)
}

func isDevice(e *view.Entry) bool { return e.Type == view.TypeChar || e.Type == view.TypeBlock }

// linkTime sets a symlink's own time, and its owner.
func (w *writer) linkTime(e *view.Entry) error {
	if w.owners {
		if err := w.root.Lchown(w.place(e.Path), e.UID, e.GID); err != nil {
			return err
		}
	}
	ts := unix.NsecToTimespec(e.ModTime.UnixNano())
	return w.inParent(e, func(dir int, base string) error {
		return unix.UtimesNanoAt(dir, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// inParent calls do with the parent directory of e, opened inside the root, for system calls that os.Root does not have.
func (w *writer) inParent(e *view.Entry, do func(dir int, base string) error) error {
	at := w.place(e.Path)
	dir, err := w.root.Open(path.Dir(at))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return do(int(dir.Fd()), path.Base(at))
}
