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

// removal deletes a tree, folders in parallel, and adds up what becomes free in the same pass. It stays below the folder
// that it was given: no symlink is followed.
type removal struct {
	group errgroup.Group

	mu    sync.Mutex
	freed int64
}

// removeTree deletes path with all that is in it, whatever modes its folders have, and returns the disk space that became
// free, in bytes: a file that has names elsewhere stays. A missing path is no error.
func removeTree(path string) (freed int64, err error) {
	r := &removal{}
	r.group.SetLimit(runtime.GOMAXPROCS(0) + 1)
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, unlessMissing("lstat", path, err)
	}
	if isFolder(&st) {
		err = r.folder(unix.AT_FDCWD, path, &st)
	} else {
		err = r.file(unix.AT_FDCWD, path, &st)
	}
	return r.freed, errors.Join(err, r.group.Wait())
}

func isFolder(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

func (r *removal) file(at int, name string, st *unix.Stat_t) error {
	if err := unlink(at, name, 0); err != nil {
		return unlessMissing("remove", name, err)
	}
	if st.Nlink <= 1 {
		r.add(st)
	}
	return nil
}

// folder deletes a folder and what is in it. While it is read, names go that it has yet to tell, so that a filesystem may
// have passed over some: then it is read again.
func (r *removal) folder(at int, name string, st *unix.Stat_t) error {
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

// empty deletes what is in a folder, subfolders in goroutines of their own as far as some are free.
func (r *removal) empty(at int, name string) error {
	fd, err := openFolder(at, name)
	if err != nil {
		return unlessMissing("open", name, err)
	}
	folder := os.NewFile(uintptr(fd), name)
	defer func() { _ = folder.Close() }()
	var below sync.WaitGroup
	defer below.Wait() // before the folder is closed
	var first firstError
	for {
		names, err := folder.Readdirnames(1024)
		for _, base := range names {
			var st unix.Stat_t
			if err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				first.set(unlessMissing("lstat", base, err))
				continue
			}
			if !isFolder(&st) {
				first.set(r.file(fd, base, &st))
				continue
			}
			below.Add(1)
			sub := func() error {
				defer below.Done()
				first.set(r.folder(fd, base, &st))
				return nil
			}
			if !r.group.TryGo(sub) {
				_ = sub()
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				first.set(unlessMissing("read", name, err)) // another process may be at it, too
			}
			below.Wait()
			return first.get()
		}
	}
}

// openFolder opens a folder that may forbid that to its owner.
func openFolder(at int, name string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(at, name, flags, 0)
	if errors.Is(err, unix.EACCES) && unix.Fchmodat(at, name, 0o700, 0) == nil {
		fd, err = unix.Openat(at, name, flags, 0)
	}
	return fd, err
}

// unlink removes a name from a folder that may forbid that to its owner.
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

// firstError keeps the first of several errors, from several goroutines.
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
