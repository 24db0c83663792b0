package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/sources"
	"github.com/micabuild/mica/internal/store"
)

// noWaitUsage describes the flag of prunes that must not wait for builds and pulls.
const noWaitUsage = "Fail at once while other commands use the store, instead of waiting for them"

// sweepLock takes the store's Sweep lock for a prune. Where builds or pulls hold the store it says which, and waits, or fails.
func (a *App) sweepLock(ctx context.Context, noWait bool) (*store.Lock, error) {
	lock, ok, err := a.Store.TrySweep()
	if err != nil || ok {
		return lock, err
	}
	users, err := a.Store.Users()
	if err != nil {
		return nil, err
	}
	if noWait {
		return nil, fmt.Errorf("prune: %s in use: nothing was removed; try again later, or without --no-wait", storeUsed(users))
	}
	fmt.Fprintf(a.Stderr, "Waiting: %s in use. An interrupt (Ctrl-C) ends the wait, and removes nothing.\n", storeUsed(users))
	if err := a.Stderr.Flush(); err != nil {
		return nil, err
	}
	return a.Store.Sweep(ctx)
}

// storeUsed begins a sentence: "process 12 and process 34 have the store", and so on.
func storeUsed(pids []int) string {
	if len(pids) == 0 {
		return "other processes have the store"
	}
	names := make([]string, len(pids))
	for i, pid := range pids {
		names[i] = strconv.Itoa(pid)
	}
	if len(pids) == 1 {
		return "process " + names[0] + " has the store"
	}
	return "processes " + strings.Join(names, ", ") + " have the store"
}

// collect removes what nothing needs any more, if nobody uses the store just now; else the next prune will.
func (a *App) collect(ctx context.Context) (err error) {
	lock, ok, err := a.Store.TrySweep()
	if err != nil || !ok {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	_, err = a.sweep(ctx)
	return err
}

// sweep removes garbage and returns the bytes freed. The caller holds the Sweep lock.
func (a *App) sweep(ctx context.Context) (int64, error) {
	records, err := solver.NewCache(a.Store).Sweep()
	if err != nil {
		return 0, err
	}
	for _, prefix := range []string{solver.StepLock, solver.MountLock, solver.FetchLock, sources.GitLock} {
		if err := a.Store.RemoveLocks(prefix); err != nil {
			return 0, err
		}
	}
	sandbox.RemoveCgroups()
	return a.Images.Collect(ctx, solver.LayersOf(records))
}

// tidy removes what killed processes left in the store's tmp/. What cannot be removed is left to a prune, which says why.
func (a *App) tidy() {
	if a.Store != nil {
		_, _ = a.Store.RemoveStaleTemp()
	}
}
