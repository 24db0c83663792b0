package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/sparse"
	"github.com/micabuild/mica/internal/view"
)

// directoryWriter makes a tree that is a directory. Until its last step there is no symlink in it, and no name is made twice.
type directoryWriter struct {
	dir  string
	root int
	host *Host
	// masked: a default ACL of the store takes bits from the modes that files are created with.
	masked bool
}

// CreateDirectory begins a tree that is a directory.
func (h *Host) CreateDirectory(path string) (Writer, error) {
	spread(filepath.Dir(path))
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, err
	}
	root, err := openRoot(path)
	if err != nil {
		return nil, err
	}
	_, err = unix.Lgetxattr(path, "system.posix_acl_default", nil)
	return &directoryWriter{dir: path, root: root, host: h, masked: err == nil}, nil
}

// spread has ext4 put a directory that is made in dir into another part of the disk, as it does with users' homes (chattr(1) T).
// Left to itself it makes trees near each other, and searches through the files of all that were removed there within the
// last minutes for every new one: a tree then takes many times as long to make. Other filesystems have no such attribute.
func spread(dir string) {
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	const topdir = 0x20000 // FS_TOPDIR_FL of linux/fs.h
	if flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS); err == nil {
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags|topdir))
	}
}

func (t *directoryWriter) Path() string { return t.dir }

func (t *directoryWriter) Close() { _ = unix.Close(t.root) }

// directoryFiles is one goroutine's.
type directoryFiles struct {
	t    *directoryWriter
	dirs *dirs
}

func (t *directoryWriter) Files() Files { return &directoryFiles{t, newDirs(t.root)} }

func (h *directoryFiles) Close() { h.dirs.close() }

func (h *directoryFiles) MakeDir(name string) error {
	at, base, err := h.dirs.parent(name)
	if err != nil {
		return err
	}
	if err := unix.Mkdirat(at, base, 0o700); err != nil {
		return &fs.PathError{Op: "make directory", Path: name, Err: err}
	}
	return nil
}

// modeAtCreation reports whether a file can be made with its mode at once: the umask, 022 (see cli), takes nothing from it, and
// no chown follows, which would clear bits.
func (t *directoryWriter) modeAtCreation(e *view.Entry) bool {
	return !t.masked && e.Mode&^0o755 == 0 && e.UID == 0 && e.GID == 0
}

// directoryFile is a regular file being written. Long runs of zeros become holes.
type directoryFile struct {
	t      *directoryWriter
	fd     int
	entry  *view.Entry
	offset int64
	runs   sparse.Runs
	hole   bool // the file ends with a hole
	cloned bool // nothing needs to be written
}

func (h *directoryFiles) Create(e *view.Entry) (File, error) {
	t := h.t
	at, base, err := h.dirs.parent(e.Path)
	if err != nil {
		return nil, err
	}
	mode := uint32(0o600)
	switch {
	case t.host.owners != nil:
		mode = ownMode(e)
	case t.modeAtCreation(e):
		mode = e.Mode
	}
	fd, err := openat(at, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, mode)
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: e.Path, Err: err}
	}
	return &directoryFile{t: t, fd: fd, entry: e}, nil
}

func (f *directoryFile) Write(p []byte) (int, error) {
	if f.cloned {
		return len(p), nil
	}
	if err := f.runs.Write(f, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Data is for sparse.Runs.
func (f *directoryFile) Data(p []byte) error {
	if err := pwrite(f.fd, p, f.offset); err != nil {
		return &fs.PathError{Op: "write", Path: f.entry.Path, Err: err}
	}
	f.offset, f.hole = f.offset+int64(len(p)), false
	return nil
}

// Hole is for sparse.Runs.
func (f *directoryFile) Hole(n int64) error {
	f.offset, f.hole = f.offset+n, true
	return nil
}

func (f *directoryFile) Clone(fd uintptr) bool {
	f.cloned = unix.IoctlFileClone(f.fd, int(fd)) == nil
	return f.cloned
}

func pwrite(fd int, p []byte, offset int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, offset)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		p, offset = p[n:], offset+int64(n)
	}
	return nil
}

// Close sets the file's metadata and closes it.
func (f *directoryFile) Close() error {
	err := f.seal()
	return errors.Join(err, unix.Close(f.fd))
}

