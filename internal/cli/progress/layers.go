package progress

import (
	"fmt"
	"io"
	"sync"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client/pkg/jsonmessage"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/dockerapi"
	"github.com/micabuild/mica/internal/terminal"
	"github.com/micabuild/mica/internal/transfer"
)

// Layers shows what happens to layers as docker pull and docker push do: a bar for each on a terminal, a line for
// each step in a log.
type Layers struct {
	ch     chan jsonstream.Message
	closed chan struct{}

	mu    sync.Mutex
	ended bool // nothing is shown any more
	shown *dockerapi.Layers
}

// NewLayers starts a display on w; quiet shows nothing.
func NewLayers(w io.Writer, words dockerapi.Words, quiet bool) *Layers {
	d := &Layers{shown: dockerapi.NewLayers(words)}
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
	if m, ok := d.shown.Message(e); ok {
		d.ch <- m
	}
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
