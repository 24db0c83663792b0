package containers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/view"
)

// copyUpper copies what a container has changed into a new directory, with all that overlayfs marks: the container may run, and keeps its own.
// It makes another directory beside the new one.
func copyUpper(ctx context.Context, from, to string) (err error) {
	u := &upperCopy{to: to, links: to + "-links"}
	if err := os.Mkdir(u.links, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, u.close(), os.RemoveAll(u.links)) }()
	if err := walkTree(ctx, from, u); err != nil {
		return fmt.Errorf("copy the changes of the container: %w", err)
	}
	return nil
}

// upperCopy is the visitor that copies.
type upperCopy struct {
	to    string
	links string     // a directory with a name of each copy that gets more names: its inode number
	dirs  []*os.File // the copies of the directories that the walk is in
}

// name is the path of a copy, which is short.
func (u *upperCopy) name(f *found) string {
	if len(u.dirs) == 0 {
		return u.to
	}
	return filepath.Join(procPath(u.dirs[len(u.dirs)-1]), path.Base(f.path))
}

func (u *upperCopy) visit(f *found) error {
	to, first := u.name(f), ""
	switch kind := f.st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFSOCK: // which no layer has
		return nil
	case kind != unix.S_IFDIR && f.st.Nlink > 1:
		first = filepath.Join(u.links, strconv.FormatUint(f.st.Ino, 10))
		if err := os.Link(first, to); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := copyOne(f, to); err != nil {
		return err
	}
	if first != "" {
		return os.Link(to, first)
	}
	if f.st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	dir, err := os.Open(to)
	if err == nil {
		u.dirs = append(u.dirs, dir)
	}
	return err
}

// leave sets the times of a directory when it has its files.
func (u *upperCopy) leave(f *found) error {
	last := len(u.dirs) - 1
	dir := u.dirs[last]
	u.dirs = u.dirs[:last]
	return errors.Join(setTimes(procPath(dir), &f.st, 0), dir.Close())
}

func (u *upperCopy) close() error {
	var errs []error
	for _, d := range u.dirs { // of a walk that has failed
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}

// copyOne copies a file, or makes a directory, with its metadata. A change of the owner removes capabilities.
func copyOne(f *found, to string) error {
	if err := create(f, to); err != nil {
		return err
	}
	if err := os.Lchown(to, int(f.st.Uid), int(f.st.Gid)); err != nil {
		return err
	}
	if err := copyAttributes(procPath(f.at), to); err != nil {
		return err
	}
	if f.st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(to, f.st.Mode&0o7777); err != nil {
			return &fs.PathError{Op: "chmod", Path: to, Err: err}
		}
	}
	return setTimes(to, &f.st, unix.AT_SYMLINK_NOFOLLOW)
}

func create(f *found, to string) error {
	switch f.st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return os.Mkdir(to, 0o700)
	case unix.S_IFLNK:
		target, err := readlink(f.at)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	case unix.S_IFREG:
		return copyFile(procPath(f.at), to)
	}
	if err := unix.Mknod(to, f.st.Mode&^0o7777|0o600, int(f.st.Rdev)); err != nil {
		return &fs.PathError{Op: "mknod", Path: to, Err: err}
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
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

func setTimes(name string, st *unix.Stat_t, flags int) error {
	err := unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{st.Atim, st.Mtim}, flags)
	if err != nil {
		return &fs.PathError{Op: "set time", Path: name, Err: err}
	}
	return nil
}

// maxAttribute is the kernel's limit of an extended attribute, and of the names of a file's.
const maxAttribute = 64 << 10

func copyAttributes(from, to string) error {
	names := make([]byte, maxAttribute)
	n, err := unix.Listxattr(from, names)
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
		size, err := unix.Getxattr(from, name, value)
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
	release, err := c.holdFiles()
	if err != nil {
		return nil, err
	}
	defer release()
	lower, err := c.layers.View(ctx, c.image.Chain())
	if err != nil {
		return nil, err
	}
	changes := &changeList{ctx: ctx, lower: lower, list: []container.FilesystemChange{}}
	if err := walkTree(ctx, c.root.Upper, changes); err != nil {
		return nil, fmt.Errorf("list the changes of the container: %w", err)
	}
	return changes.list, nil
}

// changeList is the visitor that lists changes.
type changeList struct {
	ctx   context.Context
	lower view.View
	list  []container.FilesystemChange
}

func (l *changeList) visit(f *found) error {
	if f.path == "/" {
		return nil
	}
	kind, err := l.kind(f)
	if err == nil {
		l.list = append(l.list, container.FilesystemChange{Kind: kind, Path: f.path})
	}
	return err
}

func (*changeList) leave(*found) error { return nil }

func (l *changeList) kind(f *found) (container.ChangeType, error) {
	if f.st.Mode&unix.S_IFMT == unix.S_IFCHR && f.st.Rdev == 0 {
		return container.ChangeDelete, nil
	}
	_, err := l.lower.Lstat(l.ctx, view.Clean(f.path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return container.ChangeAdd, nil
	case err != nil:
		return container.ChangeModify, err
	}
	return container.ChangeModify, nil
}
