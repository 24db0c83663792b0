package fakeroot

import (
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// opening is a call that opens a file to write to it, or to make it.
type opening struct {
	file
	flags uint64
	mode  uint32
	how   uint64 // RESOLVE_*
}

func (o *opening) creates() bool { return o.flags&unix.O_CREAT != 0 }

// temporary reports whether a file without a name is made. O_TMPFILE has the bit of O_DIRECTORY.
func (o *opening) temporary() bool { return o.flags&unix.O_TMPFILE == unix.O_TMPFILE }

// wants returns the permissions that the call needs.
func (o *opening) wants() uint32 {
	var want uint32
	switch o.flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		want = mayRead
	case unix.O_WRONLY:
		want = mayWrite
	default:
		want = mayRead | mayWrite
	}
	if o.flags&unix.O_TRUNC != 0 {
		want |= mayWrite
	}
	return want
}

func openPath(c *call) (int64, error) {
	return c.open2(unix.AT_FDCWD, c.args[0], opening{flags: c.args[1], mode: c.arg(2)})
}

func openat(c *call) (int64, error) {
	return c.open2(c.fd(0), c.args[1], opening{flags: c.args[2], mode: c.arg(3)})
}

func creat(c *call) (int64, error) {
	return c.open2(unix.AT_FDCWD, c.args[0], opening{flags: unix.O_CREAT | unix.O_WRONLY | unix.O_TRUNC, mode: c.arg(1)})
}

func openat2(c *call) (int64, error) {
	how, err := get[unix.OpenHow](c, c.args[2])
	if err != nil {
		return 0, err
	}
	return c.open2(c.fd(0), c.args[1], opening{flags: how.Flags, mode: uint32(how.Mode), how: how.Resolve})
}

func (c *call) open2(dir int32, name uint64, o opening) (int64, error) {
	makes := o.creates() || o.temporary()
	if o.flags&unix.O_PATH != 0 || !makes && o.wants() == mayRead {
		return 0, errRun
	}
	if c.credentials().plain() && c.table.withCapability.Load() == 0 && (!makes || c.table.setGIDDirs.Load() == 0 && ordinary(unix.S_IFREG|o.mode)) {
		return 0, errRun
	}
	var err error
	if o.file, err = c.file(dir, name, 0); err != nil {
		return 0, err
	}
	o.nofollow = o.flags&unix.O_NOFOLLOW != 0 || o.creates() && o.flags&unix.O_EXCL != 0
	if o.temporary() {
		return c.createIn(o.file, "", o)
	}
	var st unix.Statx_t
	switch err := c.stat(o.file, &st); {
	case err == nil:
		return 0, c.openExisting(&st, o)
	case errors.Is(err, unix.ENOENT) && o.creates():
		return c.create(o)
	}
	return 0, errRun
}

// ordinary reports whether a file that root makes with a mode needs no entry.
func ordinary(mode uint32) bool { return mode&0o777 == RealMode(mode)&0o777 && mode&0o7000 == 0 }

// openExisting returns errRun if the process may open a file that there is.
func (c *call) openExisting(st *unix.Statx_t, o opening) error {
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFLNK || c.kernels(st) || o.creates() && o.flags&unix.O_EXCL != 0 {
		return errRun
	}
	if !c.credentials().allowed(c.seen(st), o.wants()) {
		return unix.EACCES
	}
	if kind == unix.S_IFREG && o.wants()&mayWrite != 0 {
		c.written(st)
	}
	return errRun
}

// written takes from a file what it loses when it is written to. That it is opened to be written to is known; that it is written to is not.
func (c *call) written(st *unix.Statx_t) {
	keeps := c.credentials().can(unix.CAP_FSETID)
	seen := c.seen(st)
	if c.table.capability(st) == nil && (keeps || seen.Mode&(unix.S_ISUID|unix.S_ISGID) == 0) {
		return
	}
	c.table.update(st, func(f *File) {
		if keeps {
			f.Capability = nil
		} else {
			f.dropPrivileges()
		}
	})
}

