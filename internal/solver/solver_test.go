package solver

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/opencontainers/go-digest"
)

// TestEachVertexRunsOnce: a vertex that several others use runs once in a build, whatever the number of graphs, and not at all in
// the next build.
func TestEachVertexRunsOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	base := file("base", source("src"))
	left, right := file("left", base), file("right", base)
	top := file("top", left, right)
	s := w.solver(t)
	for range 2 {
		if got := mustSolve(t, s, top); got != "src,base,left,top" {
			t.Errorf("result %s", got)
		}
	}
	if got := mustSolve(t, s, right); got != "src,base,right" {
		t.Errorf("result %s", got)
	}
	if diff := cmp.Diff(map[string]int{"src": 1, "base": 1, "left": 1, "right": 1, "top": 1}, w.runs()); diff != "" {
		t.Error(diff)
	}
	mustSolve(t, w.solver(t), top)
	if diff := cmp.Diff(map[string]int{}, w.runs()); diff != "" {
		t.Errorf("the next build: %s", diff)
	}
	if outs := s.Outputs(left.digest()); len(outs) != 1 || outs[0].Chain.Len() != 3 {
		t.Errorf("outputs %v", outs)
	}
	if outs := s.Outputs("sha256:none"); outs != nil {
		t.Errorf("outputs of nothing: %v", outs)
	}
}

// TestSolveInputs: the last operation of a graph is prepared and not run.
func TestSolveInputs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	top := file("top", file("base", source("src")), file("other"))
	var task *Task
	keep := func(_ context.Context, got *Task) error {
		task = got
		return nil
	}
	if err := w.solver(t).SolveInputs(t.Context(), top.definition(), keep); err != nil {
		t.Fatal(err)
	}
	if task.Vertex.Digest != top.digest() || len(task.Inputs) != 2 || task.Inputs[0].Chain.Len() != 2 || task.Inputs[1].Chain.Len() != 1 {
		t.Errorf("%+v", task)
	}
	if diff := cmp.Diff(map[string]int{"src": 1, "base": 1, "other": 1}, w.runs()); diff != "" {
		t.Error(diff)
	}
	if err := w.solver(t).SolveInputs(t.Context(), &pb.Definition{}, keep); err == nil {
		t.Error("an empty definition has inputs")
	}
	err := w.solver(t).SolveInputs(t.Context(), top.definition(), func(context.Context, *Task) error { return fs.ErrNotExist })
	var failed *errdefs.VertexError
	if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &failed) || failed.Digest != top.digest().String() {
		t.Errorf("an error names its operation: %v", err)
	}
}

