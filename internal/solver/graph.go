package solver

import (
	"fmt"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/redact"
)

// graph is a parsed LLB definition (github.com/moby/buildkit/solver/pb): a directed acyclic graph of operations.
type graph struct {
	vertices map[digest.Digest]*Vertex
	head     Edge          // what the definition is for
	wanted   map[Edge]bool // all edges
}

// Edge is one output of a vertex.
type Edge struct {
	Vertex *Vertex
	Output int
}

// Vertex is one operation of a graph.
type Vertex struct {
	Digest digest.Digest // of the operation's marshaled form
	Op     *pb.Op
	Meta   *pb.OpMetadata
	Inputs []Edge
	Name   string // as the progress display shows it
	// NeedsTree is true if a process will run on top of the vertex's result. A layer that it makes is then best written unpacked.
	NeedsTree bool

	kind    *Kind
	linking bool  // its inputs are being resolved
	wanted  []int // the outputs that its graph uses
}

// parse reads a definition. Its last operation is the empty one whose only input is the wanted edge.
func parse(kinds Kinds, def *pb.Definition) (*graph, error) {
	if def == nil || len(def.Def) == 0 {
		return nil, fmt.Errorf("build definition is empty")
	}
	g := &graph{vertices: make(map[digest.Digest]*Vertex, min(len(def.Def), maxVertices)), wanted: map[Edge]bool{}}
	last, err := g.read(kinds, def)
	if err != nil {
		return nil, err
	}
	if len(last.Op.Inputs) != 1 || last.Op.Op != nil {
		return nil, fmt.Errorf("build definition does not end in one result")
	}
	if g.head, err = g.link(last.Op.Inputs[0]); err != nil {
		return nil, err
	}
	for _, v := range g.reachable() { // the name of a merge consists of the names of its inputs
		v.Name = redact.URLs(v.displayName())
	}
	g.markTrees()
	return g, nil
}

// read reads the operations of a definition, and returns the last one.
func (g *graph) read(kinds Kinds, def *pb.Definition) (last *Vertex, err error) {
	if len(def.Def) > maxVertices {
		return nil, fmt.Errorf("build definition has %d operations: at most %d are supported", len(def.Def), maxVertices)
	}
	parts := 0
	for _, raw := range def.Def {
		op := &pb.Op{}
		if err := op.UnmarshalVT(raw); err != nil {
			return nil, fmt.Errorf("parse build definition: %w", err)
		}
		if parts += len(op.Inputs) + len(op.GetFile().GetActions()) + len(op.GetExec().GetMounts()); parts > maxParts {
			return nil, fmt.Errorf("the operations of the build definition have more than %d inputs, file actions and mounts", maxParts)
		}
		last = &Vertex{Digest: digest.FromBytes(raw), Op: op, kind: kinds.of(op)}
		last.Meta = def.Metadata[string(last.Digest)]
		g.vertices[last.Digest] = last
	}
	return last, nil
}

// link resolves an input to its vertex, and that vertex's own inputs before it. It refuses a cycle (which no honest definition can
// have, digests being hashes).
func (g *graph) link(in *pb.Input) (_ Edge, err error) {
	v, ok := g.vertices[digest.Digest(in.Digest)]
	if !ok {
		return Edge{}, fmt.Errorf("build definition refers to a missing operation %s", in.Digest)
	}
	if in.Index < 0 || in.Index >= maxOutputs || v.linking {
		return Edge{}, fmt.Errorf("build definition has an invalid input %s", in.Digest)
	}
	e := Edge{v, int(in.Index)}
	if !g.wanted[e] {
		g.wanted[e] = true
		v.wanted = append(v.wanted, e.Output)
	}
	if v.Inputs == nil && len(v.Op.Inputs) > 0 {
		v.Inputs = make([]Edge, len(v.Op.Inputs))
		v.linking = true
		defer func() { v.linking = false }()
		for i, sub := range v.Op.Inputs {
			if v.Inputs[i], err = g.link(sub); err != nil {
				return Edge{}, err
			}
		}
	}
	return e, nil
}

// markTrees sets NeedsTree on every vertex whose layers end up beneath a process.
func (g *graph) markTrees() {
	var mark func(v *Vertex)
	mark = func(v *Vertex) {
		if v.NeedsTree {
			return
		}
		v.NeedsTree = true
		for _, in := range v.beneath() {
			mark(in.Vertex)
		}
	}
	for _, v := range g.vertices {
		if v.kind.Mounted != nil {
			for _, in := range v.kind.Mounted(v) {
				mark(in.Vertex)
			}
		}
	}
}

// beneath returns the inputs whose layer chains are part of this vertex's result.
func (v *Vertex) beneath() []Edge {
	if v.kind.Beneath == nil {
		return nil
	}
	return v.kind.Beneath(v)
}

// displayName returns the name of the operation with the credentials in its URLs: the front end's own words, else BuildKit's.
func (v *Vertex) displayName() string {
	if name := v.Meta.GetDescription()["llb.customname"]; name != "" {
		return name
	}
	return v.kind.Name(v)
}

// InputNames joins the names of the inputs, which the name of an operation may contain. It cuts off long ones: inputs may be operations with
// such names themselves.
func (v *Vertex) InputNames() string {
	var b strings.Builder
	for i, in := range v.Inputs {
		if i > 0 {
			b.WriteString(", ")
		}
		if b.Len()+len(in.Vertex.Name) > maxName {
			b.WriteString("…")
			break
		}
		b.WriteString(in.Vertex.Name)
	}
	return b.String()
}
