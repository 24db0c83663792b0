package solver

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestFetchTrees: layers are unpacked while they are fetched if a process will run on them, and only then.
func TestFetchTrees(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.solver(t)
	below := file("below")
	mustSolve(t, s, file("above", below))
	whole := s.Outputs(below.digest())[0]
	dir := filepath.Join(w.root, "layers", whole.Chain.DiffIDs()[0].Encoded())
	viewInput := func(task *Task) error {
		_, err := task.View(t.Context(), task.Inputs[0])
		return err
	}
	fetchInput := func(task *Task) error { return task.FetchTrees(t.Context(), task.Inputs[0]) }
	for name, c := range map[string]struct {
		trees     func() bool
		needsTree bool // of the input
		fetch     func(*Task) error
		want      bool
	}{
		"input of a process":               {yes, true, viewInput, true},
		"input of no process":              {yes, false, viewInput, false},
		"process":                          {yes, true, fetchInput, true},
		"processes without trees":          {nil, true, fetchInput, false},
		"input of a process without trees": {nil, true, viewInput, false},
	} {
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		var got []bool
		s := w.solver(t, func(o *Options) {
			o.Trees = c.trees
			o.FindBase = baseOf(whole, func(unpack bool) error {
				got = append(got, unpack)
				return os.Rename(dir+".away", dir)
			})
		})
		v := &Vertex{Inputs: []Edge{{Vertex: &Vertex{NeedsTree: c.needsTree}}}}
		if err := c.fetch(&Task{Vertex: v, Inputs: []*Result{whole}, s: s}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(got) != 1 || got[0] != c.want {
			t.Errorf("%s: fetched with trees: %v, want %t", name, got, c.want)
		}
	}
}

func yes() bool { return true }

// baseOf has an image of the chain of a result.
func baseOf(r *Result, fetch func(unpack bool) error) func([]digest.Digest) *Base {
	base := &Base{Chain: r.Chain.DiffIDs(), Fetch: func(_ context.Context, unpack bool) error { return fetch(unpack) }}
	return func([]digest.Digest) *Base { return base }
}
