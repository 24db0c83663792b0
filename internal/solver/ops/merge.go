package ops

import (
	"context"
	"fmt"

	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/solver"
)

// mergeOp puts filesystems on top of one another: it joins lists of layers.
type mergeOp struct {
	w      *Worker
	inputs []*solver.Result
}

var _ = register[*pb.Op_Merge](kind{
	open: func(w *Worker, t *solver.Task) (solver.Operation, error) {
		return newMergeOp(w, t.Vertex.Op.GetMerge(), t.Inputs)
	},
	Kind: solver.Kind{
		Name:    func(v *solver.Vertex) string { return "merge (" + v.InputNames() + ")" },
		Beneath: solver.AllInputs,
	},
})

func newMergeOp(w *Worker, op *pb.MergeOp, inputs []*solver.Result) (solver.Operation, error) {
	o := &mergeOp{w: w}
	for _, in := range op.Inputs {
		if in.Input < 0 || int(in.Input) >= len(inputs) {
			return nil, fmt.Errorf("merge has an invalid input %d", in.Input)
		}
		o.inputs = append(o.inputs, inputs[in.Input])
	}
	return o, nil
}

func (o *mergeOp) Key(context.Context) (buildcache.Key, bool, error) {
	return buildcache.Key{}, false, nil
}

func (o *mergeOp) Run(ctx context.Context) ([]*solver.Result, error) {
	inputs, err := o.w.allAsLayers(ctx, o.inputs...)
	if err != nil {
		return nil, err
	}
	size := 0
	for _, in := range inputs {
		if size += in.Chain.Len(); size > solver.MaxLayers {
			return nil, fmt.Errorf("the merged filesystems have more than %d layers", solver.MaxLayers)
		}
	}
	chain := make([]buildcache.Link, 0, size)
	for _, in := range inputs {
		chain = append(chain, in.Chain.Links()...)
	}
	return []*solver.Result{{Chain: buildcache.NewChain(chain...)}}, nil
}
