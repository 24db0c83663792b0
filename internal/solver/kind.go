package solver

import (
	"fmt"
	"reflect"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/entitlements"
)

// kind describes one kind of LLB operation to the solver. The file of the operation registers it.
type kind struct {
	// open returns the operation of a vertex whose inputs are solved.
	open func(s *Solver, v *vertex, inputs []*Result, t *tracker) (operation, error)
	// name returns the name of a vertex in the progress display, if the front end gives none.
	name func(v *vertex) string
	// beneath returns the inputs whose layer chains are part of the result; nil for an operation that has none.
	beneath func(v *vertex) []edge
	// mounted returns the inputs that a process finds mounted; nil for an operation that runs none.
	mounted func(v *vertex) []edge
	// needs returns the entitlements that the operation asks for; nil for none.
	needs func(op *pb.Op) entitlements.Values
	// source is true for an operation that brings content into the build, and has no inputs.
	source bool
}

var kinds = map[reflect.Type]*kind{}

// register declares the kind of the operations of one type of pb.Op.Op.
func register[T any](k kind) struct{} {
	kinds[reflect.TypeFor[T]()] = &k
	return struct{}{}
}

// unknown is the kind of an operation that is not registered.
var unknown = &kind{
	open: func(_ *Solver, v *vertex, _ []*Result, _ *tracker) (operation, error) {
		return nil, fmt.Errorf("operation %T is not supported", v.op.Op)
	},
	name: func(*vertex) string { return "unknown" },
}

func (v *vertex) kind() *kind {
	if k, ok := kinds[reflect.TypeOf(v.op.Op)]; ok {
		return k
	}
	return unknown
}

// allInputs is kind.beneath of an operation whose result has the layers of every input.
func allInputs(v *vertex) []edge { return v.inputs }
