package solver

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// operation is a vertex whose inputs are solved.
type operation interface {
	// key describes the operation and the content it reads; ok is false for an operation that is never cached (images, host directories).
	key(ctx context.Context) (k Key, ok bool, err error)
	// run does the work and returns one result per output.
	run(ctx context.Context) ([]*Result, error)
}

// StepLock is the prefix of the name of the lock on an operation that runs; its key follows.
const StepLock = "step-"

// perform returns v's results from a cache, or runs it.
func (s *Solver) perform(ctx context.Context, v *vertex, inputs []*Result, t *tracker) (outs []*Result, cached bool, err error) {
	op, err := v.kind().open(s, v, inputs, t)
	if err != nil {
		return nil, false, err
	}
	if c, ok := op.(interface{ close() error }); ok {
		defer func() { err = errors.Join(err, c.close()) }()
	}
	step, err := s.newStep(op, v, inputs)
	if err != nil {
		return nil, false, err
	}
	// If an input's files have not been fetched, the step is first looked for without them.
	if s.pending(inputs) {
		if outs := step.find(ctx, byDefinition, inputs); outs != nil {
			return outs, true, nil
		}
	}
	key, ok, err := op.key(ctx)
	if _, isSource := op.(*remoteSource); err != nil && isSource {
		return nil, false, fmt.Errorf("failed to load cache key: %w", err)
	}
	if err != nil {
		return nil, false, fmt.Errorf("failed to compute cache key: %w", err)
	}
	if !ok {
		t.start()
		if outs, err = op.run(ctx); err != nil {
			return nil, false, err
		}
		outs, err = step.done(outs)
		return outs, false, err
	}
	outs, cached, err = s.cachedOrRun(ctx, key, v, op, step, inputs, t)
	if err != nil {
		return nil, false, err
	}
	outs, err = step.done(outs)
	return outs, cached, err
}

// cachedOrRun returns the results of an operation with a key: from the store, from a remote cache, or by running it.
func (s *Solver) cachedOrRun(ctx context.Context, key Key, v *vertex, op operation, step *step, inputs []*Result, t *tracker) ([]*Result, bool, error) {
	if outs := s.lookUp(key, v); outs != nil {
		return outs, true, nil
	}
	// Another process may be running the same step: this one then waits for its result.
	lock, err := s.store.Lock(ctx, StepLock+key.Digest().Encoded())
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = lock.Unlock() }()
	if outs := s.lookUp(key, v); outs != nil {
		return outs, true, nil
	}
	if outs := step.find(ctx, byContent, inputs); outs != nil {
		return outs, true, s.cache.Put(key, v.name, outs)
	}
	t.start()
	outs, err := op.run(ctx)
	if err != nil {
		return nil, false, err
	}
	return outs, false, s.cache.Put(key, v.name, outs)
}

// lookUp returns the results that the cache has for key, or nil if there are none or the store lacks one of their layers.
func (s *Solver) lookUp(key Key, v *vertex) []*Result {
	if v.meta.GetIgnoreCache() {
		return nil
	}
	outs, err := s.cache.Get(key)
	if err != nil || s.pending(outs) {
		return nil
	}
	return outs
}

// pending reports whether layers of some result are not in the store.
func (s *Solver) pending(results []*Result) bool {
	for _, r := range results {
		if len(s.missing(r)) > 0 {
			return true
		}
	}
	return false
}

// Missing returns the layers of a result that are not in the store, and have not been fetched (see Fetch).
func (s *Solver) Missing(r *Result) []ChainLink { return s.missing(r) }

// missing returns the layers of a result that are not in the store. No layer is removed during a build (see Solver) unless it is
// found to be damaged. Until then a chain that was present, and every chain that it begins with, is not checked again.
func (s *Solver) missing(r *Result) []ChainLink {
	if len(r.Chain) == 0 {
		return nil
	}
	lost := s.layers.Lost()
	_, chainIDs := r.identities()
	var missing []ChainLink
	for i := len(r.Chain) - 1; i >= 0; i-- {
		if at, ok := s.there.Load(chainIDs[i]); ok && at == lost {
			break
		}
		if got, err := s.layers.Get(r.Chain[i].DiffID); err != nil || !got.Present() {
			missing = append(missing, r.Chain[i])
		}
	}
	if len(missing) == 0 {
		s.there.Store(chainIDs[len(chainIDs)-1], lost)
	}
	slices.Reverse(missing)
	return missing
}
