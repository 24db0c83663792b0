package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/flock"
)

// Temp is a directory in tmp/ that this process owns.
type Temp struct {
	Path string
	lock *os.File
}

// lockSuffix is the suffix of the file beside a temporary directory. The owner of the directory holds its lock.
const lockSuffix = ".lock"

// TempDir makes a temporary directory. Its name begins with kind.
func (s *Store) TempDir(kind string) (*Temp, error) { return TempIn(s.Path("tmp"), kind) }

// TempIn makes a temporary directory in another directory than that of a store.
func TempIn(dir, kind string) (*Temp, error) {
	f, err := tempLock(dir, kind)
	if err != nil {
		return nil, fmt.Errorf("make temporary directory: %w", err)
	}
	t := &Temp{strings.TrimSuffix(f.Name(), lockSuffix), f}
	if err := os.Mkdir(t.Path, 0o700); err != nil {
		return nil, errors.Join(fmt.Errorf("make temporary directory: %w", err), t.Remove())
	}
	return t, nil
}

// LockedFile makes a file in tmp/ whose exclusive lock the caller holds until it closes it. The caller gives it a name in the store, so that
// nobody sees it there without the lock; if its process dies before, the file is removed as all of tmp/.
func (s *Store) LockedFile() (*os.File, error) { return s.tempFile(filePrefix + "*") }

// tempLock makes the lock file of a temporary directory. It is made first: a directory without a lock file has no owner.
func tempLock(dir, kind string) (*os.File, error) { return tempFile(dir, kind+"-*"+lockSuffix) }

func (s *Store) tempFile(pattern string) (*os.File, error) { return tempFile(s.Path("tmp"), pattern) }

// tempFile makes a file in a directory for temporary ones and locks it, as a sign that its owner is alive. RemoveStaleTemp of another process may remove
// the file before it is locked; tempFile tries again then.
func tempFile(dir, pattern string) (*os.File, error) {
	for {
		f, err := os.CreateTemp(dir, pattern)
		if err != nil {
			return nil, err
		}
		ok, err := flock.Try(f, flock.Exclusive)
		if err != nil {
			return nil, errors.Join(err, os.Remove(f.Name()), f.Close())
		}
		if ok && hasName(f) {
			return f, nil
		}
		_ = f.Close()
	}
}

// Remove removes the directory and everything below it.
func (t *Temp) Remove() error {
	_, err := removeTree(t.Path)
	return errors.Join(err, os.Remove(t.lock.Name()), t.lock.Close())
}

// ownTemp matches the names that mica makes in tmp/: a kind and a random number, or a digest.
var ownTemp = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:[a-z]+-[0-9]+(?:\.lock)?|` + partialPrefix + `[0-9a-f]{64})$`)
})

// RemoveStaleTemp removes what dead processes left in tmp/, and returns the disk space that became free, in bytes. Locks show
// whether an owner is alive, not times, so that this is safe at any moment. Files whose names mica does not make stay, and so do
// interrupted downloads of the last day.
func (s *Store) RemoveStaleTemp() (int64, error) { return RemoveStaleTempIn(s.Path("tmp")) }

// RemoveStaleTempIn removes what dead processes left in a directory of TempIn.
func RemoveStaleTempIn(dir string) (int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("clean tmp: %w", err)
	}
	var freed int64
	var errs []error
	for _, e := range entries {
		if !ownTemp().MatchString(e.Name()) || resumable(e) {
			continue
		}
		size, err := removeStale(filepath.Join(dir, e.Name()), e)
		freed += size
		errs = append(errs, err)
	}
	return freed, errors.Join(errs...)
}

// removeStale removes one entry of tmp/ unless its owner is alive. A directory is removed together with the lock file beside it,
// or at once if it has none.
func removeStale(path string, e fs.DirEntry) (int64, error) {
	if e.IsDir() {
		if _, err := os.Lstat(path + lockSuffix); err == nil {
			return 0, nil
		}
		return removeTree(path)
	}
	if !e.Type().IsRegular() {
		return removeTree(path)
	}
	f, err := lockDead(path)
	if f == nil || err != nil {
		return 0, err
	}
	// The lock is held until everything is removed: tempFile may just have made the file.
	defer func() { _ = f.Close() }()
	var freed int64
	if dir, ok := strings.CutSuffix(path, lockSuffix); ok {
		if freed, err = removeTree(dir); err != nil {
			return freed, err
		}
	}
	size, err := removeTree(path)
	return freed + size, err
}

// lockDead opens and locks a file. It returns nil if a process holds the lock, or if the file is gone.
func lockDead(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("clean tmp: %w", err)
	}
	if ok, err := flock.Try(f, flock.Exclusive); err != nil || !ok {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
