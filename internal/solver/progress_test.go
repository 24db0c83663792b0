package solver

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// TestProgress: all vertices are shown before any starts, then the start and the end of each.
func TestProgress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := file("a"), exec("b")
	b.meta = &pb.OpMetadata{ProgressGroup: &pb.ProgressGroup{Id: "group"}}
	top := file("top", a, b)
	w.run["b"] = func(_ context.Context, task *Task) error {
		_, err := fmt.Fprint(task.Output(2), "said")
		return err
	}
	var seen events
	mustSolve(t, w.solver(t, func(o *Options) { o.Events = seen.add }), top)
	var announced []string
	for _, v := range seen.statuses[0].Vertexes {
		announced = append(announced, v.Name)
		if v.Started != nil || v.Completed != nil {
			t.Errorf("%s has begun before it was announced", v.Name)
		}
	}
	if diff := cmp.Diff([]string{"a", "b", "top"}, announced); diff != "" {
		t.Error(diff)
	}
	begun := map[string]bool{}
	for _, st := range seen.statuses[1:] {
		for _, v := range st.Vertexes {
			if v.Completed != nil && !begun[v.Name] {
				t.Errorf("%s has ended before it began", v.Name)
			}
			begun[v.Name] = begun[v.Name] || v.Started != nil
		}
		for _, l := range st.Logs {
			if string(l.Data) != "said" || l.Stream != 2 || l.Vertex != b.digest() {
				t.Errorf("output %+v", l)
			}
		}
	}
	last := seen.last()
	for _, name := range []string{"a", "b", "top"} {
		if v := last[name]; v.Completed == nil || v.Cached || v.Error != "" {
			t.Errorf("%s: %+v", name, v)
		}
	}
	if diff := cmp.Diff([]digest.Digest{a.digest(), b.digest()}, last["top"].Inputs); diff != "" {
		t.Error(diff)
	}
	if last["b"].ProgressGroup.GetId() != "group" {
		t.Errorf("group %v", last["b"].ProgressGroup)
	}

	var again events
	mustSolve(t, w.solver(t, func(o *Options) { o.Events = again.add }), top)
	if diff := cmp.Diff(map[string]bool{"a": true, "b": true, "top": true}, again.cached()); diff != "" {
		t.Errorf("built again: %s", diff)
	}
}

// TestNames: the display shows the front end's words, and no credentials.
func TestNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := file("https://u:pw@host/a"), file("b")
	b.meta = &pb.OpMetadata{Description: map[string]string{"llb.customname": "[1/2] ADD https://u:pw@host/b /"}}
	b.inputs = []*node{a}
	w.run["b"] = func(context.Context, *Task) error { return errors.New("get https://u:pw@host/b: no") }
	var seen events
	_, err := solve(t, w.solver(t, func(o *Options) { o.Events = seen.add }), b)
	if err == nil {
		t.Fatal("no error")
	}
	last := seen.last()
	if v := last["[1/2] ADD https://xxxxx:xxxxx@host/b /"]; v == nil || v.Error != "get https://xxxxx:xxxxx@host/b: no" {
		t.Errorf("%+v", v)
	}
	if last["https://xxxxx:xxxxx@host/a"] == nil || len(last) != 2 {
		t.Errorf("%v", last)
	}
}
