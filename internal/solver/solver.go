// Package solver runs LLB graphs: each operation once, in parallel, or not at all if the cache has its results.
package solver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/store"
)

// Options configure a Solver. Fields whose comment names no default are required.
type Options struct {
	Store  *store.Store
	Layers *layer.Layers
	// Kinds are the operations that graphs may contain.
	Kinds Kinds
	// FindBase returns the image, known without its layers so far, that a chain begins with, or that has the only layer of the chain; nil for
	// another chain. It is nil if all images have their layers.
	FindBase func(chain []digest.Digest) *Base
	// Trees reports whether processes run on the trees of layers: those that are fetched for a process are unpacked while they arrive. nil if
	// they do not.
	Trees func() bool
	// Remote are the remote caches that are read and written; nil for none.
	Remote *remotecache.Cache
	// Allowed are the entitlements that the user grants to steps.
	Allowed entitlements.Set
	// Events receives progress; nil for none.
	Events Events
	// Observer learns how operations are solved; nil for none.
	Observer Observer
	// Plan makes Solve find out what would run. Only sources are run then, and ErrPlanned is the error if an operation would run.
	Plan bool
}

// Solver solves the graphs of one build. An operation that several graphs share runs once.
// The caller holds store.Use for as long as it uses results.
type Solver struct {
	store    *store.Store
	layers   *layer.Layers
	kinds    Kinds
	findBase func(chain []digest.Digest) *Base
	trees    func() bool
	allow    entitlements.Set
	remote   atomic.Pointer[remotecache.Cache] // nil until a cache is read or written
	events   Events
	observer Observer
	plan     bool
	cache    *buildcache.Cache

	usage *usage

	mu      sync.Mutex
	flights map[digest.Digest]*flight

	there sync.Map // how many layers had been found to be damaged when a chain was in the store, by ChainID
}

// New makes a Solver.
func New(o Options) *Solver {
	events := o.Events
	if events == nil {
		events = func(*Status) {}
	}
	observer := o.Observer
	if observer == nil {
		observer = silent{}
	}
	findBase, trees := o.FindBase, o.Trees
	if findBase == nil {
		findBase = func([]digest.Digest) *Base { return nil }
	}
	if trees == nil {
		trees = func() bool { return false }
	}
	s := &Solver{
		store: o.Store, layers: o.Layers, kinds: o.Kinds, findBase: findBase, trees: trees, allow: o.Allowed, events: events, observer: observer, plan: o.Plan,
		cache: buildcache.New(o.Store), flights: map[digest.Digest]*flight{}, usage: newUsage(),
	}
	s.remote.Store(o.Remote)
	return s
}

// Outputs are the results of an operation that was solved, nil for another. One that is nil was not needed, and no cache had it.
func (s *Solver) Outputs(op digest.Digest) []*Result {
	s.mu.Lock()
	f, ok := s.flights[op]
	s.mu.Unlock()
	if !ok {
		return nil
	}
	<-f.done
	return f.outputs
}

// Solve returns the result of a definition.
func (s *Solver) Solve(ctx context.Context, def *pb.Definition) (*Result, error) {
	g, err := s.parse(def)
	if err != nil {
		return nil, err
	}
	s.announce(g)
	if err := s.prepare(g); err != nil {
		return nil, locate(err, def)
	}
	return s.solve(ctx, g, def)
}

// parse reads a definition that may be solved.
func (s *Solver) parse(def *pb.Definition) (*graph, error) {
	g, err := parse(s.kinds, def)
	if err != nil {
		return nil, err
	}
	if err := s.entitled(g); err != nil {
		return nil, locate(err, def)
	}
	return g, nil
}

func (s *Solver) solve(ctx context.Context, g *graph, def *pb.Definition) (*Result, error) {
	if err := s.lookAhead(ctx, g); err != nil {
		return nil, locate(err, def)
	}
	res, err := s.edge(ctx, g.head)
	if err != nil {
		return nil, locate(err, def)
	}
	s.passed(g)
	return res, nil
}

