package solver

import (
	"context"
	"fmt"
	"strings"

	"github.com/moby/buildkit/solver/pb"
)

// mergeOp puts filesystems on top of one another. Layers being what they are, that is joining lists.
type mergeOp struct{ inputs []*Result }

var _ = register[*pb.Op_Merge](kind{
	open: func(_ *Solver, v *vertex, inputs []*Result, _ *tracker) (operation, error) {
		return newMergeOp(v.op.GetMerge(), inputs)
	},
	name: func(v *vertex) string {
		names := make([]string, len(v.inputs))
		for i, in := range v.inputs {
			names[i] = in.vertex.displayName()
		}
		return "merge (" + strings.Join(names, ", ") + ")"
	},
	beneath: allInputs,
})

func newMergeOp(op *pb.MergeOp, inputs []*Result) (operation, error) {
	o := &mergeOp{}
	for _, in := range op.Inputs {
		if in.Input < 0 || int(in.Input) >= len(inputs) {
			return nil, fmt.Errorf("merge has an invalid input %d", in.Input)
		}
		o.inputs = append(o.inputs, inputs[in.Input])
	}
	return o, nil
}

func (o *mergeOp) key(context.Context) (Key, bool, error) { return Key{}, false, nil }

func (o *mergeOp) run(context.Context) ([]*Result, error) {
	var chain []ChainLink
	for _, in := range o.inputs {
		if in.local != nil {
			return nil, fmt.Errorf("a local source cannot be merged")
		}
		chain = append(chain, in.Chain...)
	}
	return []*Result{newResult(chain)}, nil
}
