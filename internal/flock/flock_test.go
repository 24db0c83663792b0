package flock

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOpenExcludes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	var wg sync.WaitGroup
	var holders, n atomic.Int32
	for range 8 {
		wg.Go(func() {
			l, err := Open(t.Context(), path)
			if err != nil {
				t.Error(err)
				return
			}
			n.Add(1)
			if now := holders.Add(1); now != 1 {
				t.Errorf("%d hold the lock at once", now)
			}
			holders.Add(-1)
			if err := l.Unlock(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := n.Load(); n != 8 {
		t.Errorf("the lock was held %d times, want 8", n)
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Open(t.Context(), filepath.Join(dir, "missing", "lock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a lock in a missing directory: %v, want %v", err, fs.ErrNotExist)
	}
	path := filepath.Join(dir, "lock")
	held, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	if _, err := Open(ctx, path); !errors.Is(err, stopped) {
		t.Errorf("a held lock after the context ended: %v, want %v", err, stopped)
	}
	if err := held.Unlock(); err != nil {
		t.Fatal(err)
	}
	// The attempt that was given up releases the lock when it gets it.
	again, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Unlock(); err != nil {
		t.Fatal(err)
	}
}

func TestTry(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		held, wanted Mode
		want         bool
	}{
		"exclusive beside exclusive": {Exclusive, Exclusive, false},
		"shared beside exclusive":    {Exclusive, Shared, false},
		"exclusive beside shared":    {Shared, Exclusive, false},
		"shared beside shared":       {Shared, Shared, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "lock")
			open := func() *os.File {
				f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = f.Close() })
				return f
			}
			held := open()
			if ok, err := Try(held, tt.held); !ok || err != nil {
				t.Fatalf("a free lock: %t, %v", ok, err)
			}
			f := open()
			if ok, err := Try(f, tt.wanted); ok != tt.want || err != nil {
				t.Errorf("%t, %v, want %t", ok, err, tt.want)
			}
			if err := held.Close(); err != nil {
				t.Fatal(err)
			}
			if err := Wait(t.Context(), f, tt.wanted); err != nil {
				t.Errorf("after it was released: %v", err)
			}
			if _, err := Try(held, tt.held); err == nil {
				t.Error("a closed file is locked")
			}
		})
	}
}

// TestUnlockWithACopy: a process that is being started has copies of all descriptors for a moment. They do not keep a lock that is released.
func TestUnlockWithACopy(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	l, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(l.f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	held := os.NewFile(uintptr(fd), "copy")
	defer held.Close() //nolint:errcheck // only for its lock
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only for its lock
	if ok, err := Try(f, Exclusive); err != nil || !ok {
		t.Errorf("%v, %v: the copy keeps the lock", ok, err)
	}
}