// SolveInputs solves what the operation of a definition's result reads, and gives its task to f, which takes the place of the operation.
func (s *Solver) SolveInputs(ctx context.Context, def *pb.Definition, f func(context.Context, *Task) error) error {
	g, err := s.parse(def)
	if err != nil {
		return err
	}
	s.announce(g)
	if err := s.prepare(g); err != nil {
		return locate(err, def)
	}
	inputs, err := s.inputs(ctx, g.head.Vertex)
	if err != nil {
		return locate(err, def)
	}
	if err := f(ctx, s.Task(g.head.Vertex, inputs)); err != nil {
		return locate(errdefs.WrapVertex(err, g.head.Vertex.Digest), def)
	}
	return nil
}

// prepare prepares the steps that will run, whatever is cached.
func (s *Solver) prepare(g *graph) error {
	if s.plan {
		return nil
	}
	for _, v := range g.vertices {
		if v.kind.Prepare == nil || !v.Meta.GetIgnoreCache() {
			continue
		}
		if err := v.kind.Prepare(v); err != nil {
			return errdefs.WrapVertex(err, v.Digest)
		}
	}
	return nil
}

// entitled refuses a graph with a step that wants more than the user grants, before anything of it runs.
func (s *Solver) entitled(g *graph) error {
	for _, v := range g.vertices {
		if v.kind.Needs == nil {
			continue
		}
		if err := s.allow.Check(v.kind.Needs(v.Op)); err != nil {
			return errdefs.WrapVertex(err, v.Digest)
		}
	}
	return nil
}

// Check refuses entitlements that the user has not granted.
func (s *Solver) Check(v entitlements.Values) error { return s.allow.Check(v) }

// locate adds to a failed operation's error the lines of the Dockerfile that it came from.
func locate(err error, def *pb.Definition) error {
	var failed *errdefs.VertexError
	if !errors.As(err, &failed) || def.Source == nil {
		return err
	}
	for _, loc := range locations(digest.Digest(failed.Digest), def) {
		if int(loc.SourceIndex) < len(def.Source.Infos) {
			err = errdefs.WithSource(err, &errdefs.Source{Info: def.Source.Infos[loc.SourceIndex], Ranges: loc.Ranges})
		}
	}
	return err
}

// locations returns the places in the Dockerfile that an operation comes from. An operation without one, as a source, has those of the
// operations that use it.
func locations(op digest.Digest, def *pb.Definition) []*pb.Location {
	users := map[string][]digest.Digest{}
	for _, raw := range def.Def {
		user := &pb.Op{}
		if user.UnmarshalVT(raw) != nil {
			continue
		}
		for _, in := range user.Inputs {
			users[in.Digest] = append(users[in.Digest], digest.FromBytes(raw))
		}
	}
	seen := map[digest.Digest]bool{}
	var find func(op digest.Digest) []*pb.Location
	find = func(op digest.Digest) []*pb.Location {
		if seen[op] {
			return nil
		}
		seen[op] = true
		found := def.Source.Locations[op.String()].GetLocations()
		for _, user := range users[op.String()] {
			if len(found) > 0 {
				break
			}
			found = find(user)
		}
		return found
	}
	return find(op)
}

// edge solves the vertex of an edge, and returns the output.
func (s *Solver) edge(ctx context.Context, e Edge) (*Result, error) {
	outs, err := s.vertex(ctx, e.Vertex)
	if err != nil {
		return nil, err
	}
	return e.of(outs)
}

// of is the output of the edge among those of its vertex.
func (e Edge) of(outs []*Result) (*Result, error) {
	if e.Output >= len(outs) || outs[e.Output] == nil {
		return nil, fmt.Errorf("%s has no output %d", e.Vertex.Name, e.Output)
	}
	return outs[e.Output], nil
}

// flight is one vertex being solved, or solved.
type flight struct {
	done    chan struct{}
	outputs []*Result // nil where a cache had no result of an output that was not needed
	err     error

	keyed  bool   // the results have keys in remote caches
	source Source // the operation of a source without keys, when it has run
}

// ended reports whether the vertex is solved, or has failed.
func (f *flight) ended() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// lacks reports whether the vertex was found without an output that the graph of v uses.
func (f *flight) lacks(v *Vertex) bool {
	return f.ended() && slices.ContainsFunc(v.wanted, func(i int) bool { return i < len(f.outputs) && f.outputs[i] == nil })
}

