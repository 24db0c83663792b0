package solver

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/view"
)

// How far a step is looked for in the caches of others.
const (
	byDefinition = remotecache.ByDefinition
	byContent    = remotecache.ByContent
)

// step is a vertex as the caches of others know it. A nil *step is one that nobody asks for.
type step struct {
	s      *Solver
	v      *vertex
	source source            // of what has no inputs
	known  *remotecache.Step // of everything else
}

// source is an operation that others' caches know by names, once it has run.
type source interface{ names() ([]string, error) }

// newStep is nil where no cache of others is read or written.
func (s *Solver) newStep(op operation, v *vertex, inputs []*Result) (*step, error) {
	if s.others == nil {
		return nil, nil
	}
	if src, ok := op.(source); ok {
		return &step{s: s, v: v, source: src}, nil
	}
	in := make([]remotecache.Input, len(inputs))
	for i, r := range inputs {
		in[i] = s.cacheInput(r)
	}
	known, err := s.others.Step(v.op, v.meta, in)
	if err != nil {
		return nil, err
	}
	return &step{s: s, v: v, known: known}, nil
}

// cacheInput is a result as the input of a step that remote caches know.
func (s *Solver) cacheInput(r *Result) remotecache.Input {
	return remotecache.Input{
		Key: r.Key, Local: r.local != nil, View: func(ctx context.Context) (view.View, error) { return s.View(ctx, r) },
	}
}

// find returns what others have of the step, or nil. What cannot be found out is no reason to fail: the step runs then.
func (st *step) find(ctx context.Context, depth remotecache.Depth, inputs []*Result) []*Result {
	if st == nil || st.known == nil || st.v.meta.GetIgnoreCache() {
		return nil
	}
	hits, err := st.known.Find(ctx, depth)
	if err != nil || hits == nil {
		return nil
	}
	outs, err := st.results(hits, inputs)
	if err != nil {
		return nil
	}
	return outs
}

// results makes results of hits. below are results that they may be built on.
func (st *step) results(hits []*remotecache.Hit, below []*Result) ([]*Result, error) {
	outs := make([]*Result, len(hits))
	for i, hit := range hits {
		outs[i] = grown(below, st.links(hit))
	}
	return st.done(outs)
}

// links are the layers of what a cache has.
func (st *step) links(hit *remotecache.Hit) []ChainLink {
	links := make([]ChainLink, len(hit.Layers))
	for i, l := range hit.Layers {
		links[i] = l.Layer
		if l.Description == "" && i == len(links)-1 {
			links[i].Description = st.v.name
		}
	}
	return links
}

// grown returns the result of a chain that begins with one of inputs, or holds layers of them: what those say of a layer is more
// than a cache does.
func grown(inputs []*Result, links []ChainLink) *Result {
	for _, in := range inputs {
		if len(in.Chain) > 0 && in.begins(links) {
			return in.on(links[len(in.Chain):]...)
		}
	}
	mine := map[digest.Digest]ChainLink{}
	for _, in := range inputs {
		for _, l := range in.Chain {
			mine[l.DiffID] = l
		}
	}
	for i, l := range links {
		if own, ok := mine[l.DiffID]; ok {
			links[i] = own
		}
	}
	return newResult(links)
}

// done tells what the step came to, and gives the results the keys by which what is built on them is known.
func (st *step) done(outs []*Result) ([]*Result, error) {
	if st == nil {
		return outs, nil
	}
	known := st.known
	if st.source != nil {
		names, err := st.source.names()
		if err != nil {
			return nil, err
		}
		known = st.s.others.Source(names...)
	}
	keyed := make([]*Result, len(outs))
	for i, out := range outs {
		known.Record(i, remotecache.Result{Layers: out.Chain})
		again := *out
		again.Key = known.Key(i)
		keyed[i] = &again
	}
	return keyed, nil
}

// Fetch brings the layers of a result that are still where a cache of others has them, or at the registry of the image that
// the result is built on.
func (s *Solver) Fetch(ctx context.Context, r *Result) error {
	missing := s.missing(r)
	if len(missing) == 0 {
		return nil
	}
	if s.bring != nil {
		found, err := s.bring(ctx, r.DiffIDs())
		if err != nil {
			return err
		}
		if found {
			missing = s.missing(r)
		}
	}
	for _, l := range missing {
		if err := s.fetchLayer(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// FetchLock begins the name of the lock that is held while a layer comes from a cache of others; its DiffID follows.
const FetchLock = "fetch-"

// fetchLayer gets a layer from the first place that has it. Two operations that need it at once get it once.
func (s *Solver) fetchLayer(ctx context.Context, l ChainLink) error {
	if s.others == nil {
		return nil // whoever opens the layer says what is wrong
	}
	lock, err := s.store.Lock(ctx, FetchLock+l.DiffID.Encoded())
	if err != nil {
		return err
	}
	defer func() { _ = lock.Unlock() }()
	if got, err := s.layers.Get(l.DiffID); err == nil && got.Present() {
		return nil
	}
	var errs []error
	for _, at := range s.others.Remote(l.DiffID) {
		r, err := at.From.Open(ctx, at.Blob)
		if err == nil {
			_, _, err = s.layers.IngestFrom(ctx, layer.Incoming{Reader: r, Blob: at.Blob.Digest, DiffID: l.DiffID})
			err = errors.Join(err, r.Close())
		}
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	if s.bring != nil {
		if found, err := s.bring(ctx, []digest.Digest{l.DiffID}); found || err != nil {
			return err
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("fetch layer %s from the build cache: %w", l.DiffID, errors.Join(errs...))
}
