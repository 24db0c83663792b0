package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// Temp is a folder in tmp/ that belongs to this process.
type Temp struct {
	Path string
	lock *os.File
}

// lockSuffix names the file beside a temporary folder whose lock says that the owner lives.
const lockSuffix = ".lock"

// TempDir makes a temporary folder. kind is part of its name, for people who look.
func (s *Store) TempDir(kind string) (*Temp, error) {
	f, err := s.tempLock(kind)
	if err != nil {
		return nil, fmt.Errorf("make temporary folder: %w", err)
	}
	t := &Temp{strings.TrimSuffix(f.Name(), lockSuffix), f}
	if err := os.Mkdir(t.Path, 0o700); err != nil {
		return nil, errors.Join(fmt.Errorf("make temporary folder: %w", err), t.Remove())
	}
	return t, nil
}

// tempLock makes the lock of a temporary folder before the folder, for a folder whose lock file is missing is nobody's.
func (s *Store) tempLock(kind string) (*os.File, error) { return s.tempFile(kind + "-*" + lockSuffix) }

// tempFile makes a file in tmp/ whose lock says that its owner lives. A sweep may take the file for a dead process's before
// it is locked: then there is another try.
func (s *Store) tempFile(pattern string) (*os.File, error) {
	for {
		f, err := os.CreateTemp(s.Path("tmp"), pattern)
		if err != nil {
			return nil, err
		}
		if err := flock(f, unix.LOCK_EX); err != nil {
			return nil, errors.Join(err, os.Remove(f.Name()), f.Close())
		}
		if hasName(f) {
			return f, nil
		}
		_ = f.Close()
	}
}

// Remove deletes the folder with all that is in it.
func (t *Temp) Remove() error {
	_, err := removeTree(t.Path)
	return errors.Join(err, os.Remove(t.lock.Name()), t.lock.Close())
}

// ownTemp are the names that mica makes in tmp/: what it is, and a random number; or a digest.
var ownTemp = regexp.MustCompile(`^(?:[a-z]+-[0-9]+(?:\.lock)?|` + partialPrefix + `[0-9a-f]{64})$`)

// RemoveStaleTemp removes what dead processes left in tmp/ and returns the bytes freed. What has a name that mica makes none of is
// left alone. Whether the owner of something lives
// is told by its lock, never by its times, so that this can be done at any moment. Downloads of the last day that were
// interrupted stay.
func (s *Store) RemoveStaleTemp() (int64, error) {
	entries, err := os.ReadDir(s.Path("tmp"))
	if err != nil {
		return 0, fmt.Errorf("clean tmp: %w", err)
	}
	var freed int64
	var errs []error
	for _, e := range entries {
		if !ownTemp.MatchString(e.Name()) || resumable(e) {
			continue
		}
		size, err := removeStale(s.Path("tmp", e.Name()), e)
		freed += size
		errs = append(errs, err)
	}
	return freed, errors.Join(errs...)
}

// removeStale removes one entry of tmp/ unless it belongs to a process that lives. A folder belongs to the owner of the lock
// file beside it, and goes with that; where there is none, it is nobody's.
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
	// The lock is held until all is gone: the file may be one that is just being made.
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

// lockDead opens and locks a file that no living process has locked; nil if one has, or if the file is gone.
func lockDead(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("clean tmp: %w", err)
	}
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = nil
		}
		return nil, err
	}
	return f, nil
}
