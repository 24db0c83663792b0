package ops

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
)

func TestFileOperations(t *testing.T) {
	t.Parallel()
	r := newRig(t, map[string][]byte{"src/a": []byte("a"), "src/b": []byte("b")})
	src := llb.Local("context")
	res := r.mustSolve(t, llb.Scratch().
		File(llb.Mkdir("/d", 0o755).Mkfile("/d/made", 0o600, []byte("made"))).
		File(llb.Copy(src, "/src", "/copied")).
		File(llb.Rm("/d/made").Mkfile("/d/other", 0o600, []byte("other"))))
	if n := res.Chain.Len(); n != 3 {
		t.Errorf("%d layers", n)
	}
	want := map[string]string{
		"copied": "d 755 0:0", "copied/a": "f 644 0:0 a", "copied/b": "f 644 0:0 b", "d": "d 755 0:0", "d/other": "f 600 0:0 other",
	}
	if diff := cmp.Diff(want, r.list(t, res)); diff != "" {
		t.Error(diff)
	}
}

func TestCacheFollowsContent(t *testing.T) {
	t.Parallel()
	first := newRig(t, map[string][]byte{"a": []byte("one"), "unused": []byte("1")})
	st := llb.Scratch().File(llb.Copy(llb.Local("context"), "/a", "/a"))
	one := first.mustSolve(t, st).Chain.Links()[0]
	// The same selection has the same result, its time of making included; another content has another.
	again := rigOn(t, first.store, map[string][]byte{"a": []byte("one"), "unused": []byte("2")}, nil).mustSolve(t, st).Chain.Links()[0]
	if again != one {
		t.Errorf("%+v, want %+v", again, one)
	}
	other := rigOn(t, first.store, map[string][]byte{"a": []byte("two")}, nil).mustSolve(t, st).Chain.Links()[0]
	if other.DiffID == one.DiffID {
		t.Errorf("%+v", other)
	}
}
