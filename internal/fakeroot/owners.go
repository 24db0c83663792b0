package fakeroot

import (
	"errors"

	"golang.org/x/sys/unix"
)

func chownPath(flags uint32) handler {
	return func(c *call) (int64, error) { return c.chown(unix.AT_FDCWD, c.args[0], flags, c.arg(1), c.arg(2)) }
}

func fchown(c *call) (int64, error) {
	return c.chown(c.fd(0), 0, unix.AT_EMPTY_PATH, c.arg(1), c.arg(2))
}

func fchownat(c *call) (int64, error) {
	return c.chown(c.fd(0), c.args[1], c.arg(4), c.arg(2), c.arg(3))
}

func chmod(c *call) (int64, error) { return c.chmod(unix.AT_FDCWD, c.args[0], 0, c.arg(1)) }

func fchmod(c *call) (int64, error) { return c.chmod(c.fd(0), 0, unix.AT_EMPTY_PATH, c.arg(1)) }

func fchmodat(c *call) (int64, error) { return c.chmod(c.fd(0), c.args[1], 0, c.arg(2)) }

func fchmodat2(c *call) (int64, error) { return c.chmod(c.fd(0), c.args[1], c.arg(3), c.arg(2)) }

// change calls f with a descriptor (O_PATH) and the real state of a file. The kernel does what is to be done with files of its own, and makes
// the error if the file cannot be found.
func (c *call) change(dir int32, name uint64, flags uint32, f func(fd int, st *unix.Statx_t) error) (int64, error) {
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return 0, unix.EINVAL
	}
	at, err := c.file(dir, name, flags)
	if err != nil {
		return 0, err
	}
	return c.changeFile(at, f)
}

func (c *call) changeFile(at file, f func(fd int, st *unix.Statx_t) error) (int64, error) {
	fd, err := c.open(at)
	if err != nil {
		return 0, errRun
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, statMask, &st); err != nil {
		return 0, err
	}
	if c.kernels(&st) {
		return 0, errRun
	}
	if !c.waits() {
		return 0, unix.ESRCH
	}
	return 0, f(fd, &st)
}

// seen returns what a process sees of a file.
func (c *call) seen(real *unix.Statx_t) *unix.Statx_t {
	st := *real
	c.table.pretend(&st)
	return &st
}

func (c *call) chown(dir int32, name uint64, flags, uid, gid uint32) (int64, error) {
	return c.change(dir, name, flags, func(fd int, real *unix.Statx_t) error {
		if !c.mayChown(c.seen(real), uid, gid) {
			return unix.EPERM
		}
		if err := touch(fd); err != nil {
			return err
		}
		c.table.update(real, func(f *File) {
			if uid != keep {
				f.UID = uid
			}
			if gid != keep {
				f.GID = gid
			}
			f.dropPrivileges()
		})
		return nil
	})
}

func (c *call) mayChown(st *unix.Statx_t, uid, gid uint32) bool {
	cred := c.credentials()
	if cred.can(unix.CAP_CHOWN) {
		return true
	}
	owner := cred.owns(st)
	return (uid == keep || owner && (uid == st.Uid || uid == cred.uid.fs)) && (gid == keep || owner && (gid == st.Gid || cred.inGroup(gid)))
}

// dropPrivileges takes from a file what it loses when its owner changes.
func (f *File) dropPrivileges() {
	f.Capability = nil
	if f.Mode&unix.S_IFMT == unix.S_IFDIR {
		return
	}
	f.Mode &^= unix.S_ISUID
	if f.Mode&unix.S_IXGRP != 0 {
		f.Mode &^= unix.S_ISGID
	}
}

// touch gives a file a new time of change, as a change of its owner does.
func touch(fd int) error {
	err := unix.Fchownat(fd, "", -1, -1, unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.EPERM) { // a file that is not this process's, in a place that is not part of a layer
		return nil
	}
	return err
}

func (c *call) chmod(dir int32, name uint64, flags, mode uint32) (int64, error) {
	return c.change(dir, name, flags, func(fd int, real *unix.Statx_t) error {
		st, cred := c.seen(real), c.credentials()
		if !cred.owns(st) && !cred.can(unix.CAP_FOWNER) {
			return unix.EPERM
		}
		mode := mode&0o7777 | uint32(st.Mode)&unix.S_IFMT
		if !cred.inGroup(st.Gid) && !cred.can(unix.CAP_FSETID) {
			mode &^= unix.S_ISGID
		}
		if err := unix.Chmod(self(fd), RealMode(mode)); err != nil && !errors.Is(err, unix.EPERM) {
			return err
		}
		real.Mode = real.Mode&unix.S_IFMT | uint16(RealMode(mode))
		c.table.update(real, func(f *File) { f.Mode = mode })
		return nil
	})
}
