package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Sweep removes objects that no name needs and no process holds, while other processes use the store. The caller takes the
// objects that seem to be garbage, then reads names and records again, and discards the objects that it has taken and that are
// still garbage. This is safe because a process that sets a name holds the objects that the name needs until the name is set.
type Sweep struct {
	s     *Store
	lock  *Lock
	taken holds
	gone  []string // paths of discarded files, in tmp/
}

// Sweep starts a sweep. It waits for sweeps of other processes, and fails if this process uses the store.
func (s *Store) Sweep(ctx context.Context) (*Sweep, error) {
	if s.session.Load() != nil {
		return nil, errors.New("sweep the store: this process uses it")
	}
	if err := s.upgrade(ctx); err != nil {
		return nil, err
	}
	lock, err := s.Lock(ctx, "sweep")
	if err != nil {
		return nil, err
	}
	return &Sweep{s: s, lock: lock, taken: holds{s: s}}, nil
}

// Take makes processes that ask to hold an object wait until End. It returns false if a process holds the object already.
func (w *Sweep) Take(what Kind, d digest.Digest) (bool, error) {
	_, err := w.taken.lock(unix.F_OFD_SETLK, unix.F_WRLCK, what, d)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("take %s %s: %w", what, d, err)
	}
	return true, nil
}

// Discard removes a file or a directory from the store. End deletes it.
func (w *Sweep) Discard(path string) error {
	gone, err := w.s.discard(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		w.gone = append(w.gone, gone)
	}
	return err
}

// DiscardBlob removes a blob from the store.
func (w *Sweep) DiscardBlob(d digest.Digest) error { return w.Discard(w.s.blobFile(d)) }

// End releases the objects that were taken, then deletes those that were discarded, and returns the disk space that became
// free, in bytes. If ctx ends before that, the next command deletes the rest.
func (w *Sweep) End(ctx context.Context) (freed int64, err error) {
	errs := []error{w.taken.close(), w.lock.Unlock()}
	for _, path := range w.gone {
		if ctx.Err() != nil {
			errs = append(errs, context.Cause(ctx))
			break
		}
		n, err := removeTree(path)
		freed += n
		errs = append(errs, err)
	}
	return freed, errors.Join(errs...)
}

// discard renames a file or directory into tmp/, where it has no owner. It creates no file, so that it works on a full disk.
func (s *Store) discard(path string) (string, error) {
	gone := s.Path("tmp", fmt.Sprintf("gone-%d", rand.Uint64())) //nolint:gosec // a unique name
	return gone, os.Rename(path, gone)
}

// RemoveTree removes a directory that another package has in the store, whatever the modes of its files are. It renames the
// directory into tmp/ first: a kill leaves garbage, never a part of the directory.
func (s *Store) RemoveTree(path string) (int64, error) {
	gone, err := s.discard(path)
	if err != nil {
		return 0, fmt.Errorf("remove %s: %w", filepath.Base(path), err)
	}
	return removeTree(gone)
}
