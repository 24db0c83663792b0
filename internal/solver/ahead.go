package solver

import (
	"context"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/view"
)

// ahead looks for the results of a graph before any of it runs. A remote cache of mode=min, or an inline cache, has records of
// every step, but results only of steps whose layers the image has. A step that copies from another stage is found by the
// definition of that stage, which need not run then (BuildKit: solver/edge.go, where an edge asks its inputs for keys before it
// asks them for results).
type ahead struct {
	s     *Solver
	steps map[digest.Digest]*remotecache.Step
	here  map[digest.Digest]bool // whether the store has all that a vertex needs
	hits  map[digest.Digest][]*remotecache.Hit
	seen  map[digest.Digest]bool
	// lastFirst is set if nothing needs the inputs of a step that is found.
	lastFirst bool
}

// lookAhead solves the sources of a graph, and those steps that a remote cache has a result of although it has none of their
// inputs. It leaves all other steps to vertex.
func (s *Solver) lookAhead(ctx context.Context, g *graph) error {
	if !s.imports() {
		return nil
	}
	eg, egctx := errgroup.WithContext(ctx)
	for _, v := range g.reachable() {
		if v.kind.Source || s.solvedUnkeyed(v) {
			eg.Go(func() error {
				_, err := s.vertex(egctx, v)
				return err
			})
		}
	}
	if err := eg.Wait(); err != nil {
		return err
	}
	a := &ahead{
		s: s, steps: map[digest.Digest]*remotecache.Step{}, here: map[digest.Digest]bool{},
		hits: map[digest.Digest][]*remotecache.Hit{}, seen: map[digest.Digest]bool{},
	}
	if a.cached(ctx, g.head.Vertex) {
		return nil
	}
	a.lastFirst = s.remote.Load().AsksSteps()
	if a.lastFirst && a.find(ctx, g.head.Vertex) == nil {
		a.findAll(ctx, g.reachable())
	}
	a.want(ctx, g.head.Vertex)
	return nil
}

// maxFinds limits how many steps are looked for at the same time.
const maxFinds = 16

// findAll looks for steps at the same time, where each is a request.
func (a *ahead) findAll(ctx context.Context, list []*Vertex) {
	steps := map[*Vertex]*remotecache.Step{}
	for _, v := range list {
		if _, ok := a.hits[v.Digest]; ok || len(v.Inputs) == 0 || a.s.finished(v) != nil {
			continue
		}
		if st := a.step(v); st != nil {
			steps[v] = st
		}
	}
	var mu sync.Mutex
	eg := errgroup.Group{}
	eg.SetLimit(maxFinds)
	for v, st := range steps {
		eg.Go(crash.Guard(func() error {
			hits, _ := st.Find(ctx, remotecache.ByLocalContent, v.wanted...) // as in find
			mu.Lock()
			defer mu.Unlock()
			a.hits[v.Digest] = hits
			return nil
		}))
	}
	_ = eg.Wait()
}

// reachable returns the vertices that the graph's result is made of, inputs first.
func (g *graph) reachable() []*Vertex {
	var list []*Vertex
	seen := map[digest.Digest]bool{}
	var add func(v *Vertex)
	add = func(v *Vertex) {
		if seen[v.Digest] {
			return
		}
		seen[v.Digest] = true
		for _, in := range v.Inputs {
			add(in.Vertex)
		}
		list = append(list, v)
	}
	add(g.head.Vertex)
	return list
}

// finished returns the results of a vertex that has been solved, nil for another.
func (s *Solver) finished(v *Vertex) []*Result {
	s.mu.Lock()
	f, ok := s.flights[v.Digest]
	s.mu.Unlock()
	if !ok || !f.ended() || f.lacks(v) {
		return nil
	}
	return f.outputs
}

// found makes outs the results of v, unless another goroutine is solving it.
func (s *Solver) found(v *Vertex, outs []*Result, cached bool) {
	f := &flight{done: make(chan struct{}), outputs: outs, keyed: true}
	close(f.done)
	s.mu.Lock()
	known, ok := s.flights[v.Digest]
	if ok = ok && !known.lacks(v); !ok {
		s.flights[v.Digest] = f
	}
	s.mu.Unlock()
	if !ok {
		s.track(v).complete(cached, nil)
	}
}

// cached solves v if nothing has to run for it: if its inputs are solved so, and the store has its results. It reports whether it did.
func (a *ahead) cached(ctx context.Context, v *Vertex) (ok bool) {
	if known, ok := a.here[v.Digest]; ok {
		return known
	}
	defer func() { a.here[v.Digest] = ok }()
	if a.s.finished(v) != nil {
		return true
	}
	if len(v.Inputs) == 0 || v.Meta.GetIgnoreCache() {
		return false
	}
	inputs := make([]*Result, len(v.Inputs))
	for i, in := range v.Inputs {
		if !a.cached(ctx, in.Vertex) {
			return false
		}
		outs := a.s.finished(in.Vertex)
		if in.Output >= len(outs) {
			return false
		}
		inputs[i] = outs[in.Output]
	}
	if a.s.pending(inputs) {
		return false
	}
	outs, cached := a.s.recorded(ctx, v, inputs)
	if outs == nil {
		return false
	}
	a.s.found(v, outs, cached)
	return true
}

