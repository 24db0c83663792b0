package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Kind is what something is that a process holds.
type Kind string

// The kinds of what is held.
const (
	HeldBlob  Kind = "blob"  // what a manifest or an index needs is held with it
	HeldLayer Kind = "layer" // by its DiffID; the blobs that hold it are held with it
	HeldStep  Kind = "step"  // a record of the build cache, by its key
)

// heldFiles are the files, locks/held-0 to locks/held-f, of which each thing that can be held has one byte: who holds it has a
// lock of that byte, shared with others. The files are empty; bytes behind their ends can be locked, too. There are several as the
// kernel looks through all locks of a file for the next.
const heldFiles = 16

func heldName(n int) string { return fmt.Sprintf("held-%x", n) }

// at is the file, and the byte in it. Two things that had the same one would only be held together.
func (k Kind) at(d digest.Digest) (file int, offset int64) {
	sum := sha256.Sum256([]byte(string(k) + " " + d.String()))
	return int(sum[8] % heldFiles), int64(binary.BigEndian.Uint64(sum[:8]) >> 2)
}

// holds are the locks that a session or a Sweep has.
type holds struct {
	s *Store

	mu    sync.Mutex
	files [heldFiles]*os.File // nil for those that were not needed yet
}

// lock takes or waits for a lock; see lockByte.
func (h *holds) lock(how int, kind int16, what Kind, d digest.Digest) (unix.Flock_t, error) {
	n, offset := what.at(d)
	f, err := h.file(n)
	if err != nil {
		return unix.Flock_t{}, err
	}
	return lockByte(f, how, kind, offset)
}

func (h *holds) file(n int) (_ *os.File, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.files[n] == nil {
		h.files[n], err = h.s.lockFile(heldName(n))
	}
	return h.files[n], err
}

// close gives all locks back.
func (h *holds) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for i, f := range h.files {
		if f != nil {
			errs = append(errs, f.Close())
			h.files[i] = nil
		}
	}
	return errors.Join(errs...)
}

// lockByte takes, waits for or looks at a lock as fcntl(2) does it for open file descriptions: each has its own, and gives them
// back when it is closed or its process dies.
func lockByte(f *os.File, how int, kind int16, at int64) (unix.Flock_t, error) {
	for {
		lock := unix.Flock_t{Type: kind, Start: at, Len: 1}
		err := unix.FcntlFlock(f.Fd(), how, &lock)
		if !errors.Is(err, unix.EINTR) {
			return lock, err
		}
	}
}

// session is the use of a store by this process.
type session struct {
	holds holds
	users int      // how often Use has begun and not ended
	held  sync.Map // what is held

	mu  sync.Mutex
	err error
}

type heldThing struct {
	what Kind
	d    digest.Digest
}

// Use is the time in which a process uses the store: what it holds meanwhile is not collected.
type Use struct{ s *Store }

// Use begins to use the store. Whoever makes objects that no name points at yet, or reads an image over a longer time, does
// so: it holds what it makes and what it looks at, until End or its death. Others may Sweep meanwhile.
func (s *Store) Use(ctx context.Context) (*Use, error) {
	if err := s.upgrade(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.session.Load()
	if x == nil {
		x = &session{holds: holds{s: s}}
		s.session.Store(x)
	}
	x.users++
	return &Use{s}, nil
}

// End gives back what was held, with the last Use of this process.
func (u *Use) End() error {
	u.s.mu.Lock()
	defer u.s.mu.Unlock()
	x := u.s.session.Load()
	if x.users--; x.users > 0 {
		return nil
	}
	u.s.session.Store(nil)
	x.mu.Lock()
	defer x.mu.Unlock()
	return errors.Join(x.err, x.holds.close())
}

// Hold keeps something from being collected for as long as this process uses the store, whether or not it is there: whoever
// finds it there afterwards may rely on it. Where a Sweep is about to remove it, Hold waits until it has. Blobs are held by
// whatever reads or writes them here. fresh is true unless it was held already, or the process does not use the store.
func (s *Store) Hold(what Kind, d digest.Digest) (fresh bool) {
	x := s.session.Load()
	if x == nil {
		return false
	}
	held := heldThing{what, d}
	if _, ok := x.held.Load(held); ok {
		return false
	}
	if _, err := x.holds.lock(unix.F_OFD_SETLKW, unix.F_RDLCK, what, d); err != nil {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.err = errors.Join(x.err, fmt.Errorf("hold %s %s: %w", what, d, err))
	}
	_, had := x.held.LoadOrStore(held, nil)
	return !had
}

// IsHeld reports whether some process holds something.
func (s *Store) IsHeld(what Kind, d digest.Digest) (bool, error) {
	h := holds{s: s}
	defer func() { _ = h.close() }()
	lock, err := h.lock(unix.F_OFD_GETLK, unix.F_WRLCK, what, d)
	if err != nil {
		return false, fmt.Errorf("find users of %s %s: %w", what, d, err)
	}
	return lock.Type != unix.F_UNLCK, nil
}
