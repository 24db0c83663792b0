package store

import (
	"errors"
	"io"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// removal removes a tree, directories in parallel, and adds up the disk space that becomes free. It follows no symlinks.
type removal struct {
	group errgroup.Group

	mu    sync.Mutex
	freed int64
}

// removeTree removes path and everything below it, whatever the modes of its directories are. It returns the disk space that
// became free, in bytes, without that of files that have other names. A missing path is not an error.
func removeTree(path string) (freed int64, err error) {
	r := &removal{}
	r.group.SetLimit(runtime.GOMAXPROCS(0) + 1)
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, unlessMissing("lstat", path, err)
	}
	if isDir(&st) {
		err = r.dir(unix.AT_FDCWD, path, &st)
	} else {
		err = r.file(unix.AT_FDCWD, path, &st)
	}
	return r.freed, errors.Join(err, r.group.Wait())
}

func isDir(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

func (r *removal) file(at int, name string, st *unix.Stat_t) error {
	if err := unlink(at, name, 0); err != nil {
		return unlessMissing("remove", name, err)
	}
	if st.Nlink <= 1 {
		r.add(st)
	}
	return nil
}

// dir removes a directory and everything below it. Some filesystems skip names if others are removed while the directory is
// read; it is read again then.
func (r *removal) dir(at int, name string, st *unix.Stat_t) error {
	for tries := 0; ; tries++ {
		if err := r.empty(at, name); err != nil {
			return err
		}
		err := unlink(at, name, unix.AT_REMOVEDIR)
		if errors.Is(err, unix.ENOTEMPTY) && tries < 3 {
			continue
		}
		if err != nil {
			return unlessMissing("remove", name, err)
		}
		r.add(st)
		return nil
	}
}

// empty removes everything below a directory, subdirectories in goroutines of their own while some are free.
func (r *removal) empty(at int, name string) error {
	fd, err := openDir(at, name)
	if err != nil {
		return unlessMissing("open", name, err)
	}
	dir := os.NewFile(uintptr(fd), name)
	defer func() { _ = dir.Close() }()
	var below sync.WaitGroup
	defer below.Wait() // before the directory is closed
	var first firstError
	for {
		names, err := dir.Readdirnames(1024)
		for _, base := range names {
			var st unix.Stat_t
			if err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				first.set(unlessMissing("lstat", base, err))
				continue
			}
			if !isDir(&st) {
				first.set(r.file(fd, base, &st))
				continue
			}
			below.Add(1)
			sub := func() error {
				defer below.Done()
				first.set(r.dir(fd, base, &st))
				return nil
			}
			if !r.group.TryGo(sub) {
				_ = sub()
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				first.set(unlessMissing("read", name, err)) // another process may remove it, too
			}
			below.Wait()
			return first.get()
		}
	}
}

// openDir opens a directory, and changes its mode if that forbids it.
func openDir(at int, name string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(at, name, flags, 0)
	if errors.Is(err, unix.EACCES) && unix.Fchmodat(at, name, 0o700, 0) == nil {
		fd, err = unix.Openat(at, name, flags, 0)
	}
	return fd, err
}

// unlink removes a name from a directory, and changes the directory's mode if that forbids it.
func unlink(at int, name string, flags int) error {
	err := unix.Unlinkat(at, name, flags)
	if errors.Is(err, unix.EACCES) && at != unix.AT_FDCWD && unix.Fchmod(at, 0o700) == nil {
		err = unix.Unlinkat(at, name, flags)
	}
	return err
}

func (r *removal) add(st *unix.Stat_t) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.freed += st.Blocks * 512
}

// firstError is the first error of several goroutines.
type firstError struct {
	mu  sync.Mutex
	err error
}

func (f *firstError) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

func (f *firstError) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func unlessMissing(op, name string, err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return &os.PathError{Op: op, Path: name, Err: err}
}
