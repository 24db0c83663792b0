package dockerapi

import (
	"time"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/terminal"
	"github.com/micabuild/mica/internal/transfer"
)

// Words are what docker calls the states of layers.
type Words map[transfer.State]string

// The words of docker pull and docker push, and those of a copy.
var (
	PullWords = Words{
		transfer.Waiting: "Pulling fs layer", transfer.Downloading: "Downloading", transfer.Retrying: "Retrying",
		transfer.Exists: "Already exists", transfer.Done: "Pull complete",
	}
	PushWords = Words{
		transfer.Waiting: "Preparing", transfer.Uploading: "Pushing", transfer.Exists: "Layer already exists",
		transfer.Done: "Pushed", transfer.Mounted: "Mounted from",
	}
	CopyWords = Words{
		transfer.Waiting: "Waiting", transfer.Downloading: "Copying", transfer.Uploading: "Copying",
		transfer.Exists: "Already exists", transfer.Done: "Copied", transfer.Mounted: "Mounted from",
	}
)

// redraw is how often a bar moves.
const redraw = 100 * time.Millisecond

// Layers turns the events of the layers of one transfer into messages that docker shows.
type Layers struct {
	words Words
	last  map[digest.Digest]shownLayer
}

type shownLayer struct {
	state transfer.State
	at    time.Time
}

// NewLayers returns the layers of a transfer that has begun.
func NewLayers(words Words) *Layers {
	return &Layers{words: words, last: map[digest.Digest]shownLayer{}}
}

// Message returns the message of an event. ok is false if it shows nothing new. One goroutine at a time may call it.
func (l *Layers) Message(e transfer.Event) (m jsonstream.Message, ok bool) {
	moving := e.State == transfer.Downloading || e.State == transfer.Uploading
	if old, ok := l.last[e.Layer]; ok && old.state == e.State && (!moving || time.Since(old.at) < redraw) {
		return m, false
	}
	l.last[e.Layer] = shownLayer{e.State, time.Now()}
	m = jsonstream.Message{ID: terminal.EscapeString(string(e.Layer)), Status: l.words[e.State]}
	if e.Layer.Validate() == nil {
		m.ID = e.Layer.Encoded()[:12]
	}
	if moving {
		m.Progress = &jsonstream.Progress{Current: max(e.Done, 1), Total: e.Total}
	}
	if e.State == transfer.Mounted {
		m.Status += " " + terminal.EscapeString(e.From)
	}
	return m, true
}
