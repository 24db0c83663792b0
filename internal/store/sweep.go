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

// Sweep removes what neither a name needs nor a process holds, while others use the store. Whoever sweeps takes what seems to
// be garbage, then looks at names and records, and discards what it has taken and still finds garbage: who gives a name holds
// what it points at until then.
type Sweep struct {
	s     *Store
	lock  *Lock
	taken holds
	gone  []string
}

// Sweep begins one, after those of others, unless this process uses the store.
func (s *Store) Sweep(ctx context.Context) (*Sweep, error) {
	if s.session.Load() != nil {
		return nil, errors.New("sweep: this process uses the store")
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

// Take keeps processes from holding something until End: they wait. It reports whether none holds it already.
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

// Discard takes a file or a folder out of the store.
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

// DiscardBlob takes a blob out of the store.
func (w *Sweep) DiscardBlob(d digest.Digest) error { return w.Discard(w.s.blobFile(d)) }

// End gives back what was taken, then deletes what was discarded, and returns the disk space that became free, in bytes. What
// is left when ctx ends goes with the next command.
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

// discard renames something into tmp/, where it is nobody's: nothing has to be made for that, so that it also works on a full
// disk.
func (s *Store) discard(path string) (string, error) {
	gone := s.Path("tmp", fmt.Sprintf("gone-%d", rand.Uint64())) //nolint:gosec // a name that nothing else has
	return gone, os.Rename(path, gone)
}

// RemoveTree deletes a folder that other packages keep in the store (a layer's tree), whatever modes its files have: it
// is renamed into tmp/ first, so that it is gone at once and a kill in between leaves garbage, not half a tree.
func (s *Store) RemoveTree(path string) (int64, error) {
	gone, err := s.discard(path)
	if err != nil {
		return 0, fmt.Errorf("remove %s: %w", filepath.Base(path), err)
	}
	return removeTree(gone)
}
