package fakeroot

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// File is what a step sees of a file, beside what is real.
type File struct {
	UID, GID   uint32
	Mode       uint32 // with the bits of the type
	Rdev       uint64 // of a device
	Capability []byte // the attribute security.capability; empty for nothing
}

// RealMode returns the permissions that a file with a mode must really have: its owner, this process's user, can do what root could.
func RealMode(mode uint32) uint32 {
	real := mode&0o777 | 0o600
	if mode&unix.S_IFMT == unix.S_IFDIR || mode&0o111 != 0 {
		real |= 0o100
	}
	return real
}

// Table holds what is pretended of files. A file of this process's user that it does not know belongs to root. It is safe for concurrent use.
type Table struct {
	uid, gid uint32 // those of this process

	mu           sync.RWMutex
	files        map[inode]entry
	capabilities map[inode][]byte

	// How many files have what few have. They may be too many: files that are removed stay until their inodes are used again.
	setID, setGIDDirs, withCapability atomic.Int64
}

// inode is the name of a file in a table.
type inode struct{ device, number uint64 }

// entry is a file. An inode that is used again has another time of birth.
type entry struct {
	bornSec        int64
	bornNsec       uint32
	uid, gid, mode uint32
	rdev           uint64
}

// NewTable returns an empty table.
func NewTable() *Table {
	return &Table{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()), files: map[inode]entry{}, capabilities: map[inode][]byte{}}
}

const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME

// Record says what a step sees of a file. Symbolic links are not followed.
func (t *Table) Record(path string, f File) error {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, statMask, &st); err != nil {
		return &os.PathError{Op: "statx", Path: path, Err: err}
	}
	t.update(&st, func(now *File) { *now = f })
	return nil
}

// Pretend changes st, the state of the file at path itself, to what a step sees. It returns the capability of the file.
func (t *Table) Pretend(path string, st *unix.Stat_t) (capability []byte, err error) {
	var x unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, statMask, &x); err != nil {
		return nil, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	if x.Ino != st.Ino || device(&x) != st.Dev {
		return nil, fmt.Errorf("%s: another file has taken its place", path)
	}
	capability = t.capability(&x)
	t.pretend(&x)
	st.Uid, st.Gid, st.Mode, st.Rdev = x.Uid, x.Gid, uint32(x.Mode), unix.Mkdev(x.Rdev_major, x.Rdev_minor)
	return capability, nil
}

func device(st *unix.Statx_t) uint64 { return unix.Mkdev(st.Dev_major, st.Dev_minor) }

func inodeOf(st *unix.Statx_t) inode { return inode{device(st), st.Ino} }

// find returns the entry of a file. The caller holds the lock.
func (t *Table) find(st *unix.Statx_t) (entry, bool) {
	e, ok := t.files[inodeOf(st)]
	return e, ok && e.bornSec == st.Btime.Sec && e.bornNsec == st.Btime.Nsec
}

// pretend changes a real state to what a step sees.
func (t *Table) pretend(st *unix.Statx_t) {
	t.mu.RLock()
	e, ok := t.find(st)
	t.mu.RUnlock()
	if !ok {
		e = t.untouched(st)
	}
	st.Uid, st.Gid, st.Mode = e.uid, e.gid, uint16(e.mode)
	st.Rdev_major, st.Rdev_minor = unix.Major(e.rdev), unix.Minor(e.rdev)
}

// untouched returns what a step sees of a file that nothing is known of.
func (t *Table) untouched(st *unix.Statx_t) entry {
	e := entry{bornSec: st.Btime.Sec, bornNsec: st.Btime.Nsec, uid: st.Uid, gid: st.Gid, mode: uint32(st.Mode), rdev: unix.Mkdev(st.Rdev_major, st.Rdev_minor)}
	if e.uid == t.uid {
		e.uid = 0
	}
	if e.gid == t.gid {
		e.gid = 0
	}
	return e
}

// capability returns the attribute security.capability of a file.
func (t *Table) capability(st *unix.Statx_t) []byte {
	if t.withCapability.Load() == 0 {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if _, ok := t.find(st); !ok {
		return nil
	}
	return t.capabilities[inodeOf(st)]
}

// update changes what a step sees of a file, whose real state is st.
func (t *Table) update(st *unix.Statx_t, change func(*File)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := inodeOf(st)
	plain := t.untouched(st)
	e, known := t.find(st)
	if !known {
		e = plain
		t.forget(key)
	}
	f := File{e.uid, e.gid, e.mode, e.rdev, t.capabilities[key]}
	change(&f)
	t.forget(key)
	e.uid, e.gid, e.mode, e.rdev = f.UID, f.GID, f.Mode, f.Rdev
	if e != plain || len(f.Capability) > 0 {
		t.remember(key, e, f.Capability)
	}
}

func (t *Table) remember(key inode, e entry, capability []byte) {
	t.files[key] = e
	t.count(e, 1)
	if len(capability) > 0 {
		t.capabilities[key] = bytes.Clone(capability)
		t.withCapability.Add(1)
	}
}

func (t *Table) forget(key inode) {
	if e, ok := t.files[key]; ok {
		delete(t.files, key)
		t.count(e, -1)
	}
	if _, ok := t.capabilities[key]; ok {
		delete(t.capabilities, key)
		t.withCapability.Add(-1)
	}
}

func (t *Table) count(e entry, n int64) {
	switch {
	case e.mode&unix.S_IFMT == unix.S_IFDIR:
		if e.mode&unix.S_ISGID != 0 {
			t.setGIDDirs.Add(n)
		}
	case e.mode&(unix.S_ISUID|unix.S_ISGID) != 0:
		t.setID.Add(n)
	}
}
