package fakeroot

import (
	"encoding/binary"
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// statPath is stat(2) and lstat(2).
func statPath(flags uint32) handler {
	return func(c *call) (int64, error) { return c.doStat(unix.AT_FDCWD, c.args[0], flags, c.args[1]) }
}

func fstat(c *call) (int64, error) { return c.doStat(c.fd(0), 0, unix.AT_EMPTY_PATH, c.args[1]) }

func fstatat(c *call) (int64, error) { return c.doStat(c.fd(0), c.args[1], c.arg(3), c.args[2]) }

func (c *call) doStat(dir int32, name uint64, flags uint32, to uint64) (int64, error) {
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT|unix.AT_EMPTY_PATH) != 0 {
		return 0, errRun
	}
	var st unix.Statx_t
	if err := c.pretendedStat(dir, name, flags, int(flags&unix.AT_NO_AUTOMOUNT), statMask, &st); err != nil {
		return 0, err
	}
	return 0, c.write(to, c.abi.encodeStat(&st))
}

func statx(c *call) (int64, error) {
	const known = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_EMPTY_PATH | unix.AT_STATX_FORCE_SYNC | unix.AT_STATX_DONT_SYNC
	flags := c.arg(2)
	if flags&^known != 0 {
		return 0, errRun
	}
	var st unix.Statx_t
	if err := c.pretendedStat(c.fd(0), c.args[1], flags, int(flags&(unix.AT_NO_AUTOMOUNT|unix.AT_STATX_FORCE_SYNC|unix.AT_STATX_DONT_SYNC)), int(c.arg(3))|statMask, &st); err != nil {
		return 0, err
	}
	return 0, put(c, c.args[4], st)
}

// pretendedStat finds what the process sees of a file. The kernel makes the errors that depend on the process's descriptors.
func (c *call) pretendedStat(dir int32, name uint64, flags uint32, more, mask int, st *unix.Statx_t) error {
	f, err := c.file(dir, name, flags)
	if err != nil {
		return err
	}
	err = c.statx(f, more, mask, st)
	switch {
	case err == nil:
		c.table.pretend(st)
		return nil
	case errors.Is(err, unix.ENOENT) && f.name != "" && (f.dir == unix.AT_FDCWD || strings.HasPrefix(f.name, "/")) && c.waits():
		return unix.ENOENT
	}
	return errRun
}

// encodeStat64 writes struct stat of this program's architecture, which stat_GOARCH.go completes.
func encodeStat64(x *unix.Statx_t) []byte {
	st := newStat(x)
	return append([]byte(nil), asBytes(&st)...)
}

func commonStat(x *unix.Statx_t) unix.Stat_t {
	return unix.Stat_t{
		Dev: device(x), Ino: x.Ino, Mode: uint32(x.Mode), Uid: x.Uid, Gid: x.Gid, Rdev: unix.Mkdev(x.Rdev_major, x.Rdev_minor),
		Size: int64(x.Size), Blocks: int64(x.Blocks),
		Atim: timespec(x.Atime), Mtim: timespec(x.Mtime), Ctim: timespec(x.Ctime),
	}
}

func timespec(t unix.StatxTimestamp) unix.Timespec {
	return unix.Timespec{Sec: t.Sec, Nsec: int64(t.Nsec)}
}

// encodeStat32 returns how struct stat64 of an architecture of 32 bits is written: 386 does not align what has 64 bits.
func encodeStat32(align int) func(*unix.Statx_t) []byte {
	return func(x *unix.Statx_t) []byte {
		b := make([]byte, 0, 104)
		word := func(v uint32) { b = binary.LittleEndian.AppendUint32(b, v) }
		long := func(v uint64) {
			for len(b)%align != 0 {
				b = append(b, 0)
			}
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		long(device(x))
		word(0)
		word(uint32(x.Ino))
		word(uint32(x.Mode))
		word(x.Nlink)
		word(x.Uid)
		word(x.Gid)
		long(unix.Mkdev(x.Rdev_major, x.Rdev_minor))
		word(0)
		long(x.Size)
		word(x.Blksize)
		long(x.Blocks)
		for _, t := range []unix.StatxTimestamp{x.Atime, x.Mtime, x.Ctime} {
			word(uint32(t.Sec))
			word(t.Nsec)
		}
		long(x.Ino)
		return b
	}
}
