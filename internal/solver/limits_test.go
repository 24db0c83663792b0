package solver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/buildcache"
)

// TestGraphLimits: a graph that is too large is refused before any of it runs.
func TestGraphLimits(t *testing.T) {
	t.Parallel()
	a := file("a")
	id := string(a.digest())
	many := make([]*pb.Input, maxParts+1)
	for i := range many {
		many[i] = &pb.Input{Digest: id}
	}
	actions := make([]*pb.FileAction, maxParts)
	for i := range actions {
		actions[i] = &pb.FileAction{}
	}
	end := raw(t, &pb.Op{Inputs: many[:1]})
	for name, c := range map[string]struct {
		defs [][]byte
		want string
	}{
		"operations": {make([][]byte, maxVertices+1), "build definition has 16385 operations: at most 16384 are supported"},
		"inputs": {
			[][]byte{mustOp(a), raw(t, &pb.Op{Inputs: many, Op: &pb.Op_Merge{Merge: &pb.MergeOp{}}}), end},
			"the operations of the build definition have more than 65536 inputs, file actions and mounts",
		},
		"actions": {
			[][]byte{mustOp(a), raw(t, &pb.Op{Op: &pb.Op_File{File: &pb.FileOp{Actions: actions}}}), end},
			"the operations of the build definition have more than 65536 inputs, file actions and mounts",
		},
	} {
		if _, err := newWorld(t).solver(t).Solve(t.Context(), &pb.Definition{Def: c.defs}); text(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestManyPaths: finding the place of a failure takes the time of the operations, not of the paths between them.
func TestManyPaths(t *testing.T) {
	t.Parallel()
	fault := errors.New("a fault")
	w := newWorld(t)
	w.run["a"] = func(context.Context, *Task) error { return fault }
	def := &pb.Definition{Source: &pb.Source{Infos: []*pb.SourceInfo{{}}}}
	last := file("a")
	def.Def = append(def.Def, mustOp(last))
	below := []*pb.Input{{Digest: string(last.digest())}}
	for i := range 40 {
		var level []*pb.Input
		for _, side := range []string{"l", "r"} {
			op, _ := file(fmt.Sprint(side, i)).op()
			vertex := &pb.Op{}
			if err := vertex.UnmarshalVT(op); err != nil {
				t.Fatal(err)
			}
			vertex.Inputs = below
			data := raw(t, vertex)
			def.Def = append(def.Def, data)
			level = append(level, &pb.Input{Digest: digest.FromBytes(data).String()})
		}
		below = level
	}
	def.Def = append(def.Def, raw(t, &pb.Op{Inputs: below[:1]}))
	if _, err := w.solver(t).Solve(t.Context(), def); !errors.Is(err, fault) {
		t.Error(err)
	}
}

// TestUsage: chains have a limit of layers, and those that share no memory have one together.
func TestUsage(t *testing.T) {
	t.Parallel()
	links := make([]buildcache.Link, MaxLayers)
	base := &Result{Chain: buildcache.NewChain(links...)}
	grown := &Result{Chain: buildcache.NewChain(links[1:]...)}
	inputs := []*Result{grown}
	grown = &Result{Chain: grown.Chain.On(buildcache.Link{Description: "top"})}
	u := newUsage()
	if err := u.made(nil, []*Result{{Chain: base.Chain.On(buildcache.Link{})}}); err == nil || !strings.Contains(err.Error(), "10001 layers") {
		t.Errorf("a long chain: %v", err)
	}
	for i := range maxChains/MaxLayers + 1 {
		if err := u.made(inputs, []*Result{grown, nil, {}}); err != nil {
			t.Fatalf("chain %d on its input: %v", i, err)
		}
	}
	var err error
	made := 0
	for ; err == nil; made++ {
		err = u.made(inputs, []*Result{base})
	}
	if made != maxChains/MaxLayers+1 {
		t.Errorf("%d chains of their own: %v", made, err)
	}
}

// TestEnter: an operation waits for those that run, unless its build ends.
func TestEnter(t *testing.T) {
	t.Parallel()
	u := newUsage()
	var leave func()
	for range maxRunning {
		var err error
		if leave, err = u.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := u.enter(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the last one: %v", err)
	}
	leave()
	if _, err := u.enter(t.Context()); err != nil {
		t.Error(err)
	}
}
