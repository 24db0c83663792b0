package ops

import (
	"context"
	"errors"
	"fmt"

	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/solver"
)

// passthroughOp returns inputs. It makes a result depend on operations whose own results are not used.
type passthroughOp struct{ outputs []*solver.Result }

var _ = register[*pb.Op_Passthrough](kind{
	open: func(_ *Worker, t *solver.Task) (solver.Operation, error) {
		return newPassthroughOp(t.Vertex.Op.GetPassthrough(), t.Inputs)
	},
	Kind: solver.Kind{
		Name: func(v *solver.Vertex) string { return "passthrough " + v.Op.GetPassthrough().GetId() },
		Beneath: func(v *solver.Vertex) (list []solver.Edge) {
			for _, i := range v.Op.GetPassthrough().GetOutputs() {
				if i >= 0 && int(i) < len(v.Inputs) {
					list = append(list, v.Inputs[i])
				}
			}
			return list
		},
	},
})

func newPassthroughOp(op *pb.PassthroughOp, inputs []*solver.Result) (solver.Operation, error) {
	if op.GetId() == "" {
		return nil, errors.New("passthrough has no ID")
	}
	if len(op.Outputs) == 0 {
		return nil, errors.New("passthrough has no output")
	}
	o := &passthroughOp{}
	for _, i := range op.Outputs {
		if i < 0 || int(i) >= len(inputs) {
			return nil, fmt.Errorf("passthrough has an invalid input %d", i)
		}
		o.outputs = append(o.outputs, inputs[i])
	}
	return o, nil
}

func (o *passthroughOp) Key(context.Context) (buildcache.Key, bool, error) {
	return buildcache.Key{}, false, nil
}

func (o *passthroughOp) Run(context.Context) ([]*solver.Result, error) { return o.outputs, nil }
