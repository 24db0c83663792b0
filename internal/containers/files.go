package containers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/sandbox"
)

// files are the files of a container, which runs or not.
type files struct {
	c      *Container
	rootfs *os.File
	mounts []*os.File // by the index of Process.Mounts; nil for one whose files cannot be reached
	close  func()
}

// files opens the container's files. Until they are closed, the container is not removed, and one that does not run cannot be started.
func (c *Container) files(ctx context.Context) (*files, error) {
	c.starting.Lock()
	release, err := c.keep()
	if err != nil {
		c.starting.Unlock()
		return nil, err
	}
	c.mu.Lock()
	r := c.run
	c.mu.Unlock()
	if r != nil {
		c.starting.Unlock()
		f, err := c.filesOf(r.box, release)
		if errors.Is(err, sandbox.ErrClosed) { // the process has just ended
			<-r.ended
			return c.files(ctx)
		}
		return f, err
	}
	p := *c.process
	box, err := c.m.o.Host.Open(ctx, &p)
	if err != nil {
		release()
		c.starting.Unlock()
		return nil, err
	}
	return c.filesOf(box, func() {
		_ = box.Close()
		release()
		c.starting.Unlock()
	})
}

// filesOf opens the files of a box again: the box may end while they are used, and does not wait for it. The end calls also.
func (c *Container) filesOf(box *sandbox.Container, also func()) (_ *files, err error) {
	f := &files{c: c}
	f.close = func() {
		for _, opened := range append(f.mounts, f.rootfs) {
			_ = opened.Close() // a nil file can be closed
		}
		also()
	}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	release, err := box.Hold()
	if err != nil {
		return nil, err
	}
	defer release()
	if f.rootfs, err = duplicate(box.Root()); err != nil {
		return nil, err
	}
	for i := range c.process.Mounts {
		source, err := duplicate(box.Mount(i))
		if err != nil {
			return nil, err
		}
		f.mounts = append(f.mounts, source)
	}
	return f, nil
}

// duplicate returns another descriptor of a file, nil for nil.
func duplicate(f *os.File) (*os.File, error) {
	if f == nil {
		return nil, nil
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: f.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// root is the directory that a path is to be resolved in: the root filesystem, or what is mounted on the path or above it.
func (f *files) root(name string) (dir *os.File, mounted string, readOnly bool) {
	dir, mounted, readOnly = f.rootfs, "/", f.c.process.ReadOnlyRoot
	for i, m := range f.c.process.Mounts {
		target, source := path.Clean("/"+m.Target), f.mounts[i]
		if source != nil && len(target) >= len(mounted) && (name == target || strings.HasPrefix(name, target+"/")) {
			dir, mounted, readOnly = source, target, m.ReadOnly
		}
	}
	return dir, mounted, readOnly
}

// open opens a path (O_PATH). Links lead nowhere outside of the root filesystem or the mount; the last one is followed if follow is set.
func (f *files) open(name string, follow bool) (*os.File, error) {
	name = path.Clean("/" + name)
	dir, mounted, _ := f.root(name)
	rest := strings.TrimPrefix(strings.TrimPrefix(name, strings.TrimSuffix(mounted, "/")), "/")
	if rest == "" {
		rest = "."
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	if !follow {
		how.Flags |= unix.O_NOFOLLOW
	}
	if isFile(dir) { // a bind of a file
		if rest != "." {
			return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOTDIR}
		}
		return duplicate(dir)
	}
	fd, err := unix.Openat2(int(dir.Fd()), rest, &how)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
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
		target, err := readlink(at)
		if err != nil {
			return nil, err
		}
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(path.Clean("/"+name)), target)
		}
		s.LinkTarget = path.Clean(target)
	}
	return s, nil
}

func readlink(at *os.File) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(at.Fd()), "", buf)
	if err != nil {
		return "", fmt.Errorf("read link %s: %w", at.Name(), err)
	}
	return string(buf[:n]), nil
}

// StatPath describes a file of the container.
func (c *Container) StatPath(ctx context.Context, name string) (*container.PathStat, error) {
	f, err := c.files(ctx)
	if err != nil {
		return nil, err
	}
	defer f.close()
	return f.stat(name)
}

// copyEvent publishes that files were copied.
func (c *Container) copyEvent(action events.Action, name string) { c.event(action, "path", name) }
