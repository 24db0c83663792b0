package store

import (
	"errors"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// oldStore returns a store as versions of mica left it that know format 1 only.
func oldStore(t *testing.T) *Store {
	t.Helper()
	s := newStore(t)
	for path, data := range map[string]string{s.Path("version"): oldFormat, s.Path("locks", oldSweepLock): ""} {
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return another(t, s)
}

func wantFormat(t *testing.T, s *Store, want string) {
	t.Helper()
	if got, err := os.ReadFile(s.Path("version")); err != nil || string(got) != want {
		t.Errorf("the format is %q, %v, want %q", got, err, want)
	}
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	for name, command := range map[string]func(s *Store) error{
		"use": func(s *Store) error {
			u, err := s.Use(t.Context())
			if err != nil {
				return err
			}
			return u.End()
		},
		"sweep": func(s *Store) error {
			w, err := s.Sweep(t.Context())
			if err != nil {
				return err
			}
			_, err = w.End(t.Context())
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := oldStore(t)
			blob := writeBlob(t, s, "kept")
			if _, err := s.Names().List(); err != nil {
				t.Error(err)
			}
			wantFormat(t, s, oldFormat) // until it is used
			for range 2 {
				if err := command(s); err != nil {
					t.Fatal(err)
				}
				wantFormat(t, s, format)
			}
			if err := command(another(t, s)); err != nil {
				t.Error(err)
			}
			// What an older version does that has read the version file before the upgrade.
			if _, _, err := s.TryLock(oldSweepLock); !errors.Is(err, unix.EISDIR) {
				t.Errorf("an older version gets its lock: %v", err)
			}
			if !has(s, blob) && name == "use" {
				t.Error("a blob is gone")
			}
		})
	}
}

// While an older version uses the store or sweeps it, newer ones cannot.
func TestUpgradeBesideAnOlderVersion(t *testing.T) {
	t.Parallel()
	s := oldStore(t)
	old, err := s.RLock(t.Context(), oldSweepLock)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.Use(t.Context()); !errors.Is(err, ErrOldUser) {
			t.Errorf("used: %v", err)
		}
		if _, err := s.Sweep(t.Context()); !errors.Is(err, ErrOldUser) {
			t.Errorf("swept: %v", err)
		}
	}
	wantFormat(t, s, oldFormat)
	unlock(t, old)
	end(t, use(t, s))
	wantFormat(t, s, format)
}

// A process that dies between the two steps of an upgrade leaves a store that the next one upgrades.
func TestUpgradeInterrupted(t *testing.T) {
	t.Parallel()
	s := oldStore(t)
	if err := errors.Join(os.Remove(s.Path("locks", oldSweepLock)), os.Mkdir(s.Path("locks", oldSweepLock), 0o700)); err != nil {
		t.Fatal(err)
	}
	end(t, use(t, s))
	wantFormat(t, s, format)
}

func TestUpgradesAtOnce(t *testing.T) {
	t.Parallel()
	s := oldStore(t)
	stores := []*Store{s, another(t, s), another(t, s), another(t, s)}
	var wg sync.WaitGroup
	for _, s := range stores {
		wg.Go(func() {
			u, err := s.Use(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			end(t, u)
		})
	}
	wg.Wait()
	wantFormat(t, s, format)
}
