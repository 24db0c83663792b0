package solver

import (
	"context"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/view"
)

// Result is one output of an operation: a chain of layers or, for a local source, a view of the host. The zero Result is the empty
// filesystem.
type Result struct {
	Chain buildcache.Chain
	// Key is the key of the result in remote caches.
	Key remotecache.Key
	// Local is the view of a local source; nil for a chain.
	Local view.View
}

// IsEmpty reports whether it is the empty filesystem.
func (r *Result) IsEmpty() bool { return r.Local == nil && r.Chain.Len() == 0 }

// results returns a result for each chain.
func results(chains []buildcache.Chain) []*Result {
	list := make([]*Result, len(chains))
	for i, c := range chains {
		list[i] = &Result{Chain: c}
	}
	return list
}

// chains returns the chain of each result.
func chains(results []*Result) []buildcache.Chain {
	list := make([]buildcache.Chain, len(results))
	for i, r := range results {
		list[i] = r.Chain
	}
	return list
}

// View is the result's filesystem.
func (s *Solver) View(ctx context.Context, r *Result) (view.View, error) {
	return s.view(ctx, r, false)
}

// view is View. With unpack, layers that are fetched for it are unpacked.
func (s *Solver) view(ctx context.Context, r *Result, unpack bool) (view.View, error) {
	switch {
	case r.Local != nil:
		return r.Local, nil
	case r.Chain.Len() == 0:
		return view.Empty(), nil
	}
	if err := s.fetch(ctx, r, unpack); err != nil {
		return nil, err
	}
	diffIDs, chainIDs := r.Chain.IDs()
	return s.layers.ViewChain(ctx, diffIDs, chainIDs)
}