// keep takes over outputs of an earlier flight that this one has not found.
func (f *flight) keep(before *flight) {
	if before == nil || f.err != nil {
		return
	}
	f.outputs = slices.Clone(f.outputs)
	for i, out := range before.outputs {
		switch {
		case i >= len(f.outputs):
			f.outputs = append(f.outputs, out)
		case f.outputs[i] == nil:
			f.outputs[i] = out
		}
	}
}

// vertex solves v. What is solved already for another graph is not solved again, unless an output is missing.
func (s *Solver) vertex(ctx context.Context, v *Vertex) ([]*Result, error) {
	for {
		f, err := s.fly(ctx, v)
		if err != nil || !f.lacks(v) && !s.unkeyed(f) {
			return f.outputs, err
		}
	}
}

// fly solves v, or waits for the caller that does.
func (s *Solver) fly(ctx context.Context, v *Vertex) (*flight, error) {
	s.mu.Lock()
	f, ok := s.flights[v.Digest]
	before := f
	if !ok || f.lacks(v) || s.unkeyed(f) {
		f, ok = &flight{done: make(chan struct{}), keyed: s.remote.Load() != nil}, false
		s.flights[v.Digest] = f
	}
	s.mu.Unlock()
	if !ok {
		s.depart(ctx, v, f, before)
		if f.err != nil && !errors.Is(f.err, ErrPlanned) {
			// A later graph may try again: this one's context may have been the reason.
			s.mu.Lock()
			delete(s.flights, v.Digest)
			s.mu.Unlock()
		}
		close(f.done)
	}
	select {
	case <-f.done:
		return f, f.err
	case <-ctx.Done():
		return &flight{}, context.Cause(ctx)
	}
}

// depart gives a flight its outputs. before is the earlier one of v, nil for none.
func (s *Solver) depart(ctx context.Context, v *Vertex, f, before *flight) {
	if before != nil && before.err == nil && !before.lacks(v) {
		f.outputs = s.rekey(ctx, v, before)
		return
	}
	f.outputs, f.source, f.err = s.resolve(ctx, v)
	f.keep(before)
}

// inputs solves v's inputs. An error ends the others, but for ErrPlanned: a plan covers all inputs.
func (s *Solver) inputs(ctx context.Context, v *Vertex) ([]*Result, error) {
	eg, egctx := errgroup.WithContext(ctx)
	var planned atomic.Bool
	outs := map[*Vertex]*[]*Result{} // an operation may have several outputs of another one as its inputs
	for _, in := range v.Inputs {
		if outs[in.Vertex] != nil {
			continue
		}
		to := new([]*Result)
		outs[in.Vertex] = to
		eg.Go(func() (err error) {
			*to, err = s.vertex(egctx, in.Vertex)
			if errors.Is(err, ErrPlanned) {
				planned.Store(true)
				return nil
			}
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		return nil, err
	}
	if planned.Load() {
		return nil, ErrPlanned
	}
	inputs := make([]*Result, len(v.Inputs))
	for i, in := range v.Inputs {
		var err error
		if inputs[i], err = in.of(*outs[in.Vertex]); err != nil {
			return nil, err
		}
	}
	return inputs, nil
}

// resolve solves v's inputs, then v. If a layer of an input turns out to be lost, it does both again.
func (s *Solver) resolve(ctx context.Context, v *Vertex) (_ []*Result, _ Source, err error) {
	defer crash.Recover(&err)
	shown := s.track(v)
	for tried := (attempts{}); ; {
		inputs, err := s.inputs(ctx, v)
		if errors.Is(err, ErrPlanned) {
			s.observer.Blocked(v)
		}
		if err != nil {
			return nil, nil, err
		}
		t := &Task{Vertex: v, Inputs: inputs, s: s, tracker: shown}
		outs, cached, err := t.performInTurn(ctx)
		if s.again(err, tried) {
			continue
		}
		if errors.Is(err, ErrPlanned) {
			return nil, nil, err
		}
		t.complete(cached, err)
		if errors.Is(err, context.Canceled) {
			return nil, nil, err
		}
		if err != nil {
			return nil, nil, errdefs.WrapVertex(errdefs.WithOp(err, v.Op, v.Meta.GetDescription()), v.Digest)
		}
		return outs, t.unnamed, nil
	}
}
