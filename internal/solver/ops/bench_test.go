package ops

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/moby/buildkit/client/llb"
)

// steps is a build of n steps, each of which makes a file.
func steps(n int) llb.State {
	st := llb.Scratch()
	for i := range n {
		st = st.File(llb.Mkfile(fmt.Sprintf("/f%d", i), 0o600, []byte("content"), llb.WithCreatedTime(time.Unix(1, 0))))
	}
	return st
}

// TestMissingLayersAreSeenAfterDamage: a chain that was present is checked again once something was found to be damaged.
func TestMissingLayersAreSeenAfterDamage(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	built := r.mustSolve(t, steps(3))
	if missing := r.Missing(built); missing != nil {
		t.Fatalf("missing are %v", missing)
	}
	id := built.Chain.DiffIDs()[1]
	blob := r.store.Path("blobs", "sha256", id.Encoded())
	content, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blob, bytes.Replace(content, []byte("content"), []byte("damaged"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.worker.Layers.Tree(t.Context(), id); err == nil {
		t.Fatal("the damaged layer has a tree")
	}
	if _, err := os.Stat(blob); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the damaged blob is there: %v", err)
	}
	if missing := r.Missing(built); len(missing) != 1 || missing[0].DiffID != id {
		t.Errorf("missing are %v, want %s", missing, id)
	}
}

// BenchmarkSteps is a build of n steps, as ns for each of them, from nothing and from the cache: what a step costs does not grow with
// the steps before it.
func BenchmarkSteps(b *testing.B) {
	for _, n := range []int{500, 1000, 2000, 5000} {
		def, err := steps(n).Marshal(b.Context(), llb.LinuxAmd64)
		if err != nil {
			b.Fatal(err)
		}
		solve := func(b *testing.B, r *rig) {
			if _, err := r.Solve(b.Context(), def.ToPB()); err != nil {
				b.Fatal(err)
			}
		}
		perStep := func(b *testing.B) {
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/step")
		}
		b.Run(fmt.Sprintf("cold/%d", n), func(b *testing.B) {
			for b.Loop() {
				solve(b, newRig(b, nil))
			}
			perStep(b)
		})
		b.Run(fmt.Sprintf("cached/%d", n), func(b *testing.B) {
			first := newRig(b, nil)
			solve(b, first)
			for b.Loop() {
				solve(b, rigOn(b, first.store, nil, nil))
			}
			perStep(b)
		})
	}
}
