package solver

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content/memory"

	"github.com/micabuild/mica/internal/remotecache"
)

// exported is a cache of mode=min of a solved operation, as another build reads it.
func exported(t *testing.T, cache *remotecache.Cache, s *Solver, n *node) []*remotecache.Import {
	t.Helper()
	to := memory.New()
	blob := func(ctx context.Context, l remotecache.Layer) (ocispec.Descriptor, error) {
		data := []byte(l.DiffID)
		d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(data), Size: int64(len(data))}
		return d, to.Push(ctx, d, bytes.NewReader(data))
	}
	x, err := cache.Export(t.Context(), remotecache.ExportOptions{Blob: blob}, s.Outputs(n.digest())[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Push(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	imports, err := remotecache.Read(t.Context(), to, x.ManifestDescriptor)
	if err != nil {
		t.Fatal(err)
	}
	return imports
}

// TestSomeOutputs: a remote cache serves an operation if it has the outputs that a graph uses. The build after that finds them in the
// store, and another graph that uses other outputs runs the operation.
func TestSomeOutputs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pair := &node{name: "pair", kind: "pair", inputs: []*node{source("base")}}
	top := file("top", pair)
	top.index = 1
	solved := func(cache *remotecache.Cache) *Solver {
		s := w.solver(t, func(o *Options) { o.Remote = cache })
		if got := mustSolve(t, s, top); got != "base,pair,top" {
			t.Errorf("result %s", got)
		}
		return s
	}
	ran := func(when string, want map[string]int) {
		if diff := cmp.Diff(want, w.runs()); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}

	cache := remotecache.New(nil, nil)
	imports := exported(t, cache, solved(cache), top)
	ran("first", map[string]int{"base": 1, "pair": 1, "top": 1})
	if err := os.RemoveAll(filepath.Join(w.root, "cache", "records")); err != nil {
		t.Fatal(err)
	}
	mustSolve(t, w.solver(t), source("base"))
	ran("the base", map[string]int{"base": 1})
	solved(remotecache.New(imports, nil))
	ran("with the cache", map[string]int{})
	s := solved(nil)
	ran("after that", map[string]int{})

	if got := mustSolve(t, s, file("other", pair)); got != "base,other" {
		t.Errorf("result %s", got)
	}
	ran("the other output", map[string]int{"pair": 1, "other": 1})
	if outs := s.Outputs(pair.digest()); len(outs) != 2 || outs[0] == nil || outs[1] == nil {
		t.Errorf("outputs %v", outs)
	}
}
