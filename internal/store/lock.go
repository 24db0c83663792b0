package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

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
	f, err := s.lockFile(name)
	if err != nil {
		return nil, false, err
	}
	err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return &Lock{f}, true, nil
	}
	_ = f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, false, nil
	}
	return nil, false, fmt.Errorf("lock %s: %w", name, err)
}

// gcLock is what Use and Sweep take. flock(2) lets those who share a lock pass before one who wants it alone, for ever if they
// follow each other: so a Sweep holds nextLock while it waits, at which Use stops for a while.
const (
	gcLock   = "gc"
	nextLock = "gc-next"
)

// courtesy is how long Use lets a Sweep pass that waits.
const courtesy = 3 * time.Second

// Use takes the shared "gc" lock. Whoever makes objects that no name points at yet, or reads an image over a longer
// time, holds it, so that another process's Sweep waits.
func (s *Store) Use(ctx context.Context) (*Lock, error) {
	polite, cancel := context.WithTimeout(ctx, courtesy)
	defer cancel()
	next, err := s.RLock(polite, nextLock)
	if err == nil {
		defer func() { _ = next.Unlock() }()
	} else if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return nil, err
	}
	return s.RLock(ctx, gcLock)
}

// Sweep takes the exclusive "gc" lock, under which garbage is removed.
func (s *Store) Sweep(ctx context.Context) (*Lock, error) {
	next, err := s.Lock(ctx, nextLock)
	if err != nil {
		return nil, err
	}
	defer func() { _ = next.Unlock() }()
	return s.Lock(ctx, gcLock)
}

// TrySweep is Sweep when nobody uses the store just now.
func (s *Store) TrySweep() (l *Lock, ok bool, err error) { return s.TryLock(gcLock) }

// Users returns the IDs of the processes that keep a Sweep waiting, as far as the kernel shows them here: those of other PID
// namespaces are not.
func (s *Store) Users() ([]int, error) {
	var st unix.Stat_t
	if err := unix.Stat(s.Path("locks", gcLock), &st); err != nil {
		return nil, fmt.Errorf("find users of the store: %w", err)
	}
	data, err := os.ReadFile("/proc/locks")
	if err != nil {
		return nil, fmt.Errorf("find users of the store: %w", err)
	}
	return lockHolders(string(data), st.Ino), nil
}

// lockHolders finds who holds flock(2) locks of an inode, in the text of /proc/locks (proc_locks(5)): "1: FLOCK ADVISORY READ 42
// 08:01:1234 0 EOF". Those who wait have "->" as the second word. The device is left out, as filesystems may show another
// one to stat(2).
func lockHolders(locks string, inode uint64) []int {
	var pids []int
	for line := range strings.Lines(locks) {
		w := strings.Fields(line)
		if len(w) < 6 || w[1] != "FLOCK" || !strings.HasSuffix(w[5], ":"+strconv.FormatUint(inode, 10)) {
			continue
		}
		if pid, err := strconv.Atoi(w[4]); err == nil && pid > 0 && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
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

// lock first tries without waiting, which is the usual case. A wait happens in a goroutine of its own, for flock(2)
// cannot be cancelled: when ctx ends first, that goroutine gives the lock back as soon as it gets it.
func (s *Store) lock(ctx context.Context, name string, how int) (*Lock, error) {
	f, err := s.lockFile(name)
	if err != nil {
		return nil, err
	}
	if err := flock(f, how|unix.LOCK_NB); err == nil {
		return &Lock{f}, nil
	} else if !errors.Is(err, unix.EWOULDBLOCK) {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	got := make(chan error, 1)
	go func() { got <- flock(f, how) }()
	select {
	case err := <-got:
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		return &Lock{f}, nil
	case <-ctx.Done():
		go func() {
			_ = <-got //nolint:staticcheck // whether or not it was had
			_ = f.Close()
		}()
		return nil, context.Cause(ctx)
	}
}

// RemoveLocks removes the lock files whose names begin with prefix. The caller holds Sweep, and such locks are only taken
// by who holds Use.
func (s *Store) RemoveLocks(prefix string) error {
	files, err := os.ReadDir(s.Path("locks"))
	if err != nil {
		return fmt.Errorf("clean locks: %w", err)
	}
	var errs []error
	for _, f := range files {
		if strings.HasPrefix(f.Name(), prefix) {
			errs = append(errs, os.Remove(s.Path("locks", f.Name())))
		}
	}
	return errors.Join(errs...)
}

// Unlock gives the lock back.
func (l *Lock) Unlock() error { return l.f.Close() }
