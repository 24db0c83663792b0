package fakeroot

import (
	"slices"

	"golang.org/x/sys/unix"
)

// capabilityName is the attribute that holds the capabilities of a file.
const capabilityName = "security.capability"

// xattrFile is how a call names its file: by a path or by a descriptor.
type xattrFile func(c *call) (file, error)

func byPath(flags uint32) xattrFile {
	return func(c *call) (file, error) { return c.file(unix.AT_FDCWD, c.args[0], flags) }
}

func byDescriptor(c *call) (file, error) { return file{dir: c.fd(0)}, nil }

// aclName is the attribute that holds the access control list of a file, which has the permissions of its mode, too.
const aclName = "system.posix_acl_access"

// maxValue is XATTR_SIZE_MAX.
const maxValue = 1 << 16

// capabilityFile returns the file of a call about its capability; errRun for another attribute.
func (at xattrFile) capabilityFile(c *call) (file, error) {
	name, err := c.str(c.args[1])
	if err != nil || name != capabilityName {
		return file{}, errRun
	}
	return at(c)
}

func (at xattrFile) set(c *call) (int64, error) {
	name, err := c.str(c.args[1])
	if err != nil || name != capabilityName && name != aclName {
		return 0, errRun
	}
	f, err := at(c)
	if err != nil {
		return 0, err
	}
	if name == aclName {
		return at.setACL(c, f)
	}
	size, flags := c.args[3], c.arg(4)
	if size > 24 || flags&^(unix.XATTR_CREATE|unix.XATTR_REPLACE) != 0 {
		return 0, unix.EINVAL
	}
	value := make([]byte, size)
	if err := c.read(value, c.args[2]); err != nil {
		return 0, err
	}
	return c.changeFile(f, func(fd int, real *unix.Statx_t) error {
		if _, ok := parseCapability(value); !ok {
			return unix.EINVAL
		}
		return c.setCapability(fd, real, flags, value)
	})
}

// setACL sets an access control list for real, and takes the mode that it gives the file.
func (at xattrFile) setACL(c *call, f file) (int64, error) {
	size, flags := c.args[3], c.arg(4)
	if size > maxValue {
		return 0, unix.E2BIG
	}
	value := make([]byte, size)
	if err := c.read(value, c.args[2]); err != nil {
		return 0, err
	}
	return c.changeFile(f, func(fd int, real *unix.Statx_t) error {
		if cred := c.credentials(); c.seen(real).Uid != cred.uid.fs && !cred.can(unix.CAP_FOWNER) {
			return unix.EPERM
		}
		if err := unix.Setxattr(self(fd), aclName, value, int(flags)); err != nil {
			return err
		}
		if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, statMask, real); err != nil {
			return err
		}
		given := uint32(real.Mode) & 0o777
		mode := uint32(real.Mode)&unix.S_IFMT | given
		if err := unix.Chmod(self(fd), RealMode(mode)); err != nil {
			return err
		}
		real.Mode = real.Mode&unix.S_IFMT | uint16(RealMode(mode))
		c.table.update(real, func(f *File) { f.Mode = f.Mode&^0o777 | given })
		return nil
	})
}

func (c *call) setCapability(fd int, real *unix.Statx_t, flags uint32, value []byte) error {
	old := c.table.capability(real)
	switch {
	case real.Mode&unix.S_IFMT == unix.S_IFLNK:
		return unix.EPERM
	case !c.credentials().can(unix.CAP_SETFCAP):
		return unix.EPERM
	case flags&unix.XATTR_CREATE != 0 && old != nil:
		return unix.EEXIST
	case flags&unix.XATTR_REPLACE != 0 && old == nil:
		return unix.ENODATA
	}
	if err := touch(fd); err != nil {
		return err
	}
	c.table.update(real, func(f *File) { f.Capability = value })
	return nil
}

func (at xattrFile) remove(c *call) (int64, error) {
	f, err := at.capabilityFile(c)
	if err != nil {
		return 0, err
	}
	return c.changeFile(f, func(fd int, real *unix.Statx_t) error {
		if c.table.capability(real) == nil {
			return unix.ENODATA
		}
		return c.setCapability(fd, real, 0, nil)
	})
}

func (at xattrFile) get(c *call) (int64, error) {
	if c.table.withCapability.Load() == 0 {
		return 0, errRun
	}
	f, err := at.capabilityFile(c)
	if err != nil {
		return 0, err
	}
	var st unix.Statx_t
	if err := c.stat(f, &st); err != nil {
		return 0, errRun
	}
	value := c.table.capability(&st)
	if value == nil {
		return 0, errRun
	}
	return c.giveValue(value, c.args[2], c.args[3])
}

// giveValue writes a value to a buffer of a size; 0 asks for the size that is needed.
func (c *call) giveValue(value []byte, to, size uint64) (int64, error) {
	switch {
	case size == 0:
		return int64(len(value)), nil
	case size < uint64(len(value)):
		return 0, unix.ERANGE
	}
	return int64(len(value)), c.write(to, value)
}

func (at xattrFile) list(c *call) (int64, error) {
	if c.table.withCapability.Load() == 0 {
		return 0, errRun
	}
	f, err := at(c)
	if err != nil {
		return 0, err
	}
	fd, err := c.open(f)
	if err != nil {
		return 0, errRun
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, statMask, &st); err != nil || c.table.capability(&st) == nil {
		return 0, errRun
	}
	names := make([]byte, 1<<16) // XATTR_LIST_MAX
	n, err := unix.Listxattr(self(fd), names)
	if err != nil {
		n = 0 // its filesystem has no attributes
	}
	return c.giveValue(slices.Concat(names[:n], []byte(capabilityName+"\x00")), c.args[1], c.args[2])
}
