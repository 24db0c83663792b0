package solver

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/view"
)

// The depths at which remote caches are searched.
const (
	byDefinition = remotecache.ByDefinition
	byContent    = remotecache.ByContent
)

// step is a vertex as remote caches know it. It is nil if there are no remote caches.
type step struct {
	s      *Solver
	v      *Vertex
	source Source            // of a source
	known  *remotecache.Step // of another operation
}

// newStep returns nil if no remote cache is read or written.
func (t *Task) newStep(op Operation) (*step, error) {
	src, isSource := op.(Source)
	remote := t.s.remote.Load()
	if remote == nil {
		t.unnamed = src
		return nil, nil
	}
	if isSource {
		return &step{s: t.s, v: t.Vertex, source: src}, nil
	}
	in := make([]remotecache.Input, len(t.Inputs))
	for i, r := range t.Inputs {
		in[i] = t.s.cacheInput(r)
	}
	known, err := remote.Step(t.Vertex.Op, t.Vertex.Meta, in)
	if err != nil {
		return nil, err
	}
	return &step{s: t.s, v: t.Vertex, known: known}, nil
}

// cacheInput is a result as the input of a step that remote caches know.
func (s *Solver) cacheInput(r *Result) remotecache.Input {
	return remotecache.Input{
		Key: r.Key, Local: r.Local != nil, View: func(ctx context.Context) (view.View, error) { return s.View(ctx, r) },
	}
}

// identify gives the step its key by content.
func (st *step) identify(key buildcache.Key) {
	if st != nil && st.known != nil {
		st.known.Identify(func(output int) digest.Digest {
			of := key.Output(output)
			return of.Digest()
		})
	}
}

// find returns the results that remote caches have of the step, or nil, and whether all of these caches are trusted. After an error the step
// runs.
func (st *step) find(ctx context.Context, depth remotecache.Depth, inputs []*Result) (outs []*Result, trusted bool) {
	if st == nil || st.known == nil || st.v.Meta.GetIgnoreCache() {
		return nil, false
	}
	hits, err := st.known.Find(ctx, depth, st.v.wanted...)
	if err != nil || hits == nil {
		return nil, false
	}
	outs, err = st.results(hits, inputs)
	if err != nil {
		return nil, false
	}
	return outs, !slices.ContainsFunc(hits, func(h *remotecache.Hit) bool { return h != nil && h.Untrusted() })
}

// lease waits while another build runs the step, and reports whether it may be found after that.
func (st *step) lease(ctx context.Context, waiting func() (done func())) bool {
	if st == nil || st.known == nil || st.v.Meta.GetIgnoreCache() || len(st.v.wanted) == 0 {
		return false
	}
	return st.known.Lease(ctx, st.v.wanted[0], waiting)
}

// endLease ends the lease of a step that has one. err is the error of the step.
func (st *step) endLease(err error) {
	if st != nil && st.known != nil {
		st.known.EndLease(err)
	}
}

// misses says why remote caches have no result of the step, after find has found none.
func (st *step) misses(ctx context.Context) []remotecache.Miss {
	if st == nil || st.known == nil || st.v.Meta.GetIgnoreCache() {
		return nil
	}
	return st.known.Misses(ctx, st.v.wanted...)
}

// results makes results of hits. below are results that they may be built on.
func (st *step) results(hits []*remotecache.Hit, below []*Result) ([]*Result, error) {
	outs := make([]*Result, len(hits))
	for i, hit := range hits {
		if hit != nil {
			outs[i] = grown(below, st.links(hit))
		}
	}
	return st.done(outs)
}

// links returns the layers of a hit.
func (st *step) links(hit *remotecache.Hit) []buildcache.Link {
	links := make([]buildcache.Link, len(hit.Layers))
	for i, l := range hit.Layers {
		links[i] = l.Layer
		if l.Description == "" && i == len(links)-1 {
			links[i].Description = st.v.Name
		}
	}
	return links
}

// grown returns a chain as a result, with the links of inputs for the layers that it shares with them: those are described better
// than the links of a remote cache.
func grown(inputs []*Result, links []buildcache.Link) *Result {
	for _, in := range inputs {
		if in.Chain.Len() > 0 && in.Chain.IsBeneath(links) {
			return &Result{Chain: in.Chain.On(links[in.Chain.Len():]...)}
		}
	}
	mine := map[digest.Digest]buildcache.Link{}
	for _, in := range inputs {
		for _, l := range in.Chain.Links() {
			mine[l.DiffID] = l
		}
	}
	for i, l := range links {
		if own, ok := mine[l.DiffID]; ok {
			links[i] = own
		}
	}
	return &Result{Chain: buildcache.NewChain(links...)}
}

// done records the results for the export of a cache, and gives them the keys by which remote caches know steps built on them.
func (st *step) done(outs []*Result) ([]*Result, error) {
	if st == nil {
		return outs, nil
	}
	known := st.known
	if st.source != nil {
		names, err := st.source.Names()
		if err != nil {
			return nil, err
		}
		known = st.s.remote.Load().Source(names...)
	}
	keyed := make([]*Result, len(outs))
	for i, out := range outs {
		if out == nil {
			continue
		}
		known.Record(i, remotecache.Result{Layers: out.Chain.Links()})
		again := *out
		again.Key = known.Key(i)
		keyed[i] = &again
	}
	return keyed, nil
}