// recorded returns the results of v that the store has, or that are a list of its inputs' layers, and nil if there are none. It
// reports no error: v fails again when it runs.
func (s *Solver) recorded(ctx context.Context, v *Vertex, inputs []*Result) (outs []*Result, cached bool) {
	t := s.Task(v, inputs)
	op, err := t.open()
	if err != nil {
		return nil, false
	}
	step, err := t.newStep(op)
	if err != nil {
		return nil, false
	}
	key, cached, err := op.Key(ctx)
	switch {
	case err != nil:
		return nil, false
	case cached:
		step.identify(key)
		outs, _ = t.lookUp(key)
	default: // merge and diff, which join or cut lists of layers
		outs, err = op.Run(ctx)
	}
	if err != nil || outs == nil {
		return nil, false
	}
	if cached {
		s.observer.Solved(v, &key, outs)
	} else {
		s.observer.Solved(v, nil, outs)
	}
	if outs, err = step.done(outs); err != nil {
		return nil, false
	}
	return outs, cached
}

// want solves v from a remote cache if an input of v would have to run otherwise, or if nothing needs the inputs. If it cannot, it does the
// same for the inputs.
func (a *ahead) want(ctx context.Context, v *Vertex) {
	if a.seen[v.Digest] || a.s.finished(v) != nil {
		return
	}
	a.seen[v.Digest] = true
	if a.find(ctx, v) != nil && (a.lastFirst || !a.obtainable(ctx, v.Inputs)) {
		a.take(ctx, v)
		return
	}
	for _, in := range v.Inputs {
		a.want(ctx, in.Vertex)
	}
}

// obtainable reports whether a remote cache or the store has a result of every input.
func (a *ahead) obtainable(ctx context.Context, inputs []Edge) bool {
	for _, in := range inputs {
		if a.find(ctx, in.Vertex) == nil && !a.cached(ctx, in.Vertex) {
			return false
		}
	}
	return true
}

// step returns the step by which remote caches know v, solved or not; nil if they cannot know it.
func (a *ahead) step(v *Vertex) *remotecache.Step {
	if st, ok := a.steps[v.Digest]; ok {
		return st
	}
	inputs := make([]remotecache.Input, len(v.Inputs))
	for i, in := range v.Inputs {
		if outs := a.s.finished(in.Vertex); in.Output < len(outs) {
			inputs[i] = a.s.cacheInput(outs[in.Output])
			continue
		}
		if below := a.step(in.Vertex); below != nil {
			inputs[i].Key = below.Key(in.Output)
		}
		inputs[i].View = func(ctx context.Context) (view.View, error) {
			r, err := a.s.edge(ctx, in)
			if err != nil {
				return nil, err
			}
			return a.s.View(ctx, r)
		}
	}
	st, err := a.s.remote.Load().Step(v.Op, v.Meta, inputs)
	if err != nil {
		st = nil
	}
	a.steps[v.Digest] = st
	return st
}

// find looks for v in the remote caches, by the definitions of its inputs and the content of host directories.
func (a *ahead) find(ctx context.Context, v *Vertex) []*remotecache.Hit {
	if hits, ok := a.hits[v.Digest]; ok {
		return hits
	}
	var hits []*remotecache.Hit
	if len(v.Inputs) > 0 && a.s.finished(v) == nil {
		if st := a.step(v); st != nil {
			hits, _ = st.Find(ctx, remotecache.ByLocalContent, v.wanted...) // after an error, v is looked for again when it runs
		}
	}
	a.hits[v.Digest] = hits
	return hits
}

// take makes the hits of v its results.
func (a *ahead) take(ctx context.Context, v *Vertex) {
	st := &step{s: a.s, v: v, known: a.step(v)}
	outs, err := st.results(a.hits[v.Digest], a.below(v, map[digest.Digest]bool{}))
	if err != nil {
		return
	}
	a.s.observer.Solved(v, nil, outs)
	a.s.found(v, outs, true)
	if !a.lastFirst {
		a.record(ctx, v.Inputs)
	}
}

// below returns the results of the solved vertices nearest to v among all that it is made of.
func (a *ahead) below(v *Vertex, seen map[digest.Digest]bool) (list []*Result) {
	for _, in := range v.Inputs {
		if seen[in.Vertex.Digest] {
			continue
		}
		seen[in.Vertex.Digest] = true
		if outs := a.s.finished(in.Vertex); outs != nil {
			list = append(list, outs...)
		} else {
			list = append(list, a.below(in.Vertex, seen)...)
		}
	}
	return list
}

// record notes the results that remote caches have of steps that need not run, for a cache that is exported.
func (a *ahead) record(ctx context.Context, inputs []Edge) {
	for _, in := range inputs {
		v := in.Vertex
		if a.seen[v.Digest] || a.s.finished(v) != nil {
			continue
		}
		a.seen[v.Digest] = true
		st := &step{s: a.s, v: v, known: a.step(v)}
		for i, hit := range a.find(ctx, v) {
			if hit == nil {
				continue
			}
			st.known.Record(i, remotecache.Result{Layers: st.links(hit)})
		}
		a.record(ctx, v.Inputs)
	}
}

// passed reports the steps of a solved graph that were not needed as cached, as BuildKit does.
func (s *Solver) passed(g *graph) {
	if !s.imports() {
		return
	}
	for _, v := range g.reachable() {
		s.mu.Lock()
		_, ok := s.flights[v.Digest]
		s.mu.Unlock()
		if !ok {
			s.track(v).complete(true, nil)
		}
	}
}
