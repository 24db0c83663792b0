package solver

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/view"
)

// ChainLink is one layer of a result: when mica made it, which is kept in the cache record so that a rebuild gives the same
// image, and what an image's history says of a layer that nothing else describes.
type ChainLink = remotecache.Layer

// Result is one output of an operation: a chain of layers, bottom first, or, for a local source, a view of the host.
// The zero Result is the empty filesystem.
type Result struct {
	Chain []ChainLink
	// Key is the key of the result in remote caches.
	Key   remotecache.Key
	local view.View
	trunk *trunk // has the chain; nil where it was not grown
}

// DiffIDs returns the chain's layers, bottom first. The caller does not change them.
func (r *Result) DiffIDs() []digest.Digest {
	ids, _ := r.identities()
	return ids
}

// View is the result's filesystem.
func (s *Solver) View(ctx context.Context, r *Result) (view.View, error) {
	switch {
	case r.local != nil:
		return r.local, nil
	case len(r.Chain) == 0:
		return view.Empty(), nil
	}
	if err := s.Fetch(ctx, r); err != nil {
		return nil, err
	}
	diffIDs, chainIDs := r.identities()
	return s.layers.ViewChain(ctx, diffIDs, chainIDs)
}
