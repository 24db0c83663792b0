package progress

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client/pkg/jsonmessage"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/terminal"
	"github.com/micabuild/mica/internal/transfer"
)

// Layers shows what happens to layers as docker pull and docker push do: a bar for each on a terminal, a line for
// each step in a log.
type Layers struct {
	words  map[transfer.State]string
	ch     chan jsonstream.Message
	closed chan struct{}

	mu    sync.Mutex
	ended bool // nothing is shown any more
	last  map[digest.Digest]shownLayer
}

type shownLayer struct {
	state transfer.State
	at    time.Time
}

// The words of docker for the states of layers.
var (
	PullWords = map[transfer.State]string{
		transfer.Waiting: "Pulling fs layer", transfer.Downloading: "Downloading", transfer.Retrying: "Retrying",
		transfer.Exists: "Already exists", transfer.Done: "Pull complete",
	}
	PushWords = map[transfer.State]string{
		transfer.Waiting: "Preparing", transfer.Uploading: "Pushing", transfer.Exists: "Layer already exists",
		transfer.Done: "Pushed", transfer.Mounted: "Mounted from",
	}
	CopyWords = map[transfer.State]string{
		transfer.Waiting: "Waiting", transfer.Downloading: "Copying", transfer.Uploading: "Copying",
		transfer.Exists: "Already exists", transfer.Done: "Copied", transfer.Mounted: "Mounted from",
	}
)

// NewLayers starts a display on w; quiet shows nothing.
func NewLayers(w io.Writer, words map[transfer.State]string, quiet bool) *Layers {
	d := &Layers{words: words, last: map[digest.Digest]shownLayer{}}
	if quiet {
		return d
	}
	d.ch, d.closed = make(chan jsonstream.Message, 64), make(chan struct{})
	go func() {
		defer close(d.closed)
		_ = crash.Guard(func() error {
			return jsonmessage.DisplayMessages(func(yield func(jsonstream.Message, error) bool) {
				for m := range d.ch {
					if !yield(m, nil) {
						break
					}
				}
			}, w)
		})()
		for range d.ch { // a transfer does not wait for the terminal
			continue
		}
	}()
	return d
}

// redraw is how often a bar moves.
const redraw = 100 * time.Millisecond

// Update is a transfer.Progress.
func (d *Layers) Update(e transfer.Event) {
	if d.ch == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return
	}
	moving := e.State == transfer.Downloading || e.State == transfer.Uploading
	if old, ok := d.last[e.Layer]; ok && old.state == e.State && (!moving || time.Since(old.at) < redraw) {
		return
	}
	d.last[e.Layer] = shownLayer{e.State, time.Now()}
	id := terminal.EscapeString(string(e.Layer))
	if e.Layer.Validate() == nil {
		id = e.Layer.Encoded()[:12]
	}
	m := jsonstream.Message{ID: id, Status: d.words[e.State]}
	if moving {
		m.Progress = &jsonstream.Progress{Current: max(e.Done, 1), Total: e.Total}
	}
	if e.State == transfer.Mounted {
		m.Status += " " + terminal.EscapeString(e.From)
	}
	d.ch <- m
}

// Say prints a line among the layers.
func (d *Layers) Say(id, format string, args ...any) {
	if d.ch != nil {
		d.ch <- jsonstream.Message{ID: terminal.EscapeString(id), Status: terminal.EscapeString(fmt.Sprintf(format, args...))}
	}
}

// Finish waits until everything is shown.
func (d *Layers) Finish() {
	if d.ch == nil {
		return
	}
	d.mu.Lock()
	d.ended = true
	d.mu.Unlock()
	close(d.ch)
	<-d.closed
}
