package solver

import (
	"fmt"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/redact"
)

// graph is a parsed LLB definition (github.com/moby/buildkit/solver/pb): a directed acyclic graph of operations.
type graph struct {
	vertices map[digest.Digest]*vertex
	head     edge // what the definition is for
}

// edge is one output of a vertex.
type edge struct {
	vertex *vertex
	output int
}

// vertex is one operation of a graph; it is named by the digest of its marshaled form.
type vertex struct {
	digest digest.Digest
	op     *pb.Op
	meta   *pb.OpMetadata
	inputs []edge
	name   string
	// needsTree is true when a process will run on top of this vertex's result, so that a layer it makes is best
	// written unpacked.
	needsTree bool
	linking   bool // its inputs are being resolved
}

// parse reads a definition. Its last operation is the empty one whose only input is the wanted edge.
func parse(def *pb.Definition) (*graph, error) {
	if def == nil || len(def.Def) == 0 {
		return nil, fmt.Errorf("build definition is empty")
	}
	g := &graph{vertices: make(map[digest.Digest]*vertex, len(def.Def))}
	var last *vertex
	for _, raw := range def.Def {
		op := &pb.Op{}
		if err := op.UnmarshalVT(raw); err != nil {
			return nil, fmt.Errorf("parse build definition: %w", err)
		}
		last = &vertex{digest: digest.FromBytes(raw), op: op}
		last.meta = def.Metadata[string(last.digest)]
		g.vertices[last.digest] = last
	}
	if len(last.op.Inputs) != 1 || last.op.Op != nil {
		return nil, fmt.Errorf("build definition does not end in one result")
	}
	head, err := g.link(last.op.Inputs[0])
	if err != nil {
		return nil, err
	}
	g.head = head
	for _, v := range g.vertices {
		v.name = redact.URLs(v.displayName())
	}
	g.markTrees()
	return g, nil
}

// link resolves an input to its vertex, and that vertex's own inputs before it. It refuses a cycle (which no honest definition can
// have, digests being hashes).
func (g *graph) link(in *pb.Input) (edge, error) {
	v, ok := g.vertices[digest.Digest(in.Digest)]
	if !ok {
		return edge{}, fmt.Errorf("build definition refers to a missing operation %s", in.Digest)
	}
	if in.Index < 0 || v.linking {
		return edge{}, fmt.Errorf("build definition has an invalid input %s", in.Digest)
	}
	if v.inputs == nil && len(v.op.Inputs) > 0 {
		v.inputs = make([]edge, len(v.op.Inputs))
		v.linking = true
		defer func() { v.linking = false }()
		for i, sub := range v.op.Inputs {
			e, err := g.link(sub)
			if err != nil {
				return edge{}, err
			}
			v.inputs[i] = e
		}
	}
	return edge{v, int(in.Index)}, nil
}

// markTrees sets needsTree on every vertex whose layers end up beneath a process.
func (g *graph) markTrees() {
	var mark func(v *vertex)
	mark = func(v *vertex) {
		if v.needsTree {
			return
		}
		v.needsTree = true
		for _, in := range v.beneath() {
			mark(in.vertex)
		}
	}
	for _, v := range g.vertices {
		if mounted := v.kind().mounted; mounted != nil {
			for _, in := range mounted(v) {
				mark(in.vertex)
			}
		}
	}
}

// beneath returns the inputs whose layer chains are part of this vertex's result.
func (v *vertex) beneath() []edge {
	if f := v.kind().beneath; f != nil {
		return f(v)
	}
	return nil
}

// displayName is what the progress display calls the operation: the front end's own words, else BuildKit's.
func (v *vertex) displayName() string {
	if name := v.meta.GetDescription()["llb.customname"]; name != "" {
		return name
	}
	return v.kind().name(v)
}
