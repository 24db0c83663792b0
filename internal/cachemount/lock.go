package cachemount

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/store"
)

// LockPrefix begins the name of the lock on a cache mount that a process uses; the name of its directory follows.
const LockPrefix = "mount-"

// Locks are the cache mounts that one step uses.
type Locks struct {
	names map[string]string // of the directories, by the names that were requested
	locks []*store.Lock
}

// Lock locks the caches of a step by their names. "shared" takes a shared lock. "locked" waits for an exclusive one. "private" takes the
// first directory that no process uses. All steps lock in the same order, so that no two wait for each other.
func (m *Mounts) Lock(ctx context.Context, wanted map[string]pb.CacheSharingOpt) (_ *Locks, err error) {
	l := &Locks{names: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		var lock *store.Lock
		got := name
		switch sharing := wanted[name]; sharing {
		case pb.CacheSharingOpt_SHARED:
			lock, err = m.store.RLock(ctx, LockPrefix+name)
		case pb.CacheSharingOpt_LOCKED:
			lock, err = m.store.Lock(ctx, LockPrefix+name)
		case pb.CacheSharingOpt_PRIVATE:
			got, lock, err = m.lockPrivate(name)
		default:
			err = fmt.Errorf("sharing mode %s is not supported", sharing)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("cache mount: %w", err), l.Unlock())
		}
		l.names[name], l.locks = got, append(l.locks, lock)
	}
	return l, nil
}

// lockPrivate finds a directory that no other process uses.
func (m *Mounts) lockPrivate(base string) (name string, lock *store.Lock, err error) {
	for n, ok := 0, false; !ok; n++ {
		name = base
		if n > 0 {
			name = fmt.Sprintf("%s-%d", base, n)
		}
		if lock, ok, err = m.store.TryLock(LockPrefix + name); err != nil {
			return "", nil, err
		}
	}
	return name, lock, nil
}

// Name returns the name of the directory that was locked for a name.
func (l *Locks) Name(requested string) string { return l.names[requested] }

// Unlock releases the caches.
func (l *Locks) Unlock() error {
	var errs []error
	for _, lock := range l.locks {
		errs = append(errs, lock.Unlock())
	}
	return errors.Join(errs...)
}
