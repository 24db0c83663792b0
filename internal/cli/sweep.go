package cli

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/sources"
)

// sweep removes what nothing needs and no process holds, and returns the bytes freed.
func (a *App) sweep(ctx context.Context) (int64, error) {
	w, err := a.Store.Sweep(ctx)
	if err != nil {
		return 0, err
	}
	cache := solver.NewCache(a.Store)
	err = a.Images.Collect(ctx, w, func() ([]digest.Digest, error) {
		records, err := cache.Sweep(w)
		return solver.LayersOf(records), err
	})
	freed, endErr := w.End(ctx)
	if err = errors.Join(err, endErr, a.Layers.ForgetFlattened()); err != nil {
		return freed, err
	}
	for _, prefix := range []string{solver.StepLock, solver.MountLock, solver.FetchLock, sources.GitLock} {
		if err := a.Store.RemoveLocks(prefix); err != nil {
			return freed, err
		}
	}
	sandbox.RemoveCgroups()
	stale, err := a.Store.RemoveStaleTemp()
	return freed + stale, err
}

// collect is sweep for those who do not say how much became free.
func (a *App) collect(ctx context.Context) error {
	_, err := a.sweep(ctx)
	return err
}

// tidy removes what killed processes left in the store's tmp/. What cannot be removed is left to a prune, which says why.
func (a *App) tidy() {
	if a.Store != nil {
		_, _ = a.Store.RemoveStaleTemp()
	}
}
