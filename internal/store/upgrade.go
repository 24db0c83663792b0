package store

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// oldSweepLock is the lock of format 1 that users of a store share and a sweep takes exclusively.
const oldSweepLock = "gc"

// ErrOldUser means that a process of an older version of mica uses the store.
var ErrOldUser = errors.New("an older version of mica uses the store; try again when it has ended")

// upgrade gives a store of format 1 the format 2. Versions that know format 1 only would remove what newer ones hold, because
// they ask for oldSweepLock alone. None may run during the upgrade, and none can use the store after it: they refuse the format,
// and a process that has read the old version file finds a directory in place of the lock.
//
// Use and Sweep upgrade the store. Commands that only read do not.
func (s *Store) upgrade(ctx context.Context) (err error) {
	if !s.old.Load() {
		return nil
	}
	lock, err := s.Lock(ctx, "upgrade")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	data, err := os.ReadFile(s.Path("version"))
	if err == nil && string(data) == oldFormat {
		err = s.upgradeAlone()
	}
	if err != nil {
		return fmt.Errorf("upgrade store %s: %w", s.root, err)
	}
	s.old.Store(false)
	return nil
}

// upgradeAlone is upgrade while no other process upgrades the store.
func (s *Store) upgradeAlone() (err error) {
	old, ok, err := s.TryLock(oldSweepLock)
	switch {
	case errors.Is(err, unix.EISDIR): // an earlier upgrade was interrupted
	case err != nil:
		return err
	case !ok:
		return ErrOldUser
	default:
		defer func() { err = errors.Join(err, old.Unlock()) }()
		path := s.Path("locks", oldSweepLock)
		if err := os.Remove(path); err != nil {
			return err
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			return err
		}
	}
	return s.WriteFileAtomic(s.Path("version"), []byte(format))
}