// create makes a file that is not there.
func (c *call) create(o opening) (int64, error) {
	for range maxLinks {
		dir, name, ok := o.split()
		if !ok {
			return 0, errRun
		}
		target, err := c.readlink(o.file)
		if err != nil || o.nofollow {
			return c.createIn(dir, name, o)
		}
		if !path.IsAbs(target) {
			target = path.Dir(o.name) + "/" + target
		}
		o.name = target
	}
	return 0, unix.ELOOP
}

// split returns the directory of a file and its name there; false for names that name no new file.
func (f file) split() (dir file, name string, ok bool) {
	at := strings.LastIndexByte(f.name, '/')
	dir, name = file{dir: f.dir, name: f.name[:at+1]}, f.name[at+1:]
	return dir, name, name != "" && name != "." && name != ".."
}

// createIn opens a new file of a directory, one without a name if name is empty, and gives the process its descriptor.
func (c *call) createIn(in file, name string, o opening) (int64, error) {
	if o.how != 0 { // resolved by rules of the kernel's
		return 0, errRun
	}
	if c.makesOrdinary(in, unix.S_IFREG|o.mode) {
		return 0, errRun
	}
	dir, err := c.openPlace(in)
	if err != nil {
		return 0, err
	}
	defer dir.close()
	mode := unix.S_IFREG | o.mode&0o7777&^c.umask()
	at, flags := name, int(o.flags)|unix.O_CLOEXEC
	if name == "" {
		at = "."
	} else {
		flags |= unix.O_EXCL | unix.O_NOFOLLOW
	}
	fd, err := unix.Openat(dir.fd, at, flags, RealMode(mode))
	if errors.Is(err, unix.EEXIST) && o.flags&unix.O_EXCL == 0 { // another process was faster
		return 0, errRun
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := c.made(fd, dir, File{Mode: mode}); err != nil {
		return 0, err
	}
	if err := c.listener.sendFile(c.id, fd, uint32(o.flags)&unix.O_CLOEXEC); err != nil {
		return 0, err
	}
	return 0, errSent
}

// place is a directory in which a call makes a file.
type place struct {
	fd  int
	dir *unix.Statx_t // as the process sees it
}

func (p *place) close() { _ = unix.Close(p.fd) }

// openPlace opens a directory that the process may make a file in.
func (c *call) openPlace(dir file) (*place, error) {
	if dir.name == "" && dir.dir == unix.AT_FDCWD {
		dir.name = "."
	}
	fd, err := c.open(dir)
	if err != nil {
		return nil, errRun
	}
	var st unix.Statx_t
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH, statMask, &st)
	switch {
	case err != nil:
	case c.kernels(&st), st.Mode&unix.S_IFMT != unix.S_IFDIR:
		err = errRun
	case !c.credentials().allowed(c.seen(&st), mayWrite|mayEnter):
		err = unix.EACCES
	case !c.waits():
		err = unix.ESRCH
	default:
		return &place{fd, c.seen(&st)}, nil
	}
	_ = unix.Close(fd)
	return nil, err
}

// makesOrdinary reports whether the kernel itself makes what the process sees of a new file.
func (c *call) makesOrdinary(dir file, mode uint32) bool {
	if !c.credentials().plain() || !ordinary(mode) {
		return false
	}
	if c.table.setGIDDirs.Load() == 0 {
		return true
	}
	var st unix.Statx_t
	return c.stat(dir, &st) != nil || c.seen(&st).Mode&unix.S_ISGID == 0
}

// made records a file that was made in a directory, by a descriptor of it. f has its mode.
func (c *call) made(fd int, in *place, f File) error {
	cred := c.credentials()
	f.UID, f.GID = cred.uid.fs, cred.gid.fs
	if in.dir.Mode&unix.S_ISGID != 0 {
		f.GID = in.dir.Gid
		if f.Mode&unix.S_IFMT == unix.S_IFDIR {
			f.Mode |= unix.S_ISGID
		}
	}
	if f.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(self(fd), RealMode(f.Mode)); err != nil { // this process's umask was used
			return err
		}
	}
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, statMask, &st); err != nil {
		return err
	}
	c.table.update(&st, func(now *File) { *now = f })
	return nil
}

