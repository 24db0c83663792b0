package dockerapi

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/transfer"
)

// TestMessages: layers have docker's words, and what a registry sends cannot control a terminal.
func TestMessages(t *testing.T) {
	t.Parallel()
	layer := digest.FromString("a")
	id := layer.Encoded()[:12]
	for name, c := range map[string]struct {
		words Words
		event transfer.Event
		want  jsonstream.Message
	}{
		"a bar":        {PullWords, transfer.Event{Layer: layer, State: transfer.Downloading, Done: 3, Total: 9}, jsonstream.Message{ID: id, Status: "Downloading", Progress: &jsonstream.Progress{Current: 3, Total: 9}}},
		"no bytes yet": {PushWords, transfer.Event{Layer: layer, State: transfer.Uploading, Total: 9}, jsonstream.Message{ID: id, Status: "Pushing", Progress: &jsonstream.Progress{Current: 1, Total: 9}}},
		"mounted":      {PushWords, transfer.Event{Layer: layer, State: transfer.Mounted, From: "a\x1b"}, jsonstream.Message{ID: id, Status: `Mounted from a\x1b`}},
		"not a digest": {CopyWords, transfer.Event{Layer: "x\x1b", State: transfer.Done}, jsonstream.Message{ID: `x\x1b`, Status: "Copied"}},
	} {
		got, ok := NewLayers(c.words).Message(c.event)
		if diff := cmp.Diff(c.want, got); diff != "" || !ok {
			t.Errorf("%s: %t\n%s", name, ok, diff)
		}
	}
}

// TestLayersAreNotRedrawnOften: a bar moves ten times a second; another state is shown at once, and once.
func TestLayersAreNotRedrawnOften(t *testing.T) {
	t.Parallel()
	layer := digest.FromString("a")
	moving, done := transfer.Event{Layer: layer, State: transfer.Downloading, Done: 1, Total: 9}, transfer.Event{Layer: layer, State: transfer.Done}
	for name, c := range map[string]struct {
		before transfer.State
		ago    time.Duration
		event  transfer.Event
		shown  bool
	}{
		"another state":       {transfer.Waiting, 0, moving, true},
		"the bar, soon":       {transfer.Downloading, 0, moving, false},
		"the bar, later":      {transfer.Downloading, time.Hour, moving, true},
		"the end":             {transfer.Downloading, 0, done, true},
		"the end again":       {transfer.Done, 0, done, false},
		"the end again, late": {transfer.Done, time.Hour, done, false},
	} {
		l := &Layers{words: PullWords, last: map[digest.Digest]shownLayer{layer: {c.before, time.Now().Add(-c.ago)}}}
		if _, shown := l.Message(c.event); shown != c.shown {
			t.Errorf("%s: shown %t, want %t", name, shown, c.shown)
		}
	}
}
