package fakeroot

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Permissions, as in a mode.
const (
	mayEnter = 1 // or execute
	mayWrite = 2
	mayRead  = 4
)

// allowed reports whether a process has permissions for a file, whose state is as it sees it.
func (c *credentials) allowed(st *unix.Statx_t, want uint32) bool {
	if c.can(unix.CAP_DAC_OVERRIDE) {
		return want&mayEnter == 0 || st.Mode&unix.S_IFMT == unix.S_IFDIR || st.Mode&0o111 != 0
	}
	have := uint32(st.Mode)
	switch {
	case c.uid.fs == st.Uid:
		have >>= 6
	case c.inGroup(st.Gid):
		have >>= 3
	}
	return have&want == want
}

// owns reports whether a file belongs to a process. The kernel makes a socket when its process binds it, and nobody records whose it is: it is
// that of each who uses it. A layer has no sockets.
func (c *credentials) owns(st *unix.Statx_t) bool {
	return c.uid.fs == st.Uid || st.Mode&unix.S_IFMT == unix.S_IFSOCK
}

func access(c *call) (int64, error) { return c.access(unix.AT_FDCWD, c.args[0], c.arg(1), 0) }

func faccessat(c *call) (int64, error) { return c.access(c.fd(0), c.args[1], c.arg(2), 0) }

func faccessat2(c *call) (int64, error) { return c.access(c.fd(0), c.args[1], c.arg(2), c.arg(3)) }

func (c *call) access(dir int32, name uint64, want, flags uint32) (int64, error) {
	cred := *c.credentials()
	if want == 0 || cred.plain() && cred.uid.real == 0 {
		return 0, errRun
	}
	if flags&unix.AT_EACCESS == 0 {
		cred.uid.fs, cred.gid.fs = cred.uid.real, cred.gid.real
		if cred.effective = 0; cred.uid.real == 0 {
			cred.effective = cred.permitted
		}
	}
	return c.check(dir, name, flags&^unix.AT_EACCESS, func(st *unix.Statx_t) error {
		if !cred.allowed(st, want&7) {
			return unix.EACCES
		}
		return nil
	})
}

// check lets the kernel make a call if f finds nothing against it in the state of a file that the process sees.
func (c *call) check(dir int32, name uint64, flags uint32, f func(st *unix.Statx_t) error) (int64, error) {
	at, err := c.file(dir, name, flags)
	if err != nil {
		return 0, err
	}
	return 0, c.checkFile(at, f)
}

func (c *call) checkFile(at file, f func(st *unix.Statx_t) error) error {
	var st unix.Statx_t
	if err := c.stat(at, &st); err != nil || c.kernels(&st) {
		return errRun
	}
	if err := f(c.seen(&st)); err != nil {
		return err
	}
	return errRun
}

// needs makes the check of permissions for one file.
func (c *call) needs(want uint32) func(*unix.Statx_t) error {
	return func(st *unix.Statx_t) error {
		if !c.credentials().allowed(st, want) {
			return unix.EACCES
		}
		return nil
	}
}

func chdir(c *call) (int64, error) {
	if c.credentials().plain() {
		return 0, errRun
	}
	return c.check(unix.AT_FDCWD, c.args[0], 0, c.needs(mayEnter))
}

func truncate(c *call) (int64, error) {
	if c.credentials().plain() && c.table.withCapability.Load() == 0 {
		return 0, errRun
	}
	f, err := c.file(unix.AT_FDCWD, c.args[0], 0)
	if err != nil {
		return 0, err
	}
	var st unix.Statx_t
	if err := c.stat(f, &st); err != nil {
		return 0, errRun
	}
	return 0, c.openExisting(&st, opening{flags: unix.O_WRONLY})
}

func unlink(c *call) (int64, error) { return 0, c.mayRemove(unix.AT_FDCWD, c.args[0]) }

func unlinkat(c *call) (int64, error) { return 0, c.mayRemove(c.fd(0), c.args[1]) }

func rename(c *call) (int64, error) {
	return c.rename(unix.AT_FDCWD, c.args[0], unix.AT_FDCWD, c.args[1])
}

func renameat(c *call) (int64, error) { return c.rename(c.fd(0), c.args[1], c.fd(2), c.args[3]) }

func (c *call) rename(dir int32, name uint64, toDir int32, toName uint64) (int64, error) {
	if err := c.mayRemove(dir, name); !errors.Is(err, errRun) {
		return 0, err
	}
	return 0, c.mayRemove(toDir, toName)
}

func link(c *call) (int64, error) { return 0, c.mayRemove(unix.AT_FDCWD, c.args[1]) }

func linkat(c *call) (int64, error) { return 0, c.mayRemove(c.fd(2), c.args[3]) }

// mayRemove returns errRun if the process may remove the file of a name, or make one.
func (c *call) mayRemove(dir int32, name uint64) error {
	cred := c.credentials()
	if cred.plain() {
		return errRun
	}
	f, err := c.file(dir, name, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return err
	}
	in, _, ok := f.split()
	if !ok {
		return errRun
	}
	return c.checkFile(in, func(parent *unix.Statx_t) error {
		if !cred.allowed(parent, mayWrite|mayEnter) {
			return unix.EACCES
		}
		if parent.Mode&unix.S_ISVTX == 0 || cred.can(unix.CAP_FOWNER) || cred.uid.fs == parent.Uid {
			return nil
		}
		err := c.checkFile(f, func(st *unix.Statx_t) error {
			if !cred.owns(st) {
				return unix.EPERM
			}
			return nil
		})
		if errors.Is(err, errRun) {
			return nil
		}
		return err
	})
}

// setTimes is for the calls whose times are at an argument, and which are those of now if that is 0.
func setTimes(dir func(*call) int32, name, times int) handler {
	return func(c *call) (int64, error) {
		if c.credentials().plain() {
			return 0, errRun
		}
		return c.setTimes(dir(c), c.args[name], c.args[times], 0)
	}
}

func utimensat(c *call) (int64, error) {
	if c.credentials().plain() {
		return 0, errRun
	}
	flags := c.arg(3)
	if c.args[1] == 0 { // the descriptor's file
		flags |= unix.AT_EMPTY_PATH
	}
	return c.setTimes(c.fd(0), c.args[1], c.args[2], flags)
}

func (c *call) setTimes(dir int32, name, times uint64, flags uint32) (int64, error) {
	now := times == 0
	cred := c.credentials()
	return c.check(dir, name, flags, func(st *unix.Statx_t) error {
		switch {
		case cred.can(unix.CAP_FOWNER), cred.owns(st), now && cred.allowed(st, mayWrite):
			return nil
		case now:
			return unix.EACCES
		}
		return unix.EPERM
	})
}