func (f *directoryFile) seal() error {
	if err := f.runs.End(f); err != nil {
		return err
	}
	if f.hole {
		if err := unix.Ftruncate(f.fd, f.offset); err != nil {
			return &fs.PathError{Op: "write", Path: f.entry.Path, Err: err}
		}
	}
	if err := f.setMetadata(); err != nil {
		return err
	}
	if err := futimens(f.fd, timesOf(f.entry)); err != nil {
		return &fs.PathError{Op: "set times", Path: f.entry.Path, Err: err}
	}
	return nil
}

// setMetadata sets all but the times.
func (f *directoryFile) setMetadata() error {
	e := f.entry
	if f.t.host.owners != nil {
		return f.t.keep(e)
	}
	if e.UID != 0 || e.GID != 0 {
		if err := f.t.owner(e, unix.Fchown(f.fd, e.UID, e.GID)); err != nil {
			return err
		}
	}
	// After the owner: chown clears setuid bits and file capabilities.
	if !f.t.modeAtCreation(e) {
		if err := unix.Fchmod(f.fd, e.Mode); err != nil {
			return &fs.PathError{Op: "chmod", Path: e.Path, Err: err}
		}
	}
	for name, value := range e.Xattrs {
		if err := f.t.xattr(e, name, unix.Fsetxattr(f.fd, name, []byte(value), 0)); err != nil {
			return err
		}
	}
	return nil
}

// futimens is utimensat(2) of an open file, which spares the kernel the look-up of a name (Linux 5.8).
func futimens(fd int, times [2]unix.Timespec) error {
	err := unix.UtimesNanoAt(fd, "", times[:], unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.EINVAL) {
		err = unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), times[:], 0)
	}
	return err
}

// Finish sets the metadata of directories last, because making files in them changes it.
func (t *directoryWriter) Finish(entries, dirEntries []*view.Entry) error {
	d := newDirs(t.root)
	defer d.close()
	for _, e := range entries {
		if e.IsDir() || e.Type == view.TypeRegular && e.Hardlink == "" {
			continue
		}
		at, base, err := d.parent(e.Path)
		if err != nil {
			return err
		}
		if e.Hardlink != "" {
			err = t.makeLink(at, base, e)
		} else {
			err = t.makeSpecial(at, base, e)
		}
		if err != nil {
			return err
		}
	}
	for _, e := range dirEntries {
		if err := t.sealDir(d, e); err != nil {
			return err
		}
	}
	return nil
}

func (t *directoryWriter) makeLink(at int, base string, e *view.Entry) error {
	first := newDirs(t.root)
	defer first.close()
	from, name, err := first.parent(e.Hardlink)
	if err != nil {
		return err
	}
	if err := unix.Linkat(from, name, at, base, 0); err != nil {
		if e.Type != view.TypeRegular && errors.Is(err, unix.ENOENT) {
			return nil // a name of a device that could not be made
		}
		return &os.LinkError{Op: "link", Old: e.Hardlink, New: e.Path, Err: err}
	}
	return nil
}

// makeSpecial makes a symlink, a device, a pipe or a whiteout.
func (t *directoryWriter) makeSpecial(at int, base string, e *view.Entry) error {
	var err error
	switch e.Type {
	case view.TypeSymlink:
		err = unix.Symlinkat(e.Linkname, at, base)
	case view.TypeFifo:
		err = unix.Mknodat(at, base, unix.S_IFIFO|0o600, 0)
	case view.TypeWhiteout:
		if err = unix.Mknodat(at, base, unix.S_IFCHR, 0); err == nil {
			return nil
		}
	case view.TypeChar, view.TypeBlock:
		kind := uint32(unix.S_IFCHR)
		if e.Type == view.TypeBlock {
			kind = unix.S_IFBLK
		}
		if t.host.owners != nil {
			kind = unix.S_IFREG
		}
		err = unix.Mknodat(at, base, kind|0o600, int(unix.Mkdev(uint32(e.Major), uint32(e.Minor))))
		if t.host.Nested() && errors.Is(err, unix.EPERM) {
			t.host.note("device nodes cannot be made without root and are left out of root filesystems")
			return t.makeHole(at, base, e)
		}
	default:
		return fmt.Errorf("%q cannot be kept in a layer", e.Path)
	}
	if err != nil {
		return &fs.PathError{Op: "make", Path: e.Path, Err: err}
	}
	if t.host.owners != nil {
		if err := t.keep(e); err != nil {
			return err
		}
		return setTimes(at, base, e)
	}
	if e.UID != 0 || e.GID != 0 {
		if err := t.owner(e, unix.Fchownat(at, base, e.UID, e.GID, unix.AT_SYMLINK_NOFOLLOW)); err != nil {
			return err
		}
	}
	if e.Type != view.TypeSymlink {
		if err := unix.Fchmodat(at, base, e.Mode, 0); err != nil {
			return &fs.PathError{Op: "chmod", Path: e.Path, Err: err}
		}
	}
	for name, value := range e.Xattrs {
		if err := t.xattr(e, name, unix.Lsetxattr(procPath(at, base), name, []byte(value), 0)); err != nil {
			return err
		}
	}
	return setTimes(at, base, e)
}

