package ops

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/solver"
)

// file is a filesystem with one file that contains its name.
func file(name string) llb.State {
	return llb.Scratch().File(llb.Mkfile("/"+name, 0o600, []byte(name)))
}

func TestMergeAndDiff(t *testing.T) {
	t.Parallel()
	a, b := file("a"), file("b")
	more := a.File(llb.Mkfile("/more", 0o600, []byte("more")))
	less := more.File(llb.Rm("/a"))
	for name, c := range map[string]struct {
		st     llb.State
		want   map[string]string
		layers int
	}{
		"merge":                 {llb.Merge([]llb.State{a, b}), map[string]string{"a": "f 600 0:0 a", "b": "f 600 0:0 b"}, 2},
		"the upper wins":        {llb.Merge([]llb.State{a, llb.Scratch().File(llb.Mkfile("/a", 0o640, nil))}), map[string]string{"a": "f 640 0:0 "}, 2},
		"diff of grown":         {llb.Diff(a, more), map[string]string{"more": "f 600 0:0 more"}, 1},
		"diff of removed":       {llb.Merge([]llb.State{a, b, llb.Diff(more, less)}), map[string]string{"b": "f 600 0:0 b"}, 3},
		"diff of others":        {llb.Diff(a, b), map[string]string{"b": "f 600 0:0 b"}, 1},
		"diff of other content": {llb.Merge([]llb.State{a, llb.Diff(a, llb.Scratch().File(llb.Mkfile("/a", 0o640, nil)))}), map[string]string{"a": "f 640 0:0 "}, 2},
		"diff of the same":      {llb.Diff(a, a), map[string]string{}, 0},
		"merge of diffs":        {llb.Merge([]llb.State{b, llb.Diff(a, more)}), map[string]string{"b": "f 600 0:0 b", "more": "f 600 0:0 more"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			res := r.mustSolve(t, c.st)
			if diff := cmp.Diff(c.want, r.list(t, res)); diff != "" || res.Chain.Len() != c.layers {
				t.Errorf("%d layers, want %d: %s", res.Chain.Len(), c.layers, diff)
			}
			again := rigOn(t, r.store, nil, nil).mustSolve(t, c.st)
			if diff := cmp.Diff(res.Chain.Links(), again.Chain.Links()); diff != "" {
				t.Errorf("built again: %s", diff)
			}
		})
	}
}

// TestLocalBase: a local source is a filesystem as any other.
func TestLocalBase(t *testing.T) {
	t.Parallel()
	src := llb.Local("context")
	for name, c := range map[string]struct {
		st   llb.State
		want map[string]string
	}{
		"merged":                {llb.Merge([]llb.State{src, file("a")}), map[string]string{"f": "f 644 0:0 x", "a": "f 600 0:0 a"}},
		"compared":              {llb.Diff(file("a"), src), map[string]string{"f": "f 644 0:0 x"}},
		"compared with nothing": {llb.Diff(llb.Scratch(), src), map[string]string{"f": "f 644 0:0 x"}},
		"nothing of its own":    {llb.Diff(src, src), map[string]string{}},
		"changed":               {src.File(llb.Mkfile("/a", 0o600, nil)), map[string]string{"f": "f 644 0:0 x", "a": "f 600 0:0 "}},
		"emptied":               {src.File(llb.Rm("/f")), map[string]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, map[string][]byte{"f": []byte("x")})
			if diff := cmp.Diff(c.want, r.list(t, r.mustSolve(t, c.st))); diff != "" {
				t.Error(diff)
			}
			// Another file of the source is another base.
			other := rigOn(t, r.store, map[string][]byte{"g": []byte("x")}, nil)
			if res, err := other.solve(t, c.st); err == nil && len(c.want) > 0 {
				if _, found := other.list(t, res)["f"]; found {
					t.Error("the file is still there")
				}
			}
		})
	}
}

func TestInvalidMergeAndDiff(t *testing.T) {
	t.Parallel()
	kinds := New(Options{}).Kinds()
	for want, op := range map[string]*pb.Op{
		"merge has an invalid input 1": {Op: &pb.Op_Merge{Merge: &pb.MergeOp{Inputs: []*pb.MergeInput{{Input: 1}}}}},
		"diff has an invalid input 2":  {Op: &pb.Op_Diff{Diff: &pb.DiffOp{Lower: &pb.LowerDiffInput{Input: 2}, Upper: &pb.UpperDiffInput{Input: -1}}}},
		"diff has an invalid input 3":  {Op: &pb.Op_Diff{Diff: &pb.DiffOp{Lower: &pb.LowerDiffInput{Input: -1}, Upper: &pb.UpperDiffInput{Input: 3}}}},
	} {
		_, err := kindOf(kinds, op).Open(&solver.Task{Vertex: &solver.Vertex{Op: op}, Inputs: []*solver.Result{{}}})
		if text(err) != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestMergesOfMerges: merges that double layers and names end in an error, before they take much memory.
func TestMergesOfMerges(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	st := llb.Scratch().File(llb.Mkfile("/a", 0o600, nil))
	def := &pb.Definition{}
	add := func(op *pb.Op) []*pb.Input {
		data, err := op.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		def.Def = append(def.Def, data)
		in := &pb.Input{Digest: digest.FromBytes(data).String()}
		return []*pb.Input{in, in}
	}
	first, err := st.Marshal(t.Context(), llb.LinuxAmd64)
	if err != nil {
		t.Fatal(err)
	}
	def.Def = first.ToPB().Def[:1]
	in := &pb.Input{Digest: digest.FromBytes(def.Def[0]).String()}
	inputs := []*pb.Input{in, in}
	for range 64 {
		inputs = add(&pb.Op{Inputs: inputs, Op: &pb.Op_Merge{Merge: &pb.MergeOp{Inputs: []*pb.MergeInput{{Input: 0}, {Input: 1}}}}})
	}
	add(&pb.Op{Inputs: inputs[:1]})
	if _, err := r.Solve(t.Context(), def); err == nil || !strings.Contains(err.Error(), "the merged filesystems have more than 10000 layers") {
		t.Error(err)
	}
}
