package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Lock is a held file lock. The kernel releases it when the process dies.
type Lock struct{ f *os.File }

// Lock takes the exclusive lock called name, waiting for it or for ctx.
func (s *Store) Lock(ctx context.Context, name string) (*Lock, error) {
	return s.lock(ctx, name, unix.LOCK_EX)
}

// RLock takes the shared lock called name, waiting for it or for ctx.
func (s *Store) RLock(ctx context.Context, name string) (*Lock, error) {
	return s.lock(ctx, name, unix.LOCK_SH)
}

// TryLock does not wait; ok is false when somebody else holds the lock.
func (s *Store) TryLock(name string) (l *Lock, ok bool, err error) {
	for {
		f, err := s.lockFile(name)
		if err != nil {
			return nil, false, err
		}
		err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EWOULDBLOCK):
			return nil, false, f.Close()
		case err != nil:
			return nil, false, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
		case hasName(f):
			return &Lock{f}, true, nil
		}
		_ = f.Close()
	}
}

// hasName reports whether a file that was locked is still the one of that name: else it was removed since it was opened.
func hasName(f *os.File) bool {
	have, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(f.Name())
	return err == nil && os.SameFile(have, there)
}

func (s *Store) lockFile(name string) (*os.File, error) {
	f, err := os.OpenFile(s.Path("locks", name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	return f, nil
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// lock takes a lock, again where its file was removed meanwhile.
func (s *Store) lock(ctx context.Context, name string, how int) (*Lock, error) {
	for {
		f, err := s.lockFile(name)
		if err != nil {
			return nil, err
		}
		if err := flockContext(ctx, f, how); err != nil {
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		if hasName(f) {
			return &Lock{f}, nil
		}
		_ = f.Close()
	}
}

// flockContext first tries without waiting, which is the usual case. A wait happens in a goroutine of its own, for flock(2)
// cannot be cancelled: when ctx ends first, that goroutine gives the lock back as soon as it gets it. After an error the file
// is closed, or will be.
func flockContext(ctx context.Context, f *os.File, how int) error {
	err := flock(f, how|unix.LOCK_NB)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return errors.Join(err, f.Close())
	}
	got := make(chan error, 1)
	go func() { got <- flock(f, how) }()
	select {
	case err := <-got:
		if err != nil {
			_ = f.Close()
		}
		return err
	case <-ctx.Done():
		go func() {
			_ = <-got //nolint:staticcheck // whether or not it was had
			_ = f.Close()
		}()
		return context.Cause(ctx)
	}
}

// RemoveLocks removes the files of locks whose names begin with prefix, but for those that somebody holds.
func (s *Store) RemoveLocks(prefix string) error {
	files, err := os.ReadDir(s.Path("locks"))
	if err != nil {
		return fmt.Errorf("clean locks: %w", err)
	}
	var errs []error
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), prefix) {
			continue
		}
		lock, ok, err := s.TryLock(f.Name())
		if ok {
			err = errors.Join(os.Remove(lock.f.Name()), lock.Unlock())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Unlock gives the lock back.
func (l *Lock) Unlock() error { return l.f.Close() }