func mkdir(c *call) (int64, error) { return c.mkdir(unix.AT_FDCWD, c.args[0], c.arg(1)) }

func mkdirat(c *call) (int64, error) { return c.mkdir(c.fd(0), c.args[1], c.arg(2)) }

func (c *call) mkdir(dir int32, name uint64, mode uint32) (int64, error) {
	mode = unix.S_IFDIR | mode&0o1777
	return c.make(dir, name, mode, 0, func(at int, name string) error { return unix.Mkdirat(at, name, RealMode(mode)) })
}

func symlink(c *call) (int64, error) { return c.symlink(c.args[0], unix.AT_FDCWD, c.args[1]) }

func symlinkat(c *call) (int64, error) { return c.symlink(c.args[0], c.fd(1), c.args[2]) }

func (c *call) symlink(target uint64, dir int32, name uint64) (int64, error) {
	to, err := c.str(target)
	if err != nil {
		return 0, err
	}
	return c.make(dir, name, unix.S_IFLNK|0o777, 0, func(at int, name string) error { return unix.Symlinkat(to, at, name) })
}

func mknod(c *call) (int64, error) {
	return c.mknod(unix.AT_FDCWD, c.args[0], c.arg(1), c.arg(2))
}

func mknodat(c *call) (int64, error) { return c.mknod(c.fd(0), c.args[1], c.arg(2), c.arg(3)) }

func (c *call) mknod(dir int32, name uint64, mode, device uint32) (int64, error) {
	switch kind := mode & unix.S_IFMT; kind {
	case unix.S_IFCHR, unix.S_IFBLK:
		// A whiteout of overlayfs is for everyone.
		if !c.credentials().can(unix.CAP_MKNOD) && (kind != unix.S_IFCHR || device != 0) {
			return 0, unix.EPERM
		}
		// The number as the kernel takes it is that of Mkdev for what has 32 bits.
		return c.make(dir, name, mode, uint64(device), func(at int, name string) error {
			fd, err := unix.Openat(at, name, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			return unix.Close(fd)
		})
	case 0:
		mode |= unix.S_IFREG
	case unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK:
	default:
		return 0, errRun
	}
	return c.make(dir, name, mode, 0, func(at int, name string) error { return unix.Mknodat(at, name, mode&unix.S_IFMT|RealMode(mode), 0) })
}

// make makes a file of any kind, by a function that makes it in a directory.
func (c *call) make(dir int32, name uint64, mode uint32, rdev uint64, how func(at int, name string) error) (int64, error) {
	f, err := c.file(dir, name, 0)
	if err != nil {
		return 0, err
	}
	if mode&unix.S_IFMT == unix.S_IFDIR {
		f.name = "/"[:min(1, len(f.name)-len(strings.TrimLeft(f.name, "/")))] + strings.Trim(f.name, "/")
	}
	in, base, ok := f.split()
	device := mode&unix.S_IFMT == unix.S_IFCHR || mode&unix.S_IFMT == unix.S_IFBLK
	if !ok || !device && c.makesOrdinary(in, mode) {
		return 0, errRun
	}
	f.nofollow = true
	var st unix.Statx_t
	if c.stat(f, &st) == nil {
		return 0, unix.EEXIST
	}
	at, err := c.openPlace(in)
	if err != nil {
		return 0, err
	}
	defer at.close()
	if mode&unix.S_IFMT != unix.S_IFLNK {
		mode &^= c.umask()
	}
	if err := how(at.fd, base); err != nil {
		return 0, err
	}
	fd, err := unix.Openat(at.fd, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	return 0, c.made(fd, at, File{Mode: mode, Rdev: rdev})
}
