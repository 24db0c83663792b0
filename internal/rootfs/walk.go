package rootfs

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/view"
)

// walk reads the states of the files of a directory. Nothing else writes to it meanwhile.
type walk struct {
	ctx    context.Context
	path   string
	states map[string]state
	newest int64 // the latest change
	// found is called for each file, a directory before its files; nil for nothing.
	found func(name string, st *unix.Stat_t) error
}

func (w *walk) dir(name string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	full := filepath.Join(w.path, name)
	list, err := os.ReadDir(full)
	if err != nil {
		return err
	}
	for _, item := range list {
		at := view.Join(name, item.Name())
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(w.path, at), &st); err != nil {
			return &os.PathError{Op: "lstat", Path: at, Err: err}
		}
		if unlayered(&st) {
			if err := removeQuietly(full, item.Name()); err != nil {
				return err
			}
			continue
		}
		s := stateOf(&st)
		w.states[at], w.newest = s, max(w.newest, s.changeTime)
		if w.found != nil {
			if err := w.found(at, &st); err != nil {
				return err
			}
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			if err := w.dir(at); err != nil {
				return err
			}
		}
	}
	return nil
}

// unlayered reports whether no layer can hold a file: a socket, and a device 0:0, which is a whiteout for overlayfs.
func unlayered(st *unix.Stat_t) bool {
	kind := st.Mode & unix.S_IFMT
	return kind == unix.S_IFSOCK || kind == unix.S_IFCHR && st.Rdev == 0
}

// removeQuietly removes a file. Its directory keeps its time.
func removeQuietly(dir, name string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, dir, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}
