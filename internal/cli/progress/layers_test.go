package progress

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/dockerapi"
	"github.com/micabuild/mica/internal/terminal/terminaltest"
	"github.com/micabuild/mica/internal/transfer"
)

// TestLayers: a line for each state in docker's words; progress within a state is for terminals.
func TestLayers(t *testing.T) {
	t.Parallel()
	a, b := digest.FromString("a"), digest.FromString("b")
	shortA, shortB := a.Encoded()[:12], b.Encoded()[:12]
	for name, c := range map[string]struct {
		words  dockerapi.Words
		events []transfer.Event
		want   string
	}{
		"pull": {dockerapi.PullWords, []transfer.Event{
			{Layer: a, State: transfer.Waiting}, {Layer: b, State: transfer.Waiting}, {Layer: a, State: transfer.Downloading, Done: 1, Total: 9},
			{Layer: a, State: transfer.Downloading, Done: 5, Total: 9}, {Layer: a, State: transfer.Retrying}, {Layer: b, State: transfer.Exists}, {Layer: a, State: transfer.Done},
		}, "A: Pulling fs layer\nB: Pulling fs layer\nA: Retrying\nB: Already exists\nA: Pull complete\n"},
		"push": {dockerapi.PushWords, []transfer.Event{
			{Layer: a, State: transfer.Waiting}, {Layer: a, State: transfer.Waiting}, {Layer: a, State: transfer.Uploading, Total: 9}, {Layer: a, State: transfer.Done},
			{Layer: b, State: transfer.Mounted, From: "team/base\x1b[2J"},
		}, "A: Preparing\nA: Pushed\nB: Mounted from team/base\\x1b[2J\n"},
		"copy": {dockerapi.CopyWords, []transfer.Event{
			{Layer: a, State: transfer.Waiting}, {Layer: a, State: transfer.Exists}, {Layer: b, State: transfer.Done},
		}, "A: Waiting\nA: Already exists\nB: Copied\n"},
		"not a digest": {dockerapi.CopyWords, []transfer.Event{{Layer: "x\x1b", State: transfer.Done}}, "x\\x1b: Copied\n"},
	} {
		var out bytes.Buffer
		d := NewLayers(&out, c.words, false)
		d.Say("1\x1b", "Pulling from %s", "x\x07")
		for _, e := range c.events {
			d.Update(e)
		}
		d.Finish()
		d.Update(transfer.Event{Layer: a, State: transfer.Done}) // nothing is shown any more
		want := "1\\x1b: Pulling from x\\x07\n" + strings.NewReplacer("A:", shortA+":", "B:", shortB+":").Replace(c.want)
		if out.String() != want {
			t.Errorf("%s: %q, want %q", name, out.String(), want)
		}
	}
}

func TestQuietLayers(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	d := NewLayers(&out, dockerapi.PullWords, true)
	d.Say("1", "Pulling")
	d.Update(transfer.Event{Layer: digest.FromString("a"), State: transfer.Done})
	d.Finish()
	if out.Len() > 0 {
		t.Errorf("%q", out.String())
	}
}

// TestLayersOnATerminal: a layer has one line, which changes. Docker draws a bar in it from 110 columns on.
func TestLayersOnATerminal(t *testing.T) {
	t.Parallel()
	tty, shown := terminaltest.Screen(t)
	d := NewLayers(tty, dockerapi.PullWords, false)
	layer := digest.FromString("a")
	d.Update(transfer.Event{Layer: layer, State: transfer.Waiting})
	d.Update(transfer.Event{Layer: layer, State: transfer.Downloading, Done: 5 << 20, Total: 10 << 20})
	d.Update(transfer.Event{Layer: layer, State: transfer.Done})
	d.Finish()
	screen := shown()
	for _, want := range []string{layer.Encoded()[:12] + ": Downloading  5.243MB/10.49MB", "\x1b[1A", "Pull complete"} {
		if !strings.Contains(screen, want) {
			t.Errorf("no %q in %q", want, screen)
		}
	}
	for line := range strings.SplitSeq(sequences.ReplaceAllString(screen, ""), "\n") {
		if line = strings.Trim(line, "\r"); len(line) > 80 {
			t.Errorf("a line of %d characters: %q", len(line), line)
		}
	}
}

// broken is a stream that takes nothing.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken") }

// TestLayersOnABrokenStream: a transfer does not wait for it.
func TestLayersOnABrokenStream(t *testing.T) {
	t.Parallel()
	d := NewLayers(broken{}, dockerapi.PullWords, false)
	for i := range 1000 {
		d.Update(transfer.Event{Layer: digest.FromBytes([]byte{byte(i), byte(i >> 8)}), State: transfer.Done})
	}
	d.Finish()
}
