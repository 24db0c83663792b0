package ops

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
)

// file is a filesystem with one file that contains its name.
func file(name string) llb.State {
	return llb.Scratch().File(llb.Mkfile("/"+name, 0o600, []byte(name)))
}

func TestMergeAndDiff(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	base := file("base")
	grown := base.File(llb.Mkfile("/more", 0o600, []byte("more")))
	merged := r.mustSolve(t, llb.Merge([]llb.State{file("x"), llb.Diff(base, grown)}))
	if n := merged.Chain.Len(); n != 2 {
		t.Errorf("%d layers, of two that are joined", n)
	}
	if diff := cmp.Diff(map[string]string{"more": "f 600 0:0 more", "x": "f 600 0:0 x"}, r.list(t, merged)); diff != "" {
		t.Error(diff)
	}
}
