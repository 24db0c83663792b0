package cli

import (
	"context"

	"github.com/micabuild/mica/internal/prune"
)

// pruner prunes the opened store.
func (a *App) pruner() *prune.Pruner {
	return &prune.Pruner{Store: a.Store, Layers: a.Layers, Images: a.Images}
}

// collect removes garbage, for commands that do not report how much space became free.
func (a *App) collect(ctx context.Context) error {
	_, err := a.pruner().Garbage(ctx)
	return err
}

// tidy removes what killed processes left in the store's tmp/. What cannot be removed is left to a prune, which says why.
func (a *App) tidy() {
	if a.Store != nil {
		_, _ = a.Store.RemoveStaleTemp()
	}
}
