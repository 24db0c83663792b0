// Package flock takes flock(2) locks, and waits for them no longer than a context allows.
package flock

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Lock is a held lock of a file. The kernel releases it when the process dies.
type Lock struct{ f *os.File }

// Open opens the file at path, makes it if it is missing, and takes its exclusive lock. It waits for the lock until ctx
// ends, and then returns the cause of that.
func Open(ctx context.Context, path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := Wait(ctx, f, Exclusive); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Lock{f}, nil
}

// Mode is how a lock excludes others.
type Mode int

// The modes of locks.
const (
	Exclusive Mode = unix.LOCK_EX
	Shared    Mode = unix.LOCK_SH
)

// Try takes the lock of f without waiting. It returns false if the lock is held elsewhere. Closing f releases the lock.
func Try(f *os.File, mode Mode) (bool, error) {
	err := flock(f, int(mode)|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// Wait takes the lock of f, and waits for it until ctx ends. If it fails, it closes f. It first tries without waiting, which
// is the usual case. flock(2) cannot be cancelled: a wait has a goroutine of its own, which releases a lock that comes too late.
func Wait(ctx context.Context, f *os.File, mode Mode) error {
	ok, err := Try(f, mode)
	if ok {
		return nil
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	locked := make(chan error, 1)
	go func() { locked <- flock(f, int(mode)) }()
	select {
	case err := <-locked:
		if err != nil {
			return errors.Join(err, f.Close())
		}
		return nil
	case <-ctx.Done():
		go func() {
			_ = <-locked //nolint:staticcheck // whether or not the lock was taken
			_ = f.Close()
		}()
		return context.Cause(ctx)
	}
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Unlock releases the lock.
func (l *Lock) Unlock() error { return Release(l.f) }

// Release releases the lock of f, and closes f. To close it is not enough: a process that is being started has a copy of the descriptor until it
// executes its program, and keeps the lock so long.
func Release(f *os.File) error { return errors.Join(flock(f, unix.LOCK_UN), f.Close()) }
