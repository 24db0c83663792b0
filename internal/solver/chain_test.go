package solver

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/moby/buildkit/client/llb"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"

	"github.com/micabuild/mica/internal/store"
)

// steps is a build of n steps, each of which makes a file.
func steps(n int) llb.State {
	st := llb.Scratch()
	for i := range n {
		st = st.File(llb.Mkfile(fmt.Sprintf("/f%d", i), 0o600, []byte("content"), llb.WithCreatedTime(time.Unix(1, 0))))
	}
	return st
}

// TestChainsThatForkKeepTheirLayers: chains that were grown from one share memory, and none sees the layers of another.
func TestChainsThatForkKeepTheirLayers(t *testing.T) {
	link := func(name string) ChainLink { return ChainLink{Description: name} }
	a := newResult([]ChainLink{link("a")})
	b, c := a.on(link("b")), a.on(link("c"))
	d, e := b.on(link("d"), link("e")), b.on(link("f"))
	for want, r := range map[string]*Result{"a": a, "ab": b, "ac": c, "abde": d, "abf": e} {
		got := ""
		for _, l := range r.Chain {
			got += l.Description
		}
		if ids, chainIDs := r.identities(); got != want || len(ids) != len(want) || len(chainIDs) != len(want) {
			t.Errorf("chain %s is %s, with %d DiffIDs and %d ChainIDs", want, got, len(ids), len(chainIDs))
		}
	}
}

// TestLongChains: a chain of several pieces comes back from the cache as it was, and so do the layers that a prune keeps.
func TestLongChains(t *testing.T) {
	const n = 2*pieceLayers + 7
	first := newSolver(t, nil)
	built, err := solve(t, first, steps(n))
	if err != nil {
		t.Fatal(err)
	}
	if _, ids := built.identities(); ids[n-1] != identity.ChainID(slices.Clone(built.DiffIDs())) {
		t.Errorf("the chain's ID is %s", ids[n-1])
	}
	again, err := solve(t, solverOf(t, first.store, nil), steps(n))
	if err != nil || !slices.Equal(again.Chain, built.Chain) {
		t.Errorf("from the cache, the chain of %d layers has %d, %v", n, len(again.Chain), err)
	}
	recs, err := sweep(t, NewCache(first.store))
	if err != nil || len(recs) != n {
		t.Fatalf("%d records, %v", len(recs), err)
	}
	slices.SortFunc(recs, func(a, b *Record) int { return len(a.Layers()) - len(b.Layers()) })
	for i, r := range recs {
		if !slices.Equal(r.Layers(), built.DiffIDs()[:i+1]) {
			t.Errorf("record %d has %d layers that are not the chain's", i, len(r.Layers()))
		}
	}
	if all := LayersOf(recs); len(all) != n {
		t.Errorf("the records have %d layers, want each of %d once", len(all), n)
	}
}

