package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// ended is a context that is over: with it, a lock is had at once or not at all.
func ended(t testing.TB) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func unlock(t testing.TB, l *Lock) {
	t.Helper()
	if err := l.Unlock(); err != nil {
		t.Error(err)
	}
}

func TestLocks(t *testing.T) {
	type take func(s *Store, ctx context.Context, name string) (*Lock, error)
	exclusive, shared := take((*Store).Lock), take((*Store).RLock)
	try := func(s *Store, _ context.Context, name string) (*Lock, error) {
		l, ok, err := s.TryLock(name)
		if err == nil && !ok {
			err = context.Canceled
		}
		return l, err
	}
	for name, tt := range map[string]struct {
		held, wanted take
		other        bool // another lock is wanted
		had          bool
	}{
		"exclusive after exclusive": {held: exclusive, wanted: exclusive},
		"shared after exclusive":    {held: exclusive, wanted: shared},
		"exclusive after shared":    {held: shared, wanted: exclusive},
		"shared after shared":       {held: shared, wanted: shared, had: true},
		"try after exclusive":       {held: exclusive, wanted: try},
		"try after shared":          {held: shared, wanted: try},
		"try after try":             {held: try, wanted: try},
		"shared after try":          {held: try, wanted: shared},
		"another name":              {held: exclusive, wanted: exclusive, other: true, had: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			other, err := Open(s.Root()) // as another process would
			if err != nil {
				t.Fatal(err)
			}
			held, err := tt.held(s, t.Context(), "lock")
			if err != nil {
				t.Fatal(err)
			}
			wanted := "lock"
			if tt.other {
				wanted = "another"
			}
			l, err := tt.wanted(other, ended(t), wanted)
			switch {
			case tt.had && err != nil:
				t.Errorf("not had: %v", err)
			case !tt.had && !errors.Is(err, context.Canceled):
				t.Errorf("error %v, want context.Canceled", err)
			case err == nil:
				unlock(t, l)
			}
			unlock(t, held)
			// Who gave up waiting keeps nothing.
			l, err = tt.wanted(other, t.Context(), "yet another")
			if err != nil {
				t.Fatal(err)
			}
			unlock(t, l)
			l, err = other.Lock(t.Context(), "lock")
			if err != nil {
				t.Fatal(err)
			}
			unlock(t, l)
		})
	}
}

func TestLockGivesTheCauseOfItsContext(t *testing.T) {
	s := newStore(t)
	held, err := s.Lock(t.Context(), "lock")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock(t, held)
	cause := errors.New("the user went away")
	ctx, cancel := context.WithCancelCause(t.Context())
	waiting := make(chan error)
	go func() {
		_, err := s.Lock(ctx, "lock")
		waiting <- err
	}()
	cancel(cause)
	if err := <-waiting; !errors.Is(err, cause) {
		t.Errorf("error %v, want the cause", err)
	}
}

func TestLockWaits(t *testing.T) {
	s := newStore(t)
	held, err := s.Lock(t.Context(), "lock")
	if err != nil {
		t.Fatal(err)
	}
	var given atomic.Bool
	var wg sync.WaitGroup
	for _, lock := range []func(context.Context, string) (*Lock, error){s.Lock, s.RLock, s.RLock} {
		wg.Go(func() {
			l, err := lock(t.Context(), "lock")
			if err != nil {
				t.Error(err)
				return
			}
			if !given.Load() {
				t.Error("had while another holds it")
			}
			unlock(t, l)
		})
	}
	given.Store(true)
	unlock(t, held)
	wg.Wait()
}

func TestLockKeepsOthersOut(t *testing.T) {
	s := newStore(t)
	var inside, entered atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				l, err := s.Lock(t.Context(), "lock")
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d hold the lock", n)
				}
				entered.Add(1)
				inside.Add(-1)
				unlock(t, l)
			}
		})
	}
	wg.Wait()
	if entered.Load() != 160 {
		t.Errorf("had %d times, want 160", entered.Load())
	}
}

func TestLockOfAProcessThatDies(t *testing.T) {
	s := newStore(t)
	kill := otherProcess(t, s, "lock")
	if _, ok, err := s.TryLock("shared by all"); ok || err != nil {
		t.Errorf("had while the other process lives: %v", err)
	}
	waiting := make(chan error)
	go func() {
		l, err := s.Lock(t.Context(), "shared by all")
		if err == nil {
			err = l.Unlock()
		}
		waiting <- err
	}()
	kill()
	if err := <-waiting; err != nil {
		t.Errorf("after it died: %v", err)
	}
}

func TestRemoveLocks(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{"layer-1", "layer-2", "layers", "gc", "images"} {
		l, err := s.Lock(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		unlock(t, l)
	}
	if err := s.RemoveLocks("layer-"); err != nil {
		t.Fatal(err)
	}
	if got, want := inDir(t, s, "locks"), []string{"gc", "images", "layers"}; !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
	l, err := s.Lock(t.Context(), "layer-1")
	if err != nil {
		t.Fatalf("a lock that was removed: %v", err)
	}
	defer unlock(t, l)
	shared, err := s.RLock(t.Context(), "layer-2")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock(t, shared)
	if err := s.RemoveLocks("layer-"); err != nil {
		t.Fatal(err)
	}
	if got, want := inDir(t, s, "locks"), []string{"gc", "images", "layer-1", "layer-2", "layers"}; !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q: those that are held stay", got, want)
	}
}

// Two never have one lock, even where its file is removed again and again while they wait for it.
func TestRemoveLocksBesideThoseWhoTakeThem(t *testing.T) {
	s := newStore(t)
	done := make(chan struct{})
	var remover, takers sync.WaitGroup
	remover.Go(func() {
		for {
			if err := s.RemoveLocks("step-"); err != nil {
				t.Error(err)
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	var inside atomic.Int32
	for range 4 {
		takers.Go(func() {
			for range 500 {
				l, err := s.Lock(t.Context(), "step-1")
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d hold the lock", n)
				}
				inside.Add(-1)
				unlock(t, l)
			}
		})
	}
	takers.Wait()
	close(done)
	remover.Wait()
}

func TestLockInAMissingDirectory(t *testing.T) {
	s := newStore(t)
	if _, err := s.Lock(t.Context(), "none/lock"); err == nil {
		t.Error("Lock succeeds")
	}
	if _, ok, err := s.TryLock("none/lock"); ok || err == nil {
		t.Error("TryLock succeeds")
	}
}
