package command

import (
	"context"

	"github.com/micabuild/mica/internal/prune"
)

// Pruner prunes the opened store.
func (a *App) Pruner() *prune.Pruner {
	return &prune.Pruner{Store: a.Store, Layers: a.Layers, Images: a.Images}
}

// Collect removes garbage, for commands that do not report how much space became free.
func (a *App) Collect(ctx context.Context) error {
	_, err := a.Pruner().Garbage(ctx)
	return err
}

// Tidy removes what killed processes left in the store's tmp/. What cannot be removed is left to a prune, which says why.
func (a *App) Tidy() {
	if a.Store != nil {
		_, _ = a.Store.RemoveStaleTemp()
	}
}