// TestSweepOfPieces: pieces go with the last record that needs them, and a record whose piece is damaged is none.
func TestSweepOfPieces(t *testing.T) {
	const n = 2*pieceLayers + 1
	s := newSolver(t, nil)
	built, err := solve(t, s, steps(n))
	if err != nil {
		t.Fatal(err)
	}
	_, ids := built.identities()
	piece := filepath.Join(s.cache.chains(), ids[pieceLayers-1].Encoded())
	if err := os.WriteFile(piece, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	recs, err := sweep(t, NewCache(s.store))
	if err != nil || len(recs) != pieceLayers {
		t.Errorf("%d records are left, %v; want those that need no piece", len(recs), err)
	}
	if left, err := os.ReadDir(s.cache.chains()); err != nil || len(left) != 0 {
		t.Errorf("pieces %v are left, %v", left, err)
	}
	again, err := solve(t, solverOf(t, s.store, nil), steps(n))
	if err != nil || !slices.Equal(again.DiffIDs(), built.DiffIDs()) {
		t.Errorf("built again: %d layers, %v", len(again.Chain), err)
	}
	if recs, err := NewCache(s.store).Records(); err != nil || len(recs) != n {
		t.Errorf("%d records, %v", len(recs), err)
	}
}

// TestSweepBesideABuild: what a build is about to write or to read again stays, until it has ended.
func TestSweepBesideABuild(t *testing.T) {
	const n = 2*pieceLayers + 1
	s := newSolver(t, nil)
	built, err := solve(t, s, steps(n))
	if err != nil {
		t.Fatal(err)
	}
	other, err := store.Open(s.store.Root())
	if err != nil {
		t.Fatal(err)
	}
	use, err := other.Use(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	recs, err := s.cache.Records()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range recs { // no record needs a piece any more, and one record is damaged
		if len(r.Layers()) > pieceLayers {
			err = errors.Join(err, s.cache.Remove(r.Key))
		}
	}
	damaged := recs[slices.IndexFunc(recs, func(r *Record) bool { return len(r.Layers()) == 1 })].Key
	if err = errors.Join(err, os.WriteFile(s.cache.path(damaged), []byte("{}"), 0o600)); err != nil {
		t.Fatal(err)
	}
	_, ids := built.identities()
	other.Hold(store.HeldStep, damaged)
	other.Hold(store.HeldStep, ids[pieceLayers-1])
	for i, want := range []int{1, 0} {
		if i > 0 {
			if err := use.End(); err != nil {
				t.Fatal(err)
			}
		}
		if recs, err := sweep(t, NewCache(s.store)); err != nil || len(recs) != pieceLayers-1 {
			t.Errorf("%d records are valid, %v", len(recs), err)
		}
		if left, err := os.ReadDir(s.cache.chains()); err != nil || len(left) != want {
			t.Errorf("%d pieces are left, %v, want %d", len(left), err, want)
		}
		if left, err := os.ReadDir(s.cache.dir); err != nil || len(left) != pieceLayers-1+want {
			t.Errorf("%d records are left, %v, want %d", len(left), err, pieceLayers-1+want)
		}
	}
}

// TestMissingLayersAreSeenAfterDamage: a chain that was there is looked at again once something was found to be damaged.
func TestMissingLayersAreSeenAfterDamage(t *testing.T) {
	s := newSolver(t, nil)
	built, err := solve(t, s, steps(3))
	if err != nil {
		t.Fatal(err)
	}
	if s.pending([]*Result{built}) {
		t.Fatal("layers are missing")
	}
	id := built.Chain[1].DiffID
	blob := s.store.Path("blobs", "sha256", id.Encoded())
	content, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blob, bytes.Replace(content, []byte("content"), []byte("damaged"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.layers.Tree(t.Context(), id); err == nil {
		t.Fatal("the damaged layer has a tree")
	}
	if _, err := os.Stat(blob); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the damaged blob is there: %v", err)
	}
	if missing := s.missing(built); len(missing) != 1 || missing[0].DiffID != id {
		t.Errorf("missing are %v, want %s", missing, id)
	}
}

// TestRecordsGrowWithSteps: what is kept of a build grows with its steps, not with their square.
func TestRecordsGrowWithSteps(t *testing.T) {
	size := func(n int) (total int64) {
		s := newSolver(t, nil)
		for r := newResult(nil); len(r.Chain) < n; {
			var k Key
			k.addLayers("base", r)
			r = r.on(ChainLink{DiffID: digest.FromString(fmt.Sprint(len(r.Chain)))})
			if err := s.cache.Put(k, "name", []*Result{r}); err != nil {
				t.Fatal(err)
			}
		}
		err := filepath.WalkDir(s.store.Path("cache"), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				info, infoErr := d.Info()
				err = infoErr
				total += info.Size()
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return total
	}
	if short, long := size(2*pieceLayers), size(8*pieceLayers); long > 5*short {
		t.Errorf("%d steps take %d bytes, four times as many %d", 2*pieceLayers, short, long)
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
		solve := func(b *testing.B, s *Solver) {
			if _, err := s.Solve(b.Context(), def.ToPB()); err != nil {
				b.Fatal(err)
			}
		}
		perStep := func(b *testing.B) {
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/step")
		}
		b.Run(fmt.Sprintf("cold/%d", n), func(b *testing.B) {
			for b.Loop() {
				solve(b, newSolver(b, nil))
			}
			perStep(b)
		})
		b.Run(fmt.Sprintf("cached/%d", n), func(b *testing.B) {
			first := newSolver(b, nil)
			solve(b, first)
			for b.Loop() {
				solve(b, solverOf(b, first.store, nil))
			}
			perStep(b)
		})
	}
}
