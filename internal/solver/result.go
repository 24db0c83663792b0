package solver

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/view"
)

// ChainLink is one layer of a result, and what an image's history says of a layer nobody else describes.
type ChainLink struct {
	DiffID      digest.Digest
	Created     time.Time // when mica made the layer; kept in the cache record, so that a rebuild gives the same image
	Description string
}

// Result is one output of an operation: a chain of layers, bottom first, or, for a local source, a view of the host.
// The zero Result is the empty filesystem.
type Result struct {
	Chain []ChainLink
	// Key is what the caches of others know the result by.
	Key   remotecache.Key
	local view.View
}

// DiffIDs returns the chain's layers, bottom first.
func (r *Result) DiffIDs() []digest.Digest {
	ids := make([]digest.Digest, len(r.Chain))
	for i, l := range r.Chain {
		ids[i] = l.DiffID
	}
	return ids
}

// on returns r's chain with one more layer on top.
func (r *Result) on(top ChainLink) *Result {
	chain := make([]ChainLink, len(r.Chain), len(r.Chain)+1)
	copy(chain, r.Chain)
	return &Result{Chain: append(chain, top)}
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
	return s.layers.View(ctx, r.DiffIDs())
}
