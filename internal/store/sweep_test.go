package store

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/opencontainers/go-digest"
)

// another opens the same store as another process would.
func another(t testing.TB, s *Store) *Store {
	t.Helper()
	other, err := Open(s.Root())
	if err != nil {
		t.Fatal(err)
	}
	return other
}

func use(t testing.TB, s *Store) *Use {
	t.Helper()
	u, err := s.Use(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func end(t testing.TB, u *Use) {
	t.Helper()
	if err := u.End(); err != nil {
		t.Error(err)
	}
}

// sweep discards all blobs that nobody holds.
func sweep(t testing.TB, s *Store) (freed int64) {
	t.Helper()
	w, err := s.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for b, err := range s.Blobs() {
		ok := false
		if err == nil {
			ok, err = w.Take(HeldBlob, b.Digest)
		}
		if ok {
			err = w.DiscardBlob(b.Digest)
		}
		if err != nil {
			t.Error(err)
		}
	}
	freed, err = w.End(t.Context())
	if err != nil {
		t.Error(err)
	}
	return freed
}

func writeBlob(t testing.TB, s *Store, data string) digest.Digest {
	t.Helper()
	d, err := s.WriteBlob([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func has(s *Store, d digest.Digest) bool {
	_, err := s.StatBlob(d)
	return err == nil
}

// What is made or looked at stays, from then until the last use of the process ends; nothing else does.
func TestSweepBesideUse(t *testing.T) {
	s := newStore(t)
	other := another(t, s)
	seen, unseen, read := writeBlob(t, s, "seen"), writeBlob(t, s, "unseen"), writeBlob(t, s, "read")
	one, two := use(t, s), use(t, s)
	if !has(s, seen) {
		t.Fatal("not there")
	}
	if _, err := s.ReadBlob(read); err != nil {
		t.Fatal(err)
	}
	written := writeBlob(t, s, "written")
	w, err := s.NewBlob()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte("streamed"))
	streamed, err := w.Commit("")
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if freed := sweep(t, other); freed == 0 && has(other, unseen) {
			t.Error("nothing was freed")
		}
		for name, d := range map[string]digest.Digest{"seen": seen, "read": read, "written": written, "streamed": streamed} {
			if !has(other, d) {
				t.Errorf("what was %s is gone", name)
			}
		}
		end(t, one)
		one = use(t, s)
	}
	if has(other, unseen) {
		t.Error("what nobody holds is still there")
	}
	end(t, one)
	end(t, two)
	sweep(t, other)
	for _, dir := range []string{"blobs/sha256", "tmp"} {
		wantEmpty(t, s, dir)
	}
}

func TestHoldOfAllKinds(t *testing.T) {
	s := newStore(t)
	d := digest.FromString("any")
	if s.Hold(HeldLayer, d) {
		t.Error("held by a process that does not use the store")
	}
	u := use(t, s)
	defer end(t, u)
	for _, kind := range []Kind{HeldBlob, HeldLayer, HeldStep} {
		for _, want := range []bool{false, true} {
			if got, err := s.IsHeld(kind, d); err != nil || got != want {
				t.Errorf("%s is held: %t, %v, want %t", kind, got, err, want)
			}
			if fresh := s.Hold(kind, d); fresh == want {
				t.Errorf("%s is fresh: %t", kind, fresh)
			}
		}
	}
}

// What a process held that died is garbage, in the next sweep.
func TestSweepAfterADeath(t *testing.T) {
	s := newStore(t)
	kill := otherProcess(t, s, "use")
	blob := digest.FromString("made by another process")
	sweep(t, s)
	if !has(s, blob) {
		t.Error("swept while it is held")
	}
	kill()
	if freed := sweep(t, s); freed == 0 || has(s, blob) {
		t.Errorf("still held, %d bytes freed", freed)
	}
}

// Who looks at what a sweep has taken waits, and finds what it left; it does not wait for anything else.
func TestHoldDuringASweep(t *testing.T) {
	s := newStore(t)
	garbage, spared, other := writeBlob(t, s, "garbage"), writeBlob(t, s, "spared"), writeBlob(t, s, "other")
	u := use(t, s)
	defer end(t, u)
	w, err := another(t, s).Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []digest.Digest{garbage, spared} {
		if ok, err := w.Take(HeldBlob, d); err != nil || !ok {
			t.Fatalf("not taken: %v", err)
		}
	}
	if !has(s, other) {
		t.Error("another blob is gone")
	}
	looked := map[digest.Digest]chan bool{garbage: make(chan bool, 1), spared: make(chan bool, 1)}
	for d, c := range looked {
		go func() { c <- has(s, d) }()
	}
	if err := w.DiscardBlob(garbage); err != nil {
		t.Fatal(err)
	}
	for _, c := range looked {
		select {
		case <-c:
			t.Error("looked at during the sweep")
		default:
		}
	}
	if _, err := w.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	if <-looked[garbage] || !<-looked[spared] {
		t.Error("not what the sweep left")
	}
}

func TestSweepsTakeTurns(t *testing.T) {
	s := newStore(t)
	w, err := s.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := another(t, s).Sweep(ended(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("two sweeps at once: %v", err)
	}
	if _, err := w.End(t.Context()); err != nil {
		t.Error(err)
	}
	sweep(t, another(t, s))
}

func TestSweepOfAStoreInUseByThisProcess(t *testing.T) {
	s := newStore(t)
	u := use(t, s)
	if _, err := s.Sweep(t.Context()); err == nil {
		t.Error("Sweep succeeds")
	}
	end(t, u)
	sweep(t, s)
}

// What was discarded when a sweep is interrupted is out of the store, and goes with the next command.
func TestSweepInterrupted(t *testing.T) {
	s := newStore(t)
	writeBlob(t, s, "garbage")
	w, err := s.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.DiscardBlob(digest.FromString("garbage")); err != nil {
		t.Fatal(err)
	}
	if err := w.DiscardBlob(digest.FromString("garbage")); err != nil {
		t.Errorf("what is gone: %v", err)
	}
	if freed, err := w.End(ended(t)); freed != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("freed %d, %v", freed, err)
	}
	wantEmpty(t, s, "blobs/sha256")
	if freed, err := s.RemoveStaleTemp(); freed == 0 || err != nil {
		t.Errorf("freed %d, %v", freed, err)
	}
	wantEmpty(t, s, "tmp")
}

// BenchmarkHold is what one more thing costs a command that uses the store; BenchmarkUse what a command costs that holds nothing.
func BenchmarkHold(b *testing.B) {
	s := newStore(b)
	u := use(b, s)
	for i := 0; b.Loop(); i++ {
		s.Hold(HeldBlob, digest.FromString(strconv.Itoa(i)))
	}
	end(b, u)
}

func BenchmarkUse(b *testing.B) {
	s := newStore(b)
	for b.Loop() {
		end(b, use(b, s))
	}
}
