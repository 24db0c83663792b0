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

// Kind is a kind of object.
type Kind string

// The kinds of objects that processes hold.
const (
	HeldBlob  Kind = "blob"  // with a manifest or an index, the objects that it needs are held
	HeldLayer Kind = "layer" // named by its DiffID; with it, its blobs are held
	HeldStep  Kind = "step"  // a record of the build cache, named by its key
)

// heldFiles is the number of files, locks/held-0 to locks/held-f, whose bytes stand for objects. A process that holds an object
// has a shared lock of its byte. The files are empty: bytes beyond the end of a file can be locked, too. There are several files
// because the kernel searches all locks of a file for each new one.
const heldFiles = 16

func heldName(n int) string { return fmt.Sprintf("held-%x", n) }

// at returns the file and the byte of an object. Two objects that share a byte are held and released together, which is safe.
func (k Kind) at(d digest.Digest) (file int, offset int64) {
	sum := sha256.Sum256([]byte(string(k) + " " + d.String()))
	return int(sum[8] % heldFiles), int64(binary.BigEndian.Uint64(sum[:8]) >> 2)
}

// holds are the byte locks of a session or a Sweep.
type holds struct {
	s *Store

	mu    sync.Mutex
	files [heldFiles]*os.File // opened when they are first needed
}

// lock takes, waits for or tests the lock of an object: see lockByte.
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

// close releases all locks.
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

// lockByte takes, waits for or tests a lock of one byte (F_OFD_SETLK, F_OFD_SETLKW or F_OFD_GETLK of fcntl(2)). Such a lock
// belongs to the open file description: the kernel releases it when the file is closed or the process dies.
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
	users int      // calls of Use that have not ended
	held  sync.Map // of heldObject

	mu  sync.Mutex
	err error
}

type heldObject struct {
	what Kind
	d    digest.Digest
}

// Use is a period in which this process uses the store. A sweep does not remove the objects that it holds in that period.
type Use struct{ s *Store }

// Use starts to use the store. Commands that make objects before a name points at them, or that read an image over a longer
// time, need it: they hold every object that they make or look at, until End or the end of the process.
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

// End ends the use. The last one of this process releases all objects.
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

// Hold keeps an object from being removed for as long as this process uses the store. The object need not exist: if it exists
// after Hold, it stays. If a Sweep is about to remove the object, Hold waits until it has. Methods that read or write blobs call
// Hold. fresh is true if the object was not held before; it is false if this process does not use the store.
func (s *Store) Hold(what Kind, d digest.Digest) (fresh bool) {
	x := s.session.Load()
	if x == nil {
		return false
	}
	object := heldObject{what, d}
	if _, ok := x.held.Load(object); ok {
		return false
	}
	if _, err := x.holds.lock(unix.F_OFD_SETLKW, unix.F_RDLCK, what, d); err != nil {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.err = errors.Join(x.err, fmt.Errorf("hold %s %s: %w", what, d, err))
	}
	_, had := x.held.LoadOrStore(object, nil)
	return !had
}

// IsHeld reports whether a process holds an object.
func (s *Store) IsHeld(what Kind, d digest.Digest) (bool, error) {
	h := holds{s: s}
	defer func() { _ = h.close() }()
	lock, err := h.lock(unix.F_OFD_GETLK, unix.F_WRLCK, what, d)
	if err != nil {
		return false, fmt.Errorf("find users of %s %s: %w", what, d, err)
	}
	return lock.Type != unix.F_UNLCK, nil
}
