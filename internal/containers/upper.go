package containers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/view"
)

// copyUpper copies what a container has changed into a new directory, with all that overlayfs marks: the container may run, and keeps its own.
func copyUpper(ctx context.Context, from, to string) error {
	u := &upperCopy{from: from, to: to, links: map[uint64]string{}}
	err := filepath.WalkDir(from, func(name string, e fs.DirEntry, err error) error {
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err == nil {
			err = u.copy(strings.TrimPrefix(name, from))
		}
		if errors.Is(err, fs.ErrNotExist) && name != from { // removed in the meantime
			if e != nil && e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("copy the changes of the container: %w", err)
	}
	for _, d := range slices.Backward(u.dirs) {
		if err := setTimes(filepath.Join(to, d.name), &d.st); err != nil {
			return err
		}
	}
	return nil
}

type upperCopy struct {
	from, to string
	links    map[uint64]string
	dirs     []copiedDir
}

type copiedDir struct {
	name string
	st   unix.Stat_t
}

func (u *upperCopy) copy(name string) error {
	from, to := filepath.Join(u.from, name), filepath.Join(u.to, name)
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFSOCK { // which no layer has
		return nil
	}
	if kind != unix.S_IFDIR && st.Nlink > 1 {
		if first, ok := u.links[st.Ino]; ok {
			return os.Link(first, to)
		}
		u.links[st.Ino] = to
	}
	if err := create(from, to, &st); err != nil {
		return err
	}
	if err := copyAttributes(from, to); err != nil {
		return err
	}
	if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if kind != unix.S_IFLNK {
		if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
			return &fs.PathError{Op: "chmod", Path: name, Err: err}
		}
	}
	if kind == unix.S_IFDIR {
		u.dirs = append(u.dirs, copiedDir{name, st})
		return nil
	}
	return setTimes(to, &st)
}

func create(from, to string, st *unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return os.Mkdir(to, 0o700)
	case unix.S_IFLNK:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	case unix.S_IFREG:
		return copyFile(from, to)
	}
	if err := unix.Mknod(to, st.Mode&^0o7777|0o600, int(st.Rdev)); err != nil {
		return &fs.PathError{Op: "mknod", Path: to, Err: err}
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func setTimes(name string, st *unix.Stat_t) error {
	err := unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return &fs.PathError{Op: "set time", Path: name, Err: err}
	}
	return nil
}

// maxAttribute is the kernel's limit of an extended attribute, and of the names of a file's.
const maxAttribute = 64 << 10

func copyAttributes(from, to string) error {
	names := make([]byte, maxAttribute)
	n, err := unix.Llistxattr(from, names)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "list attributes", Path: from, Err: err}
	}
	value := make([]byte, maxAttribute)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if name == "" || strings.HasPrefix(name, "security.selinux") {
			continue
		}
		size, err := unix.Lgetxattr(from, name, value)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err == nil {
			err = unix.Lsetxattr(to, name, value[:size], 0)
		}
		if err != nil && !errors.Is(err, unix.ENOTSUP) {
			return &fs.PathError{Op: "copy attribute " + name, Path: from, Err: err}
		}
	}
	return nil
}

// Changes are the files that the container has added, changed or removed.
func (c *Container) Changes(ctx context.Context) ([]container.FilesystemChange, error) {
	release, err := c.keep()
	if err != nil {
		return nil, err
	}
	defer release()
	lower, err := c.layers.View(ctx, c.image.Chain())
	if err != nil {
		return nil, err
	}
	list := []container.FilesystemChange{}
	err = filepath.WalkDir(c.root.Upper, func(name string, e fs.DirEntry, err error) error {
		rel := strings.TrimPrefix(name, c.root.Upper)
		if err != nil || rel == "" {
			return ignoreMissing(err)
		}
		kind, err := changeKind(ctx, lower, rel, e)
		list = append(list, container.FilesystemChange{Kind: kind, Path: rel})
		return ignoreMissing(err)
	})
	return list, err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func changeKind(ctx context.Context, lower view.View, name string, e fs.DirEntry) (container.ChangeType, error) {
	info, err := e.Info()
	if err != nil {
		return container.ChangeModify, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
		return container.ChangeDelete, nil
	}
	_, err = lower.Lstat(ctx, view.Clean(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return container.ChangeAdd, nil
	case err != nil:
		return container.ChangeModify, err
	}
	return container.ChangeModify, nil
}
