package solver

import (
	"context"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// node is a vertex of a graph made by hand.
type node struct {
	name   string // of the operation. What follows a space is no part of its key: the same step of another stage
	inputs []*node
	kind   string // "file", "source", "exec", or "pair": a process with two outputs
	index  int    // of the output of the last input; the others have 0
	meta   *pb.OpMetadata
}

func file(name string, inputs ...*node) *node { return &node{name: name, kind: "file", inputs: inputs} }
func source(name string) *node                { return &node{name: name, kind: "source"} }
func exec(name string, inputs ...*node) *node { return &node{name: name, kind: "exec", inputs: inputs} }

// op returns the operation, and its digest.
func (n *node) op() (raw []byte, d digest.Digest) {
	op := &pb.Op{}
	for i, in := range n.inputs {
		_, d := in.op()
		input := &pb.Input{Digest: string(d)}
		if i == len(n.inputs)-1 {
			input.Index = int64(n.index)
		}
		op.Inputs = append(op.Inputs, input)
	}
	switch n.kind {
	case "source":
		op.Op = &pb.Op_Source{Source: &pb.SourceOp{Identifier: n.name}}
	case "exec":
		op.Op = &pb.Op_Exec{Exec: &pb.ExecOp{Meta: &pb.Meta{Args: []string{n.name}}}}
	case "pair":
		op.Op = &pb.Op_Exec{Exec: &pb.ExecOp{Meta: &pb.Meta{Args: []string{n.name}}, Mounts: []*pb.Mount{
			{Dest: "/"}, {Input: -1, Dest: "/other", Output: 1},
		}}}
	case "build":
		op.Op = &pb.Op_Build{Build: &pb.BuildOp{}}
	default:
		op.Op = &pb.Op_File{File: &pb.FileOp{Actions: []*pb.FileAction{{Action: &pb.FileAction_Mkfile{Mkfile: &pb.FileActionMkFile{Path: n.name}}}}}}
	}
	raw, err := op.MarshalVT()
	if err != nil {
		panic(err)
	}
	return raw, digest.FromBytes(raw)
}

func (n *node) digest() digest.Digest {
	_, d := n.op()
	return d
}

// definition is the graph whose result is the node.
func (n *node) definition() *pb.Definition {
	def := &pb.Definition{Metadata: map[string]*pb.OpMetadata{}}
	seen := map[digest.Digest]bool{}
	var add func(n *node)
	add = func(n *node) {
		for _, in := range n.inputs {
			add(in)
		}
		raw, d := n.op()
		if seen[d] {
			return
		}
		seen[d] = true
		def.Def = append(def.Def, raw)
		if n.meta != nil {
			def.Metadata[string(d)] = n.meta
		}
	}
	add(n)
	end, err := (&pb.Op{Inputs: []*pb.Input{{Digest: string(n.digest())}}}).MarshalVT()
	if err != nil {
		panic(err)
	}
	def.Def = append(def.Def, end)
	return def
}

// world has what the operations of a test do.
type world struct {
	root   string // of the store
	layers *layer.Layers

	mu       sync.Mutex
	ran      []string
	prepared []string
	closed   []string

	// The functions are called by the names of operations. All may be nil.
	run      map[string]func(ctx context.Context, t *Task) error
	ask      map[string]func(ctx context.Context)
	uncached map[string]bool
	keyError map[string]error
	closing  map[string]error

	prepareError error
	needs        entitlements.Values // of processes
}

// key is the part of an operation's name that is part of its key.
func key(name string) string {
	name, _, _ = strings.Cut(name, " ")
	return name
}

// runs returns how often each operation ran, and forgets it.
func (w *world) runs() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	count := map[string]int{}
	for _, name := range w.ran {
		count[name]++
	}
	w.ran = nil
	return count
}

func (w *world) kinds() Kinds {
	kind := Kind{
		Open:    func(t *Task) (Operation, error) { return &operation{w, t}, nil },
		Name:    func(v *Vertex) string { return nameOf(v.Op) },
		Beneath: AllInputs,
	}
	process, src := kind, kind
	process.Beneath, process.Mounted = nil, AllInputs
	process.Needs = func(*pb.Op) entitlements.Values { return w.needs }
	process.Prepare = func(v *Vertex) error {
		w.prepared = append(w.prepared, nameOf(v.Op))
		return w.prepareError
	}
	src.Beneath, src.Source = nil, true
	src.Open = func(t *Task) (Operation, error) { return &namedOperation{operation{w, t}}, nil }
	return Kinds{
		reflect.TypeFor[*pb.Op_File](): &kind, reflect.TypeFor[*pb.Op_Exec](): &process, reflect.TypeFor[*pb.Op_Source](): &src,
	}
}

