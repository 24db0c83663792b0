package solver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/micabuild/mica/internal/buildcache"
)

// performInTurn performs a task as soon as few enough others run.
func (t *Task) performInTurn(ctx context.Context) (outs []*Result, cached bool, err error) {
	leave, err := t.s.usage.enter(ctx)
	if err != nil {
		return nil, false, err
	}
	defer leave()
	if outs, cached, err = t.perform(ctx); err == nil {
		err = t.s.usage.made(t.Inputs, outs)
	}
	return outs, cached, err
}

// perform returns the results of a task from a cache, or runs it.
func (t *Task) perform(ctx context.Context) (outs []*Result, cached bool, err error) {
	op, err := t.open()
	if err != nil {
		return nil, false, err
	}
	if c, ok := op.(io.Closer); ok {
		defer func() { err = errors.Join(err, c.Close()) }()
	}
	step, err := t.newStep(op)
	if err != nil {
		return nil, false, err
	}
	// If an input's files have not been fetched, the step is first looked for without them.
	if t.s.pending(t.Inputs) {
		if outs, trusted := step.find(ctx, byDefinition, t.Inputs); outs != nil {
			key := t.keyOffline(ctx, op)
			if key != nil {
				t.s.observer.Found(ctx, t.Vertex, *key)
			}
			if key != nil && trusted && !t.s.plan {
				err = t.record(*key, outs)
			}
			t.s.observer.Solved(t.Vertex, key, outs)
			return outs, true, err
		}
	}
	key, ok, err := op.Key(ctx)
	if err != nil {
		verb := "compute"
		if t.Vertex.kind.Source {
			verb = "load"
		}
		return nil, false, fmt.Errorf("failed to %s cache key: %w", verb, err)
	}
	if !ok {
		t.start()
		if outs, err = op.Run(ctx); err != nil {
			return nil, false, err
		}
		t.s.observer.Solved(t.Vertex, nil, outs)
		outs, err = step.done(outs)
		return outs, false, err
	}
	step.identify(key)
	defer func() { step.endLease(err) }()
	outs, cached, err = t.cachedOrRun(ctx, key, op, step)
	if err != nil {
		return nil, false, err
	}
	t.s.observer.Solved(t.Vertex, &key, outs)
	outs, err = step.done(outs)
	return outs, cached, err
}

// cachedOrRun returns the results of an operation with a key: from the store, from a remote cache, or by running it.
func (t *Task) cachedOrRun(ctx context.Context, key buildcache.Key, op Operation, step *step) ([]*Result, bool, error) {
	if outs, _ := t.lookUp(key); outs != nil {
		return outs, true, nil
	}
	if t.s.plan && !t.Vertex.kind.Source {
		if outs, _ := step.find(ctx, byContent, t.Inputs); outs != nil {
			return outs, true, nil
		}
		_, miss := t.lookUp(key)
		t.s.observer.Runs(ctx, t.Vertex, key, Miss{miss, step.misses(ctx)})
		return nil, false, ErrPlanned
	}
	if asks, ok := op.(Asking); ok && asks.Asks() {
		outs, cached, err := t.locked(ctx, key, step, nil)
		if outs != nil || err != nil {
			return outs, cached, err
		}
		asks.Ask(ctx) // others may wait for the lock, and a user may have to type the answer
	}
	return t.locked(ctx, key, step, op)
}

// locked returns the results of a step, which it finds or runs while no other process runs it. If op is nil, it returns nil in place of
// running the step.
func (t *Task) locked(ctx context.Context, key buildcache.Key, step *step, op Operation) ([]*Result, bool, error) {
	// Another process may be running the same step: this one then waits for its result.
	lock, err := t.s.store.Lock(ctx, buildcache.StepLock+key.Digest().Encoded())
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = lock.Unlock() }()
	outs, miss := t.lookUp(key)
	if outs != nil {
		return outs, true, nil
	}
	if outs, err := t.imported(ctx, key, step); outs != nil {
		return outs, true, err
	}
	if op == nil {
		return nil, false, nil
	}
	if step.lease(ctx, func() func() { return t.activity("waiting for another build that runs this step") }) {
		if outs, err := t.imported(ctx, key, step); outs != nil {
			return outs, true, err
		}
	}
	if ctx.Err() != nil {
		return nil, false, context.Cause(ctx)
	}
	t.start()
	t.note(t.s.observer.Runs(ctx, t.Vertex, key, Miss{miss, step.misses(ctx)}))
	if outs, err = op.Run(ctx); err != nil {
		return nil, false, err
	}
	return outs, false, t.record(key, outs)
}

