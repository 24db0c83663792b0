package solver

import (
	"context"
	"errors"
	"slices"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// lostError is the error for a layer that remote caches name, and that they no longer have: a registry may have removed the blob, and kept
// the manifest of the cache. That shows when the layer is fetched, long after the result was found. The steps are solved again then
// without it. (BuildKit's build fails here: its edge runs a step again only if the result cannot be loaded, and layers are fetched later.)
type lostError struct {
	id  digest.Digest
	err error
}

func (e *lostError) Error() string { return e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// attempts are the lost layers for which something was solved again. One that is lost once more cannot be made.
type attempts map[digest.Digest]bool

// again reports whether an error is for a layer that was lost, and what gave it can be solved again. It forgets the results with the layer.
func (s *Solver) again(err error, tried attempts) bool {
	var lost *lostError
	if !errors.As(err, &lost) || tried[lost.id] {
		return false
	}
	tried[lost.id] = true
	s.remote.Load().Lose(lost.id, func() bool { return s.isMissing(lost.id) })
	s.forget(lost.id)
	return true
}

// isMissing reports whether the store does not have a layer.
func (s *Solver) isMissing(id digest.Digest) bool {
	got, err := s.layers.Get(id)
	return err != nil || !got.Present()
}

// forget makes operations that have results with a lost layer be solved again, unless another operation has made the layer.
func (s *Solver) forget(id digest.Digest) {
	if !s.isMissing(id) {
		return
	}
	has := func(r *Result) bool { return r != nil && slices.Contains(r.Chain.DiffIDs(), id) }
	s.mu.Lock()
	defer s.mu.Unlock()
	for op, f := range s.flights {
		if f.ended() && slices.ContainsFunc(f.outputs, has) {
			delete(s.flights, op)
		}
	}
}

// Whole fetches the layers of the result of a definition that are not in the store. If a layer is lost, it returns another result, whose
// steps have run.
func (s *Solver) Whole(ctx context.Context, def *pb.Definition, r *Result) (*Result, error) {
	tried := attempts{}
	for {
		err := s.Fetch(ctx, r)
		if !s.again(err, tried) {
			return r, err
		}
		g, err := s.parse(def)
		if err != nil {
			return nil, err
		}
		if r, err = s.solve(ctx, g, def); err != nil {
			return nil, err
		}
	}
}
