package ops

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/solver"
)

func TestPassthrough(t *testing.T) {
	t.Parallel()
	a, b := file("a"), file("b")
	both := llb.NewPassthroughOp("both", []llb.PassthroughInput{{State: a, Output: true}, {State: file("c")}, {State: b, Output: true}})
	second := llb.NewState(both.OutputAt(1))
	for name, c := range map[string]struct {
		st   llb.State
		want map[string]string
	}{
		"requires":      {a.Requires("needs", b), map[string]string{"a": "f 600 0:0 a"}},
		"second output": {second, map[string]string{"b": "f 600 0:0 b"}},
		"outputs": {
			llb.NewState(both.Output()).File(llb.Copy(second, "/b", "/copy")), map[string]string{"a": "f 600 0:0 a", "copy": "f 600 0:0 b"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			if diff := cmp.Diff(c.want, r.list(t, r.mustSolve(t, c.st))); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("a dependency that fails", func(t *testing.T) {
		t.Parallel()
		if _, err := newRig(t, nil).solve(t, a.Requires("needs", llb.Scratch().File(llb.Rm("/no")))); err == nil {
			t.Error("no error")
		}
	})
}

func TestInvalidPassthrough(t *testing.T) {
	t.Parallel()
	for want, op := range map[string]*pb.PassthroughOp{
		"passthrough has no ID":               {Outputs: []int64{0}},
		"passthrough has no output":           {Id: "x"},
		"passthrough has an invalid input 1":  {Id: "x", Outputs: []int64{0, 1}},
		"passthrough has an invalid input -1": {Id: "x", Outputs: []int64{-1}},
	} {
		if _, err := newPassthroughOp(op, []*solver.Result{{}}); text(err) != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
