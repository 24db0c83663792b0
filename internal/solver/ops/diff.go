package ops

import (
	"context"
	"fmt"

	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/solver"
)

// diffOp returns what one filesystem changes of another, as a chain of its own.
type diffOp struct {
	w            *Worker
	t            *solver.Task
	lower, upper *solver.Result
}

var _ = register[*pb.Op_Diff](kind{
	open: newDiffOp,
	Kind: solver.Kind{
		Name:    func(*solver.Vertex) string { return "diff" },
		Beneath: solver.AllInputs,
	},
})

func newDiffOp(w *Worker, t *solver.Task) (solver.Operation, error) {
	op := t.Vertex.Op.GetDiff()
	pick := func(i int64) (*solver.Result, error) {
		switch {
		case i == int64(pb.Empty):
			return &solver.Result{}, nil
		case i < 0 || int(i) >= len(t.Inputs):
			return nil, fmt.Errorf("diff has an invalid input %d", i)
		}
		return t.Inputs[i], nil
	}
	lower, err := pick(op.GetLower().GetInput())
	if err != nil {
		return nil, err
	}
	upper, err := pick(op.GetUpper().GetInput())
	if err != nil {
		return nil, err
	}
	return &diffOp{w, t, lower, upper}, nil
}

// above returns upper's layers over lower when upper was built on lower.
func (o *diffOp) above() ([]buildcache.Link, bool) {
	upper := o.upper.Chain.Links()
	if !o.lower.Chain.IsBeneath(upper) {
		return nil, false
	}
	return upper[o.lower.Chain.Len():], true
}

func (o *diffOp) Key(context.Context) (k buildcache.Key, ok bool, err error) {
	if _, ok := o.above(); ok || o.lower.Local != nil || o.upper.Local != nil {
		return k, false, nil
	}
	k.Add(buildcache.KindOperation, "diff", "")
	k.AddChain(-1, "lower", o.lower.Chain)
	k.AddChain(-1, "upper", o.upper.Chain)
	return k, true, nil
}

func (o *diffOp) Run(ctx context.Context) ([]*solver.Result, error) {
	inputs, err := o.w.allAsLayers(ctx, o.lower, o.upper)
	if err != nil {
		return nil, err
	}
	o.lower, o.upper = inputs[0], inputs[1]
	if chain, ok := o.above(); ok {
		return []*solver.Result{{Chain: buildcache.NewChain(chain...)}}, nil
	}
	lower, err := o.t.View(ctx, o.lower)
	if err != nil {
		return nil, err
	}
	upper, err := o.t.View(ctx, o.upper)
	if err != nil {
		return nil, err
	}
	changes, err := o.w.Layers.Diff(ctx, lower, upper)
	if err != nil {
		return nil, err
	}
	link, err := o.w.write(ctx, changes, o.t.Vertex)
	if err != nil {
		return nil, err
	}
	return []*solver.Result{{Chain: buildcache.NewChain(link)}}, nil
}
