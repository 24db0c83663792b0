package solver

import (
	"context"
	"fmt"
	"reflect"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/entitlements"

	"github.com/micabuild/mica/internal/buildcache"
)

// Kinds are the kinds of operations that graphs may contain, by the type of pb.Op.Op.
type Kinds map[reflect.Type]*Kind

// Kind describes one kind of LLB operation.
type Kind struct {
	// Open returns the operation of a vertex whose inputs are solved.
	Open func(t *Task) (Operation, error)
	// Name returns the name of a vertex in the progress display, if the front end gives none.
	Name func(v *Vertex) string
	// Beneath returns the inputs whose layer chains are part of the result; nil for an operation that has none.
	Beneath func(v *Vertex) []Edge
	// Mounted returns the inputs that a process finds mounted; nil for an operation that runs none.
	Mounted func(v *Vertex) []Edge
	// Needs returns the entitlements that the operation needs; nil for none.
	Needs func(op *pb.Op) entitlements.Values
	// Prepare is called before anything of a graph runs for an operation that will run whatever the cache contains. It starts slow
	// preparations, and empties what the operation is not to find; nil for nothing.
	Prepare func(v *Vertex) error
	// Source is true for an operation that brings content into the build, and has no inputs.
	Source bool
}

// Operation is a vertex whose inputs are solved. An operation that is an io.Closer is closed when it is done.
type Operation interface {
	// Key describes the operation and the content that it reads; ok is false for an operation that is never cached (images, host directories).
	Key(ctx context.Context) (k buildcache.Key, ok bool, err error)
	// Run does the work and returns one result for each output.
	Run(ctx context.Context) ([]*Result, error)
}

// Asking is an operation that asks the client of its build for something before it runs, a secret for example.
type Asking interface {
	Operation
	// Asks reports whether there is something to ask for.
	Asks() bool
	// Ask asks for it, while others do not wait. An error is one of Run.
	Ask(ctx context.Context)
}

// Source is an operation that remote caches know by names, after it has run.
type Source interface {
	Operation
	Names() ([]string, error)
}

// AllInputs is Kind.Beneath of an operation whose result has the layers of every input.
func AllInputs(v *Vertex) []Edge { return v.Inputs }

// unknown is the kind of an operation that is not in Kinds.
var unknown = &Kind{
	Open: func(t *Task) (Operation, error) {
		return nil, fmt.Errorf("operation %T is not supported", t.Vertex.Op.Op)
	},
	Name: func(*Vertex) string { return "unknown" },
}

func (k Kinds) of(op *pb.Op) *Kind {
	if kind, ok := k[reflect.TypeOf(op.Op)]; ok {
		return kind
	}
	return unknown
}
