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
	if err := wait(ctx, f); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Lock{f}, nil
}

// wait takes the lock of f, and closes f if it fails. It first tries without waiting, which is the usual case. flock(2)
// cannot be cancelled: a wait has a goroutine of its own, which releases a lock that comes too late.
func wait(ctx context.Context, f *os.File) error {
	err := flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return errors.Join(err, f.Close())
	}
	locked := make(chan error, 1)
	go func() { locked <- flock(f, unix.LOCK_EX) }()
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
func (l *Lock) Unlock() error { return l.f.Close() }