// TestStepsOfOtherStages: the same step in two stages runs once, also if both begin at the same time, and in builds of several processes.
func TestStepsOfOtherStages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	top := file("top", file("same of-one"), file("same of-two"), file("same of-three"))
	var wg sync.WaitGroup
	for range 3 {
		s := w.solver(t)
		wg.Go(func() {
			if _, err := s.Solve(t.Context(), top.definition()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	total := 0
	for name, n := range w.runs() {
		if name != "top" || n != 1 {
			total += n
		}
	}
	if total != 1 {
		t.Errorf("the step ran %d times", total)
	}
}

// TestWhatRunsAgain: a step runs again if its key or that of a step beneath it changes, the cache is ignored, or it has no key.
func TestWhatRunsAgain(t *testing.T) {
	t.Parallel()
	ignoring := file("b", file("a"))
	ignoring.meta = &pb.OpMetadata{IgnoreCache: true}
	for name, c := range map[string]struct {
		first, second *node
		uncached      map[string]bool
		want          map[string]int
	}{
		"nothing":           {first: file("b", file("a")), second: file("b", file("a")), want: map[string]int{}},
		"the step":          {first: file("b", file("a")), second: file("c", file("a")), want: map[string]int{"c": 1}},
		"a step beneath":    {first: file("b", file("a")), second: file("b", file("c")), want: map[string]int{"c": 1, "b": 1}},
		"another order":     {first: file("c", file("a"), file("b")), second: file("c", file("b"), file("a")), want: map[string]int{"c": 1}},
		"in another stage":  {first: file("b one", file("a one")), second: file("b two", file("a two")), want: map[string]int{}},
		"an ignored cache":  {first: file("b", file("a")), second: ignoring, want: map[string]int{"b": 1}},
		"without a key":     {first: file("b", file("a")), second: file("b", file("a")), uncached: map[string]bool{"a": true}, want: map[string]int{"a": 1}},
		"the content alone": {first: file("b", file("a")), second: file("b", exec("a")), want: map[string]int{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.uncached = c.uncached
			mustSolve(t, w.solver(t), c.first)
			w.runs()
			mustSolve(t, w.solver(t), c.second)
			if diff := cmp.Diff(c.want, w.runs()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestMissingLayersAreMadeAgain: a record is worth nothing without the layers.
func TestMissingLayersAreMadeAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := file("b", file("a"))
	s := w.solver(t)
	mustSolve(t, s, n)
	res := s.Outputs(n.digest())[0]
	if missing := s.Missing(res); missing != nil {
		t.Errorf("missing %v", missing)
	}
	w.runs()
	if err := os.RemoveAll(filepath.Join(w.root, "layers", res.Chain.DiffIDs()[0].Encoded())); err != nil {
		t.Fatal(err)
	}
	other := w.solver(t)
	if missing := other.Missing(res); len(missing) != 1 || missing[0].Description != "a" {
		t.Errorf("missing %v", missing)
	}
	if got := mustSolve(t, other, n); got != "a,b" {
		t.Errorf("result %s", got)
	}
	// The layer of b is on that of a, which is as it was: its record holds.
	if diff := cmp.Diff(map[string]int{"a": 1}, w.runs()); diff != "" {
		t.Error(diff)
	}
}

// meeting returns a function that returns when it was called n times.
func meeting(n int) func(ctx context.Context, _ *Task) error {
	var wg sync.WaitGroup
	wg.Add(n)
	return func(ctx context.Context, _ *Task) error {
		wg.Done()
		all := make(chan struct{})
		go func() { wg.Wait(); close(all) }()
		select {
		case <-all:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// TestStepsRunInParallel: steps that do not need each other wait for each other here.
func TestStepsRunInParallel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	meet := meeting(3)
	for _, name := range []string{"a", "b", "c"} {
		w.run[name] = meet
	}
	mustSolve(t, w.solver(t), file("top", file("a"), file("b"), exec("c")))
}

// TestOneErrorEndsTheOthers: the error of a build is that of the step that failed, not of those that it ends.
func TestOneErrorEndsTheOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	meet := meeting(2)
	fault := errors.New("a fault")
	w.run["bad"] = func(ctx context.Context, task *Task) error { return errors.Join(meet(ctx, task), fault) }
	w.run["long"] = func(ctx context.Context, task *Task) error {
		if err := meet(ctx, task); err != nil {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}
	bad := file("bad")
	s := w.solver(t)
	_, err := solve(t, s, file("top", file("long"), bad))
	var vertex *errdefs.VertexError
	if !errors.Is(err, fault) || !errors.As(err, &vertex) || vertex.Digest != bad.digest().String() {
		t.Errorf("%v, of %v", err, vertex)
	}
	if ran := w.runs(); ran["top"] != 0 {
		t.Errorf("ran %v", ran)
	}
	// The failure is no result: a step that failed runs again.
	delete(w.run, "bad")
	if got := mustSolve(t, s, bad); got != "bad" {
		t.Errorf("result %s", got)
	}
}

// TestCancellation: a build that is canceled ends, and leaves the step to others.
func TestCancellation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.run["a"] = func(ctx context.Context, _ *Task) error {
		cancel()
		<-ctx.Done()
		return context.Cause(ctx)
	}
	s := w.solver(t)
	n := file("b", file("a"))
	_, err := s.Solve(ctx, n.definition())
	var vertex *errdefs.VertexError
	if !errors.Is(err, context.Canceled) || errors.As(err, &vertex) {
		t.Errorf("%v", err)
	}
	delete(w.run, "a")
	if got := mustSolve(t, s, n); got != "a,b" {
		t.Errorf("result %s", got)
	}
}

// TestCanceledWhileAnotherRuns: a graph that is canceled does not wait for the step that another graph has begun, nor ends it.
func TestCanceledWhileAnotherRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	begun, finish := make(chan struct{}), make(chan struct{})
	w.run["a"] = func(context.Context, *Task) error {
		close(begun)
		<-finish
		return nil
	}
	s := w.solver(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := s.Solve(t.Context(), file("a").definition()); err != nil {
			t.Error(err)
		}
	})
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Solve(ctx, file("b", file("a")).definition()); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(finish)
	wg.Wait()
	if diff := cmp.Diff(map[string]int{"a": 1}, w.runs()); diff != "" {
		t.Error(diff)
	}
}

// TestAskingHoldsUpNobody: while a client does not answer what a step asks, another build runs the same step. The first one gets its result.
func TestAskingHoldsUpNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked, answer := make(chan struct{}), make(chan struct{})
	w.ask = map[string]func(context.Context){"a silent": func(context.Context) {
		close(asked)
		<-answer
	}}
	silent, other := w.solver(t), w.solver(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		if got, err := solve(t, silent, exec("a silent")); got != "a other" || err != nil {
			t.Errorf("%s, %v", got, err)
		}
	})
	<-asked
	if got := mustSolve(t, other, exec("a other")); got != "a other" {
		t.Errorf("result %s", got)
	}
	close(answer)
	wg.Wait()
	if got := mustSolve(t, w.solver(t), exec("a silent")); got != "a other" { // cached: nothing is asked
		t.Errorf("result %s", got)
	}
	if diff := cmp.Diff(map[string]int{"a other": 1}, w.runs()); diff != "" {
		t.Error(diff)
	}
}

func TestKeyErrors(t *testing.T) {
	t.Parallel()
	fault := errors.New("a fault")
	for name, c := range map[string]struct {
		n    *node
		want string
	}{
		"step":   {file("x"), "failed to compute cache key: a fault"},
		"source": {file("y", source("x")), "failed to load cache key: a fault"},
	} {
		w := newWorld(t)
		w.keyError = map[string]error{"x": fault}
		if _, err := solve(t, w.solver(t), c.n); text(err) != c.want || !errors.Is(err, fault) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if ran := w.runs(); len(ran) != 0 {
			t.Errorf("%s: ran %v", name, ran)
		}
	}
}

// TestOperationsAreClosed: also those that fail. Their errors are the step's.
func TestOperationsAreClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fault := errors.New("a fault")
	w.closing = map[string]error{"b": fault}
	s := w.solver(t)
	if _, err := solve(t, s, file("b", file("a"))); !errors.Is(err, fault) {
		t.Errorf("%v", err)
	}
	w.run["c"] = func(context.Context, *Task) error { return fault }
	if _, err := solve(t, s, file("c")); !errors.Is(err, fault) {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, w.closed); diff != "" {
		t.Error(diff)
	}
}

// TestEntitlements: a graph that needs more than is granted fails before anything runs.
func TestEntitlements(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		needs   entitlements.Values
		allowed entitlements.Set
		want    string
	}{
		"nothing":  {},
		"insecure": {needs: entitlements.Values{SecurityInsecure: true}, want: "security.insecure is not allowed"},
		"network":  {needs: entitlements.Values{NetworkHost: true}, want: "network.host is not allowed"},
		"granted":  {needs: entitlements.Values{NetworkHost: true}, allowed: entitlements.Set{entitlements.EntitlementNetworkHost: nil}},
	} {
		w := newWorld(t)
		w.needs = c.needs
		n := exec("b", file("a"))
		_, err := solve(t, w.solver(t, func(o *Options) { o.Allowed = c.allowed }), n)
		var vertex *errdefs.VertexError
		if text(err) != c.want || err != nil && (!errors.As(err, &vertex) || vertex.Digest != n.digest().String()) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if ran := w.runs(); err != nil && len(ran) != 0 {
			t.Errorf("%s: ran %v", name, ran)
		}
	}
}

// TestPrepare: only a step that will run for certain is prepared, and no step of a plan. If it cannot be, nothing runs.
func TestPrepare(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b, c := exec("a"), exec("b"), file("c")
	b.meta, c.meta = &pb.OpMetadata{IgnoreCache: true}, &pb.OpMetadata{IgnoreCache: true}
	mustSolve(t, w.solver(t), file("top", a, b, c))
	mustPlan := w.solver(t, func(o *Options) { o.Plan = true })
	if _, err := solve(t, mustPlan, b); !errors.Is(err, ErrPlanned) {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff([]string{"b"}, w.prepared); diff != "" {
		t.Error(diff)
	}
	w.runs()
	w.prepareError = errors.New("a fault")
	if _, err := solve(t, w.solver(t), file("other", a, b)); !errors.Is(err, w.prepareError) || len(w.runs()) != 0 {
		t.Errorf("%v", err)
	}
}

// TestErrorsHaveTheirLines: an error has the lines of its operation, or else of the operations that use it.
func TestErrorsHaveTheirLines(t *testing.T) {
	t.Parallel()
	fault := errors.New("a fault")
	src := source("src")
	run := file("run", src)
	line := func(n int32) *pb.Locations {
		return &pb.Locations{Locations: []*pb.Location{{Ranges: []*pb.Range{{Start: &pb.Position{Line: n}}}}}}
	}
	for name, c := range map[string]struct {
		bad       string
		locations map[string]*pb.Locations
		want      []int32
	}{
		"its own":       {"run", map[string]*pb.Locations{run.digest().String(): line(3)}, []int32{3}},
		"of its user":   {"src", map[string]*pb.Locations{run.digest().String(): line(3)}, []int32{3}},
		"not the other": {"src", map[string]*pb.Locations{run.digest().String(): line(3), src.digest().String(): line(1)}, []int32{1}},
		"unknown":       {"run", nil, nil},
		"of no file":    {"run", map[string]*pb.Locations{run.digest().String(): {Locations: []*pb.Location{{SourceIndex: 7}}}}, nil},
	} {
		w := newWorld(t)
		w.run[c.bad] = func(context.Context, *Task) error { return fault }
		def := file("top", run).definition()
		def.Source = &pb.Source{Locations: c.locations, Infos: []*pb.SourceInfo{{Filename: "Dockerfile"}}}
		_, err := w.solver(t).Solve(t.Context(), def)
		var lines []int32
		for _, s := range errdefs.Sources(err) {
			if s.Info.Filename != "Dockerfile" {
				t.Errorf("%s: file %s", name, s.Info.Filename)
			}
			for _, r := range s.Ranges {
				lines = append(lines, r.Start.Line)
			}
		}
		if diff := cmp.Diff(c.want, lines); diff != "" || !errors.Is(err, fault) {
			t.Errorf("%s: %v: %s", name, err, diff)
		}
	}
}

// TestFetch: layers that the store lacks come from the image that a chain is built on, once a step needs files.
func TestFetch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.solver(t)
	mustSolve(t, s, file("b", file("a")))
	whole := s.Outputs(file("b", file("a")).digest())[0]
	dir := filepath.Join(w.root, "layers", whole.Chain.DiffIDs()[0].Encoded())
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	var asked [][]digest.Digest
	restore := false
	s = w.solver(t, func(o *Options) {
		o.FindBase = func(chain []digest.Digest) *Base {
			asked = append(asked, chain)
			if !restore {
				return nil
			}
			return &Base{Chain: chain[:1], Fetch: func(context.Context, bool) error { return os.Rename(dir+".away", dir) }}
		}
	})
	if _, err := s.View(t.Context(), whole); err == nil {
		t.Error("a chain without a layer has a view")
	}
	restore = true
	for range 2 {
		v, err := s.View(t.Context(), whole)
		if err != nil {
			t.Fatal(err)
		}
		if list, err := v.ReadDir(t.Context(), "."); err != nil || len(list) != 2 {
			t.Errorf("%v, %v", list, err)
		}
	}
	if diff := cmp.Diff([][]digest.Digest{whole.Chain.DiffIDs(), whole.Chain.DiffIDs()}, asked); diff != "" {
		t.Errorf("asked for %s", diff)
	}
	empty, err := s.View(t.Context(), &Result{})
	if err != nil {
		t.Fatal(err)
	}
	if list, err := empty.ReadDir(t.Context(), "."); err != nil || len(list) != 0 {
		t.Errorf("the empty filesystem has %v, %v", list, err)
	}
}
