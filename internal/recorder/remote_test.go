package recorder

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/solver"
)

// TestRemoteMisses: what a remote cache has in place of a step's result, in words.
func TestRemoteMisses(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	source := func(identifier string) *solver.Vertex {
		return &solver.Vertex{Digest: digest.FromString(identifier), Name: identifier, Op: &pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: identifier}}}}
	}
	run := &solver.Vertex{Digest: digest.FromString("run"), Name: "[1/2] RUN x", Op: &pb.Op{}}
	var inputs []solver.Edge
	for _, v := range []*solver.Vertex{
		source("local://context"), source("local://data"), source("docker-image://docker.io/library/base:1@sha256:b"), source("https://user:secret@h/f"), run,
	} {
		inputs = append(inputs, solver.Edge{Vertex: v})
	}
	c := &remotecache.Import{Name: "r.example/app:cache"}
	missed := func(list ...remotecache.MissedInput) remotecache.Miss {
		return remotecache.Miss{Cache: c, Reason: remotecache.OtherInputs, Inputs: list}
	}
	for _, tt := range []struct {
		want string
		list []remotecache.Miss
	}{
		{"no step in it has this definition", []remotecache.Miss{{Cache: c}}},
		{"it has the step for linux/arm64", []remotecache.Miss{{Cache: c}, {Cache: c, Reason: remotecache.OtherPlatform, Platform: "linux/arm64"}, {Cache: c}}},
		{"it has the step with other files of the build context", []remotecache.Miss{missed(remotecache.MissedInput{Index: 0})}},
		{"it has the step with other files of the context data", []remotecache.Miss{missed(remotecache.MissedInput{Index: 1})}},
		{
			"it has the step, not on the base image docker.io/library/base:1@sha256:b, it has the step with another content of https://xxxxx:xxxxx@h/f",
			[]remotecache.Miss{missed(remotecache.MissedInput{Index: 2}, remotecache.MissedInput{Index: 3})},
		},
		{"it does not have [1/2] RUN x", []remotecache.Miss{missed(remotecache.MissedInput{Index: 4})}},
		{"it has the step, not with [1/2] RUN x", []remotecache.Miss{missed(remotecache.MissedInput{Index: 4, Known: true})}},
		{
			"it does not have [1/2] RUN x", // the nearest of several platforms
			[]remotecache.Miss{missed(remotecache.MissedInput{Index: 0}, remotecache.MissedInput{Index: 4}), missed(remotecache.MissedInput{Index: 4})},
		},
		{"it has the step without its result, as with mode=min", []remotecache.Miss{{Cache: c, Reason: remotecache.NoResult}}},
		{"it has the step, but not all layers of its result", []remotecache.Miss{{Cache: c, Reason: remotecache.NoLayers}}},
		{"it names the result of the step, but layers of that are gone", []remotecache.Miss{{Cache: c, Reason: remotecache.NoResult}, {Cache: c, Reason: remotecache.Lost}}},
		{"open https://xxxxx@h/: denied", []remotecache.Miss{{Cache: c, Reason: remotecache.Unsearched, Err: errors.New("open https://token@h/: denied")}}},
	} {
		r := start(t, s, Options{})
		v, k := copyStep(t, "content")
		v.Inputs = inputs
		r.Events(&solver.Status{Vertexes: []*client.Vertex{{Digest: run.Digest, Name: run.Name}, {Digest: v.Digest, Name: v.Name}}})
		notes := r.Runs(context.Background(), v, k, solver.Miss{Remote: tt.list})
		want := []string{"not in cache r.example/app:cache: " + tt.want}
		if strings.Contains(tt.want, "are gone") {
			want = slices.Insert(want, 0, "because its result came from a cache that no longer has its layers")
		}
		if !slices.Equal(notes, want) {
			t.Errorf("%q, want %q", notes, want)
		}
		if !solver.IsNote(solver.Note(v.Digest, notes[0], r.build.Started)) {
			t.Errorf("%q is not shown as a note", notes[0])
		}
	}
}

// TestUnreadCache: a cache that cannot be read is in the record, without credentials.
func TestUnreadCache(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	r := start(t, s, Options{})
	r.Unread("r.example/app:cache", errors.New("https://user:secret@r.example: not found"))
	if err := r.End("", nil); err != nil {
		t.Fatal(err)
	}
	b, err := history.Open(s).Find("")
	if err != nil || len(b.Caches) != 1 || b.Caches[0].Name != "r.example/app:cache" || strings.Contains(b.Caches[0].Error, "secret") {
		t.Errorf("%+v, %v", b, err)
	}
	(*Recorder)(nil).Unread("x", nil)
}
