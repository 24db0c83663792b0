package solver

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// raw is a marshaled operation.
func raw(t *testing.T, op *pb.Op) []byte {
	t.Helper()
	data, err := op.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestInvalidDefinitions(t *testing.T) {
	t.Parallel()
	a, _ := file("a").op()
	to := func(d string, index int64) []byte {
		return raw(t, &pb.Op{Inputs: []*pb.Input{{Digest: d, Index: index}}})
	}
	id := string(file("a").digest())
	unknown := &node{kind: "build"}
	second := file("b", file("a"))
	second.index = 1
	for name, c := range map[string]struct {
		def  *pb.Definition
		want string
	}{
		"none":            {nil, "build definition is empty"},
		"empty":           {&pb.Definition{}, "build definition is empty"},
		"not operations":  {&pb.Definition{Def: [][]byte{{0xff}}}, "parse build definition: "},
		"no end":          {&pb.Definition{Def: [][]byte{a}}, "build definition does not end in one result"},
		"two results":     {&pb.Definition{Def: [][]byte{a, raw(t, &pb.Op{Inputs: []*pb.Input{{Digest: id}, {Digest: id}}})}}, "build definition does not end in one result"},
		"a missing one":   {&pb.Definition{Def: [][]byte{to(id, 0)}}, "build definition refers to a missing operation " + id},
		"a missing input": {&pb.Definition{Def: [][]byte{mustOp(second), to(string(second.digest()), 0)}}, "build definition refers to a missing operation " + id},
		"negative index":  {&pb.Definition{Def: [][]byte{a, to(id, -1)}}, "build definition has an invalid input " + id},
		"no such output":  {second.definition(), "a has no output 1"},
		"unknown":         {unknown.definition(), "operation *pb.Op_Build is not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newWorld(t).solver(t).Solve(t.Context(), c.def)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func mustOp(n *node) []byte {
	raw, _ := n.op()
	return raw
}

// TestCycleIsRefused: digests cannot be right in a cycle, which a graph made otherwise may have.
func TestCycleIsRefused(t *testing.T) {
	t.Parallel()
	in := func(d digest.Digest) *pb.Op { return &pb.Op{Inputs: []*pb.Input{{Digest: string(d)}}} }
	g := &graph{wanted: map[Edge]bool{}, vertices: map[digest.Digest]*Vertex{"a": {Op: in("b")}, "b": {Op: in("c")}, "c": {Op: in("a")}}}
	if _, err := g.link(&pb.Input{Digest: "a"}); text(err) != "build definition has an invalid input a" {
		t.Errorf("%v", err)
	}
}

// TestNeedsTree: the layers that a process will run on are best unpacked, with all beneath them.
func TestNeedsTree(t *testing.T) {
	t.Parallel()
	src, copied, other := source("src"), file("copied"), file("other")
	root := file("root", src)
	n := file("top", exec("run", root, file("mounted", copied)), other)
	g, err := parse(newWorld(t).kinds(), n.definition())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, v := range g.vertices {
		if v.Op.Op != nil {
			got[v.Name] = v.NeedsTree
		}
	}
	want := map[string]bool{"src": true, "root": true, "mounted": true, "copied": true, "run": false, "other": false, "top": false}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// FuzzParse gives arbitrary bytes for operations of a graph.
func FuzzParse(f *testing.F) {
	def, err := llb.Scratch().File(llb.Mkfile("/a", 0o600, nil)).Marshal(f.Context(), llb.LinuxAmd64)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(def.ToPB().Def[0], def.ToPB().Def[1])
	f.Fuzz(func(_ *testing.T, first, second []byte) {
		_, _ = parse(Kinds{}, &pb.Definition{Def: [][]byte{first, second}})
	})
}
