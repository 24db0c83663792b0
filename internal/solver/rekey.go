package solver

import (
	"context"
	"errors"
	"io"

	"github.com/micabuild/mica/internal/remotecache"
)

// ReadRemote makes the solver read a remote cache from now on, if it has none: a front end may name caches after it has solved graphs. Results
// that have no keys in remote caches get them when a graph uses them again.
func (s *Solver) ReadRemote(c *remotecache.Cache) { s.remote.CompareAndSwap(nil, c) }

// imports reports whether steps may be found in remote caches.
func (s *Solver) imports() bool {
	remote := s.remote.Load()
	return remote != nil && remote.HasImports()
}

// unkeyed reports whether a flight has ended with results that steps built on them could not be found by.
func (s *Solver) unkeyed(f *flight) bool { return !f.keyed && s.remote.Load() != nil && f.ended() }

// solvedUnkeyed reports whether a vertex was solved before the solver had remote caches.
func (s *Solver) solvedUnkeyed(v *Vertex) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.flights[v.Digest]
	return ok && s.unkeyed(f)
}

// rekey returns the results of an earlier flight of v with their keys. Nothing runs again: a step that is not cached would have another
// result, and a source might have changed. If the keys cannot be found out, steps built on the results are found by content alone.
func (s *Solver) rekey(ctx context.Context, v *Vertex, before *flight) []*Result {
	outs, err := s.keyed(ctx, v, before)
	if err != nil {
		return before.outputs
	}
	return outs
}

func (s *Solver) keyed(ctx context.Context, v *Vertex, before *flight) (_ []*Result, err error) {
	if v.kind.Source {
		if before.source == nil { // the cache came while it ran
			return before.outputs, nil
		}
		return (&step{s: s, v: v, source: before.source}).done(before.outputs)
	}
	inputs, err := s.inputs(ctx, v)
	if err != nil {
		return nil, err
	}
	t := s.Task(v, inputs)
	op, err := t.open()
	if err != nil {
		return nil, err
	}
	if c, ok := op.(io.Closer); ok {
		defer func() { err = errors.Join(err, c.Close()) }()
	}
	st, err := t.newStep(op)
	if err != nil {
		return nil, err
	}
	return st.done(before.outputs)
}
