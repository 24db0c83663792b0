package containers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/inroot"
	"github.com/micabuild/mica/internal/overlay"
	"github.com/micabuild/mica/internal/sandbox"
)

// files are the files of a container, which runs or not, with those of its volumes and binds.
type files struct {
	c    *Container
	tree *sandbox.Tree
	free func()
}

// access is what the files of a container are opened for.
type access bool

const (
	reading access = false
	writing access = true
)

// files opens the container's files. Until they are closed, the container is not removed, and one that does not run cannot be started.
func (c *Container) files(ctx context.Context, a access) (*files, error) {
	f := &files{c: c}
	release, err := c.withBox(ctx, a, func(box *sandbox.Container) (err error) {
		f.tree, err = box.Tree()
		return err
	})
	f.free = release
	return f, err
}

func (f *files) close() {
	f.tree.Close()
	f.free()
}

// rootfs opens the root filesystem without mounts. It is to be closed before release is called, which ends what files says.
func (c *Container) rootfs(ctx context.Context) (root *os.File, release func(), err error) {
	release, err = c.withBox(ctx, reading, func(box *sandbox.Container) error {
		done, err := box.Hold()
		if err != nil {
			return err
		}
		defer done()
		root, err = duplicate(box.Root())
		return err
	})
	return root, release, err
}

// withBox calls use with the box of the container's process, or with one that is made for it. What it returns ends the use: the box of a
// process that ends does not wait for it.
func (c *Container) withBox(ctx context.Context, a access, use func(*sandbox.Container) error) (func(), error) {
	c.starting.Lock()
	release, err := c.holdFiles()
	if err != nil {
		c.starting.Unlock()
		return nil, err
	}
	c.mu.Lock()
	r := c.run
	c.mu.Unlock()
	if r != nil {
		c.starting.Unlock()
		if err = use(r.box); err == nil {
			return release, nil
		}
		release()
		if errors.Is(err, sandbox.ErrClosed) { // the process has just ended
			<-r.ended
			return c.withBox(ctx, a, use)
		}
		return nil, err
	}
	box, err := c.openBox(ctx, a, use)
	if err != nil {
		release()
		c.starting.Unlock()
		return nil, err
	}
	return func() {
		_ = box.Close()
		release()
		c.starting.Unlock()
	}, nil
}

// openBox opens the files of a container that does not run, and calls use. To read them needs no room on the disk, unless a mount point has
// been removed.
func (c *Container) openBox(ctx context.Context, a access, use func(*sandbox.Container) error) (*sandbox.Container, error) {
	p := *c.process
	if a == reading {
		p.Root = overlay.Options{Lowers: append(slices.Clone(c.root.Lowers), c.root.Upper)}
		p.Dir = c.root.Work // which nothing uses meanwhile
	}
	box, err := c.m.o.Host.Open(ctx, &p)
	if err != nil {
		return nil, err
	}
	if err = use(box); err == nil {
		return box, nil
	}
	err = errors.Join(err, box.Close())
	if a == reading && errors.Is(err, unix.EROFS) {
		return c.openBox(ctx, writing, use)
	}
	return nil, err
}

// duplicate returns another descriptor of a file.
func duplicate(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: f.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// open opens a path (O_PATH) as the container's processes do. The last link is followed if follow is set.
func (f *files) open(name string, follow bool) (*os.File, error) {
	name = path.Clean("/" + name)
	open := inroot.OpenLink
	if follow {
		open = inroot.Open
	}
	fd, err := open(int(f.tree.Root().Fd()), name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// path is the path of an opened file, after links.
func (f *files) path(at *os.File) (string, error) {
	return inroot.Path(int(f.tree.Root().Fd()), int(at.Fd()))
}

func isFile(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && !info.IsDir()
}

// find opens a path as Docker's cp understands it: a link is the link, unless a slash or /. follows.
func (f *files) find(name string) (*os.File, fs.FileInfo, error) {
	follow := strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.") || name == "." || name == ""
	at, err := f.open(name, follow)
	if err == nil {
		info, statErr := at.Stat()
		if statErr == nil && follow && !info.IsDir() {
			statErr = &fs.PathError{Op: "open", Path: name, Err: syscall.ENOTDIR}
		}
		if statErr == nil {
			return at, info, nil
		}
		err = errors.Join(statErr, at.Close())
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil, fail(NotFound, "Could not find the file %s in container %s", name, f.c.Name())
	}
	return nil, nil, err
}

// stat describes a file for docker cp.
func (f *files) stat(name string) (*container.PathStat, error) {
	at, info, err := f.find(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = at.Close() }()
	s := &container.PathStat{Name: path.Base(path.Clean("/" + name)), Size: info.Size(), Mode: info.Mode(), Mtime: info.ModTime()}
	if info.Mode()&fs.ModeSymlink != 0 {
		s.LinkTarget = f.target(path.Clean("/" + name))
	}
	return s, nil
}

// maxLinks bounds how many links are followed, as the kernel does.
const maxLinks = 40

// target is where a link leads in the end, or as far as its directories exist.
func (f *files) target(name string) string {
	for range maxLinks {
		parent, err := f.open(path.Dir(name), true)
		if err != nil {
			return name
		}
		dir, err := f.path(parent)
		if err != nil {
			dir = path.Dir(name)
		}
		to, err := readlinkAt(parent, path.Base(name))
		_ = parent.Close()
		name = path.Join(dir, path.Base(name))
		if err != nil {
			return name
		}
		if !path.IsAbs(to) {
			to = path.Join(dir, to)
		}
		if name = path.Clean(to); name == "/" {
			return name
		}
	}
	return name
}

func readlink(at *os.File) (string, error) { return readlinkAt(at, "") }

func readlinkAt(at *os.File, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(at.Fd()), name, buf)
	if err != nil {
		return "", fmt.Errorf("read link %s: %w", at.Name(), err)
	}
	return string(buf[:n]), nil
}

// StatPath describes a file of the container.
func (c *Container) StatPath(ctx context.Context, name string) (*container.PathStat, error) {
	f, err := c.files(ctx, reading)
	if err != nil {
		return nil, err
	}
	defer f.close()
	return f.stat(name)
}

// copyEvent publishes that files were copied.
func (c *Container) copyEvent(action events.Action, name string) { c.event(action, "path", name) }
