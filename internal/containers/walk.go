package containers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// found is a file that a walk has opened (O_PATH). It stays the same, whatever processes put in its place.
type found struct {
	at   *os.File
	path string // from the top, which is /
	st   unix.Stat_t
}

// visitor is called for the files of a walk, a directory before the files in it.
type visitor interface {
	visit(*found) error
	leave(*found) error // a directory, after the files in it
}

// walkTree visits a directory and all that is in it, sorted. It follows no links, and paths may have any length: processes may write to the
// directory meanwhile, and what they remove is left out.
func walkTree(ctx context.Context, dir string, v visitor) error {
	at, err := os.OpenFile(dir, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	return walk(ctx, at, "/", 0, v)
}

// maxDepth bounds how deep directories are nested: a walk has each open, and the server has a limit of open files for all of its clients. The
// kernel resolves no deeper path at once.
const maxDepth = unix.PathMax / 2

var errTooDeep = fmt.Errorf("directories are nested deeper than %d", maxDepth)

// walk visits a file, and closes it. Errors have its path.
func walk(ctx context.Context, at *os.File, name string, depth int, v visitor) error {
	defer func() { _ = at.Close() }()
	if depth > maxDepth {
		return errTooDeep
	}
	f := &found{at: at, path: name}
	err := unix.Fstat(int(at.Fd()), &f.st)
	if err == nil {
		err = v.visit(f)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, withoutPath(err))
	}
	if f.st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	names, err := sortedNames(at)
	if err != nil {
		return fmt.Errorf("%s: %w", name, withoutPath(err))
	}
	for _, base := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		fd, err := unix.Openat(int(at.Fd()), base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) { // removed in the meantime
			continue
		}
		below := path.Join(name, base)
		if err != nil {
			return fmt.Errorf("%s: %w", below, err)
		}
		if err := walk(ctx, os.NewFile(uintptr(fd), base), below, depth+1, v); err != nil {
			return err
		}
	}
	if err := v.leave(f); err != nil {
		return fmt.Errorf("%s: %w", name, withoutPath(err))
	}
	return nil
}

// sortedNames are the names in a directory.
func sortedNames(dir *os.File) ([]string, error) {
	d, err := os.Open(procPath(dir))
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// procPath is a short path of an opened file.
func procPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// withoutPath is the cause of an error: its paths are those of descriptors and of the store.
func withoutPath(err error) error {
	var ofPath *fs.PathError
	var ofLink *os.LinkError
	switch {
	case errors.As(err, &ofPath):
		return ofPath.Err
	case errors.As(err, &ofLink):
		return ofLink.Err
	}
	return err
}
