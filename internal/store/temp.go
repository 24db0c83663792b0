package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

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

// tempLock makes the lock of a temporary folder before the folder, for a folder whose lock file is missing is nobody's. A
// sweep may take the file for a dead process's before it is locked: then there is another try.
func (s *Store) tempLock(kind string) (*os.File, error) {
	for {
		f, err := os.CreateTemp(s.Path("tmp"), kind+"-*"+lockSuffix)
		if err != nil {
			return nil, err
		}
		if err := flock(f, unix.LOCK_EX); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		have, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if there, err := os.Stat(f.Name()); err == nil && os.SameFile(have, there) {
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

// RemoveStaleTemp removes what dead processes left in tmp/ and returns the bytes freed. The caller holds Sweep: then
// loose files, which have no lock, belong to nobody either, but for small ones of the last minute. Downloads of the last
// day that were interrupted stay.
func (s *Store) RemoveStaleTemp() (int64, error) {
	entries, err := os.ReadDir(s.Path("tmp"))
	if err != nil {
		return 0, fmt.Errorf("clean tmp: %w", err)
	}
	var freed int64
	var errs []error
	for _, e := range entries {
		path := s.Path("tmp", e.Name())
		if strings.HasSuffix(e.Name(), lockSuffix) || s.alive(path) || s.beingWritten(e) || keepPartial(path, e) {
			continue
		}
		size, err := removeTree(path)
		freed += size
		errs = append(errs, err)
	}
	for _, e := range entries {
		path := s.Path("tmp", e.Name())
		if dir, ok := strings.CutSuffix(path, lockSuffix); ok && !s.alive(dir) {
			_, err := removeTree(path)
			errs = append(errs, err)
		}
	}
	return freed, errors.Join(errs...)
}

// filePrefix begins the names of WriteFileAtomic's files, whose writers need not hold Use.
const filePrefix = "file-"

// beingWritten reports whether somebody may be about to rename a loose file.
func (s *Store) beingWritten(e fs.DirEntry) bool {
	info, err := e.Info()
	return err == nil && strings.HasPrefix(e.Name(), filePrefix) && time.Since(info.ModTime()) < time.Minute
}

// alive reports whether some process holds the lock of a temporary folder.
func (s *Store) alive(dir string) bool {
	f, err := os.Open(dir + lockSuffix)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return flock(f, unix.LOCK_EX|unix.LOCK_NB) != nil
}

// RemoveTree deletes a folder that other packages keep in the store (a layer's tree), whatever modes its files have: it
// is renamed into tmp/ first, so that it is gone at once and a kill in between leaves garbage, not half a tree.
func (s *Store) RemoveTree(path string) (int64, error) {
	dir, err := os.MkdirTemp(s.Path("tmp"), "gone-")
	if err != nil {
		return 0, fmt.Errorf("remove %s: %w", filepath.Base(path), err)
	}
	gone := filepath.Join(dir, "tree")
	if err := os.Rename(path, gone); err != nil {
		return 0, errors.Join(fmt.Errorf("remove %s: %w", filepath.Base(path), err), os.Remove(dir))
	}
	size, err := removeTree(gone)
	return size, errors.Join(err, os.Remove(dir))
}
