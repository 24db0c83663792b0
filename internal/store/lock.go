package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/micabuild/mica/internal/flock"
)

// Lock is a held file lock. The kernel releases it when the process dies.
type Lock struct{ f *os.File }

// Lock takes an exclusive lock. It waits for the lock until ctx ends.
func (s *Store) Lock(ctx context.Context, name string) (*Lock, error) {
	return s.lock(ctx, name, flock.Exclusive)
}

// RLock takes a shared lock. It waits for the lock until ctx ends.
func (s *Store) RLock(ctx context.Context, name string) (*Lock, error) {
	return s.lock(ctx, name, flock.Shared)
}

// TryLock takes an exclusive lock without waiting. ok is false if another process or goroutine holds it.
func (s *Store) TryLock(name string) (l *Lock, ok bool, err error) {
	for {
		f, err := s.lockFile(name)
		if err != nil {
			return nil, false, err
		}
		ok, err := flock.Try(f, flock.Exclusive)
		switch {
		case err != nil:
			return nil, false, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
		case !ok:
			return nil, false, f.Close()
		case hasName(f):
			return &Lock{f}, true, nil
		}
		_ = f.Close()
	}
}

// hasName reports whether an open file still has its name. RemoveLocks may have removed it since it was opened.
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

// lock takes a lock. If the file was removed in the meantime, it takes the lock of the new file.
func (s *Store) lock(ctx context.Context, name string, mode flock.Mode) (*Lock, error) {
	for {
		f, err := s.lockFile(name)
		if err != nil {
			return nil, err
		}
		if err := flock.Wait(ctx, f, mode); err != nil {
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		if hasName(f) {
			return &Lock{f}, nil
		}
		_ = f.Close()
	}
}

// RemoveLocks removes the files of locks whose names begin with prefix, unless a process holds them.
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

// Unlock releases the lock.
func (l *Lock) Unlock() error { return flock.Release(l.f) }
