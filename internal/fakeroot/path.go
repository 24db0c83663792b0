package fakeroot

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// file is a file as a process names it.
type file struct {
	dir      int32  // the descriptor of a directory, AT_FDCWD for the working directory
	name     string // empty for dir itself
	nofollow bool
}

// file reads the name of a file from arguments: a descriptor, AT_FDCWD where the call has none, a path, and flags AT_*.
func (c *call) file(dir int32, name uint64, flags uint32) (file, error) {
	f := file{dir: dir, nofollow: flags&unix.AT_SYMLINK_NOFOLLOW != 0}
	var err error
	if name != 0 || flags&unix.AT_EMPTY_PATH == 0 {
		if f.name, err = c.str(name); err != nil {
			return f, err
		}
	}
	if f.name == "" {
		if flags&unix.AT_EMPTY_PATH == 0 {
			return f, unix.ENOENT
		}
		return f, nil
	}
	return c.plain(f), nil
}

// descriptorNames are the directories of a process's descriptors.
var descriptorNames = []string{"/proc/self/fd/", "/proc/thread-self/fd/", "/dev/fd/"}

// plain returns a file whose name does not depend on which process reads it, where that shows in the name.
func (c *call) plain(f file) file {
	if !strings.HasPrefix(f.name, "/proc/") && !strings.HasPrefix(f.name, "/dev/") {
		return f
	}
	for i, name := range []string{"/dev/stdin", "/dev/stdout", "/dev/stderr"} {
		if f.name == name && !f.nofollow {
			return file{dir: int32(i)}
		}
	}
	for _, dir := range descriptorNames {
		rest, ok := strings.CutPrefix(f.name, dir)
		if n, err := strconv.ParseUint(rest, 10, 31); ok && err == nil && !f.nofollow {
			return file{dir: int32(n)}
		}
	}
	for _, own := range []string{"/proc/self/", "/proc/thread-self/"} {
		if rest, ok := strings.CutPrefix(f.name, own); ok {
			f.name = fmt.Sprintf("/proc/%d/%s", c.pid, rest)
		}
	}
	return f
}

// base is the path of the directory that a name begins at.
func (c *call) base(dir int32) string {
	if dir == unix.AT_FDCWD {
		return fmt.Sprintf("/proc/%d/cwd", c.pid)
	}
	return fmt.Sprintf("/proc/%d/fd/%d", c.pid, dir)
}

// locate returns a path of a file for this process.
func (c *call) locate(f file) string {
	switch {
	case f.name == "":
		return c.base(f.dir)
	case strings.HasPrefix(f.name, "/"):
		return f.name
	}
	return c.base(f.dir) + "/" + f.name
}

// stat returns the real state of a file.
func (c *call) stat(f file, st *unix.Statx_t) error { return c.statx(f, 0, statMask, st) }

func (c *call) statx(f file, flags, mask int, st *unix.Statx_t) error {
	if f.nofollow && f.name != "" {
		flags |= unix.AT_SYMLINK_NOFOLLOW
	}
	at := c.locate(f)
	if len(at) < maxPath {
		return unix.Statx(unix.AT_FDCWD, at, flags, mask, st)
	}
	dir, err := c.openBase(f.dir)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }()
	return unix.Statx(dir, f.name, flags, mask, st)
}

func (c *call) openBase(dir int32) (int, error) {
	fd, err := unix.Open(c.base(dir), unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		err = unix.EBADF
	}
	return fd, err
}

// maxLinks is how many symbolic links the kernel follows.
const maxLinks = 40

// open opens a file to change what is known of it (O_PATH). It follows no link of another process's, nor those of this one.
func (c *call) open(f file) (int, error) {
	for range maxLinks {
		fd, err := c.openOnce(f)
		if !errors.Is(err, unix.ELOOP) || f.nofollow {
			return fd, err
		}
		// Perhaps the last name is a link to one of /proc.
		target, err := c.readlink(f)
		if err != nil {
			return -1, unix.ELOOP
		}
		if !path.IsAbs(target) {
			target = path.Dir(f.name) + "/" + target // not joined: a directory may be a link
		}
		f = c.plain(file{dir: f.dir, name: target})
	}
	return -1, unix.ELOOP
}

func (c *call) openOnce(f file) (int, error) {
	if f.name == "" {
		return c.openBase(f.dir)
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	if f.nofollow {
		how.Flags |= unix.O_NOFOLLOW
	}
	if path.IsAbs(f.name) {
		return unix.Openat2(unix.AT_FDCWD, f.name, &how)
	}
	dir, err := c.openBase(f.dir)
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(dir) }()
	return unix.Openat2(dir, f.name, &how)
}

func (c *call) readlink(f file) (string, error) {
	f.nofollow = true
	fd, err := c.openOnce(f)
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(fd) }()
	n, err := unix.Readlinkat(fd, "", c.buffer[:])
	if err != nil {
		return "", err
	}
	return string(c.buffer[:n]), nil
}

// self is the path of a descriptor of this process.
func self(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// kernels reports whether a file is the kernel's own, whose owner nobody changes.
func (s *supervisor) kernels(st *unix.Statx_t) bool {
	d := device(st)
	return d == s.proc || d == s.sys
}
