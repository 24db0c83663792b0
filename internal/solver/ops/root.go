package ops

import (
	"context"

	"github.com/micabuild/mica/internal/overlay"
	"github.com/micabuild/mica/internal/solver"
)

// Root describes a read-only root filesystem with the files of a result, whose layers are in the store. Whatever it needs is made in dir,
// which belongs to the caller.
func (w *Worker) Root(ctx context.Context, r *solver.Result, dir string) (u overlay.Options, err error) {
	if r, err = w.asLayers(ctx, r, "/"); err != nil {
		return u, err
	}
	u.Lowers, err = w.Layers.Lowers(ctx, r.Chain.DiffIDs(), dir)
	return u, err
}
