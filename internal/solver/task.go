package solver

import (
	"context"
	"errors"
	"io"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/view"
)

// Task is a vertex whose inputs are solved.
type Task struct {
	Vertex *Vertex
	Inputs []*Result

	s *Solver
	*tracker
	offline bool   // View fetches nothing
	unnamed Source // the operation of a source whose results have no keys in remote caches
}

// Task returns the task of a vertex with solved inputs.
func (s *Solver) Task(v *Vertex, inputs []*Result) *Task {
	return &Task{Vertex: v, Inputs: inputs, s: s, tracker: s.track(v)}
}

// open returns the operation of a task.
func (t *Task) open() (Operation, error) { return t.Vertex.kind.Open(t) }

// View returns the filesystem of a result.
func (t *Task) View(ctx context.Context, r *Result) (view.View, error) {
	if t.offline && len(t.s.missing(r)) > 0 {
		return nil, errOffline
	}
	return t.s.view(ctx, r, t.runsOn(r))
}

// runsOn reports whether a process will run on the trees of a result, which a step then fetches with them: an input, or what the step makes of
// one.
func (t *Task) runsOn(r *Result) bool {
	for i, from := range t.Vertex.Inputs {
		if in := t.Inputs[i]; from.Vertex.NeedsTree && in.Chain.Len() > 0 && in.Chain.IsBeneath(r.Chain.Links()) {
			return t.s.trees()
		}
	}
	return false
}

var errOffline = errors.New("layers are not in the store")

// keyOffline returns the key of an operation if it can be computed without fetching a layer; nil otherwise.
func (t *Task) keyOffline(ctx context.Context, op Operation) *buildcache.Key {
	t.offline = true
	defer func() { t.offline = false }()
	key, ok, err := op.Key(ctx)
	if err != nil || !ok {
		return nil
	}
	return &key
}

// FetchTrees fetches the layers of a result that are not in the store, for a process that runs on their trees.
func (t *Task) FetchTrees(ctx context.Context, r *Result) error {
	return t.s.fetch(ctx, r, t.s.trees())
}

// Output returns a writer whose lines the display shows under the vertex. stream is 1 for stdout, 2 for stderr.
func (t *Task) Output(stream int) io.Writer { return &output{t.tracker, stream} }