// makeHole makes a whiteout in the place of a device: what lower layers have of its name must not show.
func (t *directoryWriter) makeHole(at int, base string, e *view.Entry) error {
	if err := unix.Mknodat(at, base, unix.S_IFCHR, 0); err != nil && !errors.Is(err, unix.EPERM) {
		return &fs.PathError{Op: "make", Path: e.Path, Err: err}
	}
	return nil
}

// procPath names base in the directory at, for the system calls that have no form with a directory.
func procPath(at int, base string) string {
	return "/proc/self/fd/" + strconv.Itoa(at) + "/" + base
}

// sealDir sets a directory's metadata.
func (t *directoryWriter) sealDir(d *dirs, e *view.Entry) error {
	at, base, err := d.parent(e.Path)
	if err != nil {
		return err
	}
	if t.host.owners != nil {
		if err := t.keep(e); err != nil {
			return err
		}
		return setTimes(at, base, e)
	}
	if e.UID != 0 || e.GID != 0 {
		if err := t.owner(e, unix.Fchownat(at, base, e.UID, e.GID, unix.AT_SYMLINK_NOFOLLOW)); err != nil {
			return err
		}
	}
	for name, value := range e.Xattrs {
		if err := t.xattr(e, name, unix.Lsetxattr(procPath(at, base), name, []byte(value), 0)); err != nil {
			return err
		}
	}
	if e.Opaque {
		if err := unix.Lsetxattr(procPath(at, base), t.host.OverlayXattr("opaque"), []byte("y"), 0); err != nil {
			return &fs.PathError{Op: "make opaque", Path: e.Path, Err: err}
		}
	}
	if err := unix.Fchmodat(at, base, e.Mode, 0); err != nil {
		return &fs.PathError{Op: "chmod", Path: e.Path, Err: err}
	}
	return setTimes(at, base, e)
}

// owner decides on the error of a chown: ids that the user namespace does not map are left, and noted.
func (t *directoryWriter) owner(e *view.Entry, err error) error {
	if err == nil {
		return nil
	}
	if t.host.Nested() && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM)) {
		t.host.note("files of owners that the user's ranges in /etc/subuid and /etc/subgid do not cover belong to the user in root filesystems")
		return nil
	}
	return &fs.PathError{Op: "chown", Path: e.Path, Err: err}
}

// xattr decides on the error of a setxattr: what the filesystem or the user namespace does not allow is left, and noted.
func (t *directoryWriter) xattr(e *view.Entry, name string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.ENOTSUP) || t.host.Nested() && errors.Is(err, unix.EPERM) {
		t.host.note(leftOutXattr(name))
		return nil
	}
	return &fs.PathError{Op: "set attribute " + name, Path: e.Path, Err: err}
}

func setTimes(at int, base string, e *view.Entry) error {
	times := timesOf(e)
	if err := unix.UtimesNanoAt(at, base, times[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "set times", Path: e.Path, Err: err}
	}
	return nil
}

// timesOf are the times of access and modification that an entry's file gets.
func timesOf(e *view.Entry) [2]unix.Timespec {
	ts := unix.Timespec{}
	if !e.ModTime.IsZero() {
		ts.Sec, ts.Nsec = e.ModTime.Unix(), int64(e.ModTime.Nanosecond())
	}
	return [2]unix.Timespec{ts, ts}
}
