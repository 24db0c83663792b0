package solver

import (
	"context"
	"fmt"

	"github.com/moby/buildkit/solver/pb"
)

// diffOp is what one filesystem has changed of another, as layers on nothing.
type diffOp struct {
	s            *Solver
	v            *vertex
	lower, upper *Result
}

var _ = register[*pb.Op_Diff](kind{
	open: func(s *Solver, v *vertex, inputs []*Result, _ *tracker) (operation, error) {
		return newDiffOp(s, v, v.op.GetDiff(), inputs)
	},
	name:    func(*vertex) string { return "diff" },
	beneath: allInputs,
})

func newDiffOp(s *Solver, v *vertex, op *pb.DiffOp, inputs []*Result) (operation, error) {
	pick := func(i int64) (*Result, error) {
		switch {
		case i == int64(pb.Empty):
			return &Result{}, nil
		case i < 0 || int(i) >= len(inputs):
			return nil, fmt.Errorf("diff has an invalid input %d", i)
		}
		return inputs[i], nil
	}
	lower, err := pick(op.GetLower().GetInput())
	if err != nil {
		return nil, err
	}
	upper, err := pick(op.GetUpper().GetInput())
	if err != nil {
		return nil, err
	}
	if lower.local != nil || upper.local != nil {
		return nil, fmt.Errorf("a local source cannot be compared")
	}
	return &diffOp{s, v, lower, upper}, nil
}

// above returns upper's layers over lower when upper was built on lower.
func (o *diffOp) above() ([]ChainLink, bool) {
	if !o.lower.begins(o.upper.Chain) {
		return nil, false
	}
	return o.upper.Chain[len(o.lower.Chain):], true
}

func (o *diffOp) key(context.Context) (Key, bool, error) {
	if _, ok := o.above(); ok {
		return Key{}, false, nil
	}
	var k Key
	k.add("operation", "diff", "")
	k.addLayers("lower", o.lower)
	k.addLayers("upper", o.upper)
	return k, true, nil
}

func (o *diffOp) run(ctx context.Context) ([]*Result, error) {
	if chain, ok := o.above(); ok {
		return []*Result{newResult(chain)}, nil
	}
	lower, err := o.s.View(ctx, o.lower)
	if err != nil {
		return nil, err
	}
	upper, err := o.s.View(ctx, o.upper)
	if err != nil {
		return nil, err
	}
	changes, err := o.s.layers.Diff(ctx, lower, upper)
	if err != nil {
		return nil, err
	}
	link, err := o.s.write(ctx, changes, o.v)
	if err != nil {
		return nil, err
	}
	return []*Result{(&Result{}).on(link)}, nil
}
