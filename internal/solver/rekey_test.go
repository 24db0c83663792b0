package solver

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/remotecache"
)

// forgetful returns a world in which nothing but the base has been solved, and the cache that another build has exported of n.
func forgetful(t *testing.T, n *node) (*world, []*remotecache.Import) {
	t.Helper()
	w, cache := newWorld(t), remotecache.New(nil, nil)
	s := w.solver(t, func(o *Options) { o.Remote = cache })
	mustSolve(t, s, n)
	imports := exported(t, cache, s, n)
	if err := os.RemoveAll(filepath.Join(w.root, "cache", "records")); err != nil {
		t.Fatal(err)
	}
	mustSolve(t, w.solver(t), source("base"))
	w.runs()
	return w, imports
}

// TestLateCache: steps are found in a cache that the solver gets after it has solved what they are built on. That does not run again.
func TestLateCache(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meta *pb.OpMetadata
		want map[string]int // what runs after the cache has come
	}{
		"cached":     {nil, map[string]int{}},
		"not cached": {&pb.OpMetadata{IgnoreCache: true}, map[string]int{"top": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			below := file("below", source("base"))
			top := file("top", below)
			w, imports := forgetful(t, top)
			s := w.solver(t)
			below.meta = c.meta
			mustSolve(t, s, below)
			w.runs()
			s.ReadRemote(remotecache.New(imports, nil))
			if got := mustSolve(t, s, top); got != "base,below,top" {
				t.Errorf("result %s", got)
			}
			if diff := cmp.Diff(c.want, w.runs()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestCacheWhileSolving: the cache comes while a step, or its source, runs for another graph.
func TestCacheWhileSolving(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"base", "below"} {
		base := source("base")
		below := file("below", base)
		top := file("top", below)
		w, imports := forgetful(t, top)
		if err := os.RemoveAll(filepath.Join(w.root, "cache", "records")); err != nil {
			t.Fatal(err)
		}
		begun, goOn := make(chan struct{}), make(chan struct{})
		w.run[when] = func(context.Context, *Task) error {
			close(begun)
			<-goOn
			return nil
		}
		s := w.solver(t)
		var eg errgroup.Group
		eg.Go(func() error {
			_, err := s.Solve(t.Context(), below.definition())
			return err
		})
		<-begun
		s.ReadRemote(remotecache.New(imports, nil))
		eg.Go(func() error {
			_, err := s.Solve(t.Context(), top.definition())
			return err
		})
		close(goOn)
		if err := eg.Wait(); err != nil {
			t.Fatal(err)
		}
		if ran := w.runs(); ran["top"] != 0 || ran["base"] != 1 || ran["below"] > 1 {
			t.Errorf("%s: %v ran", when, ran)
		}
	}
}

// TestUntrustedCache: the results of a cache that is not trusted are not recorded for other builds.
func TestUntrustedCache(t *testing.T) {
	t.Parallel()
	for untrusted, want := range map[bool]map[string]int{false: {}, true: {"top": 1}} {
		top := file("top", source("base"))
		w, imports := forgetful(t, top)
		for _, i := range imports {
			i.Untrusted = untrusted
		}
		mustSolve(t, w.solver(t, func(o *Options) { o.Remote = remotecache.New(imports, nil) }), top)
		if diff := cmp.Diff(map[string]int{}, w.runs()); diff != "" {
			t.Errorf("untrusted %t: with the cache: %s", untrusted, diff)
		}
		mustSolve(t, w.solver(t), top)
		if diff := cmp.Diff(want, w.runs()); diff != "" {
			t.Errorf("untrusted %t: without the cache: %s", untrusted, diff)
		}
	}
}

// TestFoundByDefinition: a step that a remote cache has, and that is found before the layers below it have come, is cached for the next build
// when they have. A plan records nothing.
func TestFoundByDefinition(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ untrusted, plan bool }{"built": {}, "untrusted": {untrusted: true}, "planned": {plan: true}} {
		below := file("below", source("base"))
		top := file("top", below)
		w, imports := forgetful(t, top)
		for _, i := range imports {
			i.Untrusted = c.untrusted
		}
		layers, aside := filepath.Join(w.root, "layers"), filepath.Join(w.root, "aside")
		if err := os.Rename(layers, aside); err != nil {
			t.Fatal(err)
		}
		mustSolve(t, w.solver(t, func(o *Options) { o.Remote, o.Plan = remotecache.New(imports, nil), c.plan }), top)
		back, err := os.ReadDir(aside)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range back {
			if _, err := os.Lstat(filepath.Join(layers, l.Name())); err == nil {
				continue
			}
			if err := os.Rename(filepath.Join(aside, l.Name()), filepath.Join(layers, l.Name())); err != nil {
				t.Fatal(err)
			}
		}
		mustSolve(t, w.solver(t), below)
		w.runs()
		mustSolve(t, w.solver(t), top)
		if ran := len(w.runs()) > 0; ran != (c.untrusted || c.plan) {
			t.Errorf("%s: the step ran in the next build: %t", name, ran)
		}
	}
}
