package tree

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/view"
)

// dirs opens directories beneath a root, component by component and never through a symlink. It keeps the last one
// open, since neighbours in a layer mostly share their directory. It is not safe for concurrent use.
type dirs struct {
	root int // not owned
	name string
	fd   int
}

func newDirs(root int) *dirs { return &dirs{root: root, name: ".", fd: -1} }

// open returns a descriptor of the directory, good until the next call.
func (d *dirs) open(name string) (int, error) {
	if name == "." {
		return d.root, nil
	}
	if d.fd >= 0 && d.name == name {
		return d.fd, nil
	}
	at, rest := d.root, name
	if d.fd >= 0 && strings.HasPrefix(name, d.name) && name[len(d.name)] == '/' {
		at, rest = d.fd, name[len(d.name)+1:]
	}
	for more := true; more; {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		next, err := openat(at, part, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if at != d.root && at != d.fd {
			_ = unix.Close(at)
		}
		if err != nil {
			return -1, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		at = next
	}
	d.close()
	d.name, d.fd = name, at
	return at, nil
}

// parent returns a descriptor of the directory that name is in, and name's last component.
func (d *dirs) parent(name string) (int, string, error) {
	dir, base := view.Split(name)
	fd, err := d.open(dir)
	return fd, base, err
}

func (d *dirs) close() {
	if d.fd >= 0 {
		_ = unix.Close(d.fd)
		d.fd = -1
	}
}

// openFile opens a regular file beneath the root for reading. It does not wait for a pipe in its place.
func (d *dirs) openFile(name string) (*os.File, error) {
	at, base, err := d.parent(name)
	if err != nil {
		return nil, err
	}
	fd, err := openat(at, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

func openat(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, mode)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// openRoot opens the directory at path, which may lead through symlinks: it is the store's.
func openRoot(path string) (int, error) {
	fd, err := openat(unix.AT_FDCWD, path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}