// imported returns the results that remote caches have of a step, nil for none.
func (t *Task) imported(ctx context.Context, key buildcache.Key, step *step) ([]*Result, error) {
	outs, trusted := step.find(ctx, byContent, t.Inputs)
	if outs == nil {
		return nil, nil
	}
	t.s.observer.Found(ctx, t.Vertex, key)
	if !trusted { // other builds do not get the results
		return outs, nil
	}
	return outs, t.record(key, outs)
}

// lookUp returns the results that the cache has for key, or nil and what the cache has instead.
func (t *Task) lookUp(key buildcache.Key) ([]*Result, Lookup) {
	if t.Vertex.Meta.GetIgnoreCache() {
		return nil, NotAsked
	}
	outs := t.recorded(key)
	if outs == nil {
		return nil, NoRecord
	}
	if t.s.pending(outs) {
		return nil, NoLayers
	}
	return outs, NoRecord
}

// recorded returns the results in the cache's record of the operation, or in its records of the outputs that are needed; nil for none.
func (t *Task) recorded(key buildcache.Key) []*Result {
	if found, err := t.s.cache.Get(key); err == nil {
		return results(found)
	}
	var outs []*Result
	for _, i := range t.Vertex.wanted {
		found, err := t.s.cache.Get(key.Output(i))
		if err != nil || len(found) != 1 {
			return nil
		}
		for len(outs) <= i {
			outs = append(outs, nil)
		}
		outs[i] = &Result{Chain: found[0]}
	}
	return outs
}

// record adds the results of the task to the cache: all in one record, or one by one if some are unknown.
func (t *Task) record(key buildcache.Key, outs []*Result) error {
	if !slices.Contains(outs, nil) {
		return t.s.cache.Put(key, t.Vertex.Name, chains(outs))
	}
	for i, out := range outs {
		if out == nil {
			continue
		}
		if err := t.s.cache.Put(key.Output(i), t.Vertex.Name, []buildcache.Chain{out.Chain}); err != nil {
			return err
		}
	}
	return nil
}

// pending reports whether layers of some result are not in the store.
func (s *Solver) pending(results []*Result) bool {
	for _, r := range results {
		if r != nil && len(s.missing(r)) > 0 {
			return true
		}
	}
	return false
}

// Missing returns the layers of a result that are not in the store, and have not been fetched (see Fetch).
func (s *Solver) Missing(r *Result) []buildcache.Link { return s.missing(r) }

// missing returns the layers of a result that are not in the store. No layer is removed during a build (see Solver) unless it is
// found to be damaged. Until then a chain that was present, and every chain that it begins with, is not checked again.
func (s *Solver) missing(r *Result) []buildcache.Link {
	if r.Chain.Len() == 0 {
		return nil
	}
	lost := s.layers.Lost()
	links := r.Chain.Links()
	_, chainIDs := r.Chain.IDs()
	var missing []buildcache.Link
	for i := len(links) - 1; i >= 0; i-- {
		if at, ok := s.there.Load(chainIDs[i]); ok && at == lost {
			break
		}
		if got, err := s.layers.Get(links[i].DiffID); err != nil || !got.Present() {
			missing = append(missing, links[i])
		}
	}
	if len(missing) == 0 {
		s.there.Store(chainIDs[len(chainIDs)-1], lost)
	}
	slices.Reverse(missing)
	return missing
}
