package ops

import (
	"context"
	"fmt"
	"strings"

	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/solver"
)

// mergeOp puts filesystems on top of one another: it joins lists of layers.
type mergeOp struct{ inputs []*solver.Result }

var _ = register[*pb.Op_Merge](kind{
	open: func(_ *Worker, t *solver.Task) (solver.Operation, error) {
		return newMergeOp(t.Vertex.Op.GetMerge(), t.Inputs)
	},
	Kind: solver.Kind{
		Name: func(v *solver.Vertex) string {
			names := make([]string, len(v.Inputs))
			for i, in := range v.Inputs {
				names[i] = in.Vertex.DisplayName()
			}
			return "merge (" + strings.Join(names, ", ") + ")"
		},
		Beneath: solver.AllInputs,
	},
})

func newMergeOp(op *pb.MergeOp, inputs []*solver.Result) (solver.Operation, error) {
	o := &mergeOp{}
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

func (o *mergeOp) Run(context.Context) ([]*solver.Result, error) {
	var chain []buildcache.Link
	for _, in := range o.inputs {
		if in.Local != nil {
			return nil, fmt.Errorf("a local source cannot be merged")
		}
		chain = append(chain, in.Chain.Links()...)
	}
	return []*solver.Result{{Chain: buildcache.NewChain(chain...)}}, nil
}