func nameOf(op *pb.Op) string {
	switch {
	case op.GetSource() != nil:
		return op.GetSource().Identifier
	case op.GetExec() != nil:
		return op.GetExec().Meta.Args[0]
	}
	return op.GetFile().Actions[0].GetMkfile().Path
}

// operation adds a file with its name to the chain of its first input.
type operation struct {
	w *world
	t *Task
}

func (o *operation) name() string { return nameOf(o.t.Vertex.Op) }

func (o *operation) Key(context.Context) (k buildcache.Key, ok bool, err error) {
	k.Add(buildcache.KindOperation, "test", key(o.name()))
	for _, in := range o.t.Inputs {
		k.AddLayers(0, "base", in.Chain)
	}
	return k, !o.w.uncached[o.name()], o.w.keyError[o.name()]
}

func (o *operation) Run(ctx context.Context) ([]*Result, error) {
	o.w.mu.Lock()
	o.w.ran = append(o.w.ran, o.name())
	do := o.w.run[o.name()]
	o.w.mu.Unlock()
	if do != nil {
		if err := do(ctx, o.t); err != nil {
			return nil, err
		}
	}
	files := view.NewOverlay(view.Empty())
	if err := files.Mkfile(ctx, "/"+digest.FromString(key(o.name())).Encoded(), 0o600, []byte(key(o.name())), nil, new(int64)); err != nil {
		return nil, err
	}
	changes, err := files.Changes(ctx)
	if err != nil {
		return nil, err
	}
	l, err := o.w.layers.Write(ctx, changes, layer.AsBlob)
	if err != nil {
		return nil, err
	}
	var base buildcache.Chain
	if len(o.t.Inputs) > 0 {
		base = o.t.Inputs[0].Chain
	}
	made := &Result{Chain: base.On(buildcache.Link{DiffID: l.DiffID, Description: o.name()})}
	if len(o.t.Vertex.Op.GetExec().GetMounts()) > 1 {
		return []*Result{{Chain: base}, made}, nil
	}
	return []*Result{made}, nil
}

func (o *operation) Asks() bool { return o.w.ask[o.name()] != nil }

func (o *operation) Ask(ctx context.Context) { o.w.ask[o.name()](ctx) }

func (o *operation) Close() error {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	o.w.closed = append(o.w.closed, o.name())
	return o.w.closing[o.name()]
}

// namedOperation is a source.
type namedOperation struct{ operation }

func (o *namedOperation) Names() ([]string, error) { return []string{o.name()}, nil }

// newWorld is one with an empty store.
func newWorld(t *testing.T) *world {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return &world{root: s.Root(), layers: layer.New(s), run: map[string]func(context.Context, *Task) error{}}
}

// solver is one build in the world, as another process: with its own handle of the store.
func (w *world) solver(t *testing.T, change ...func(*Options)) *Solver {
	t.Helper()
	s, err := store.Open(w.root)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Store: s, Layers: layer.New(s), Kinds: w.kinds()}
	for _, c := range change {
		c(&o)
	}
	return New(o)
}

// solve returns the descriptions of the result's layers, with spaces between them.
func solve(t *testing.T, s *Solver, n *node) (string, error) {
	t.Helper()
	res, err := s.Solve(t.Context(), n.definition())
	if err != nil {
		return "", err
	}
	var names []string
	for _, l := range res.Chain.Links() {
		names = append(names, l.Description)
	}
	return strings.Join(names, ","), nil
}

// mustSolve is solve without an error.
func mustSolve(t *testing.T, s *Solver, n *node) string {
	t.Helper()
	got, err := solve(t, s, n)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// events collects progress.
type events struct {
	mu       sync.Mutex
	statuses []*Status
}

func (e *events) add(st *Status) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.statuses = append(e.statuses, st)
}

// last returns the last event of each vertex by its name.
func (e *events) last() map[string]*client.Vertex {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := map[string]*client.Vertex{}
	for _, st := range e.statuses {
		for _, v := range st.Vertexes {
			all[v.Name] = v
		}
	}
	return all
}

// cached returns the names of the vertices that were shown as cached.
func (e *events) cached() map[string]bool {
	names := map[string]bool{}
	for name, v := range e.last() {
		if v.Cached {
			names[name] = true
		}
	}
	return names
}

// text is an error's, "" for none.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
