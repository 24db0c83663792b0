// Package progress shows on a terminal or in a log what a command does: the steps of builds, as docker build, and the layers that are
// pulled and pushed, as docker pull and docker push.
package progress

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/progress/progressui"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/terminal"
)

// Build is BuildKit's own progress display, fed by a build.
type Build struct {
	out      io.Writer
	mode     progressui.DisplayMode
	terminal bool // stderr is one
	escape   bool // control sequences in names and output of steps: the display writes to the terminal itself
	ch       chan *solver.Status
	closed   chan struct{}

	mu       sync.Mutex
	done     bool
	warnings []bkclient.VertexWarning
	found    []*bkclient.VertexWarning // the same, in the order of their arrival
}

// StartBuild shows progress on stderr: mode is auto, plain, tty, quiet or rawjson.
func StartBuild(ctx context.Context, stderr *terminal.Writer, mode string) (*Build, error) {
	switch mode {
	case "auto", "plain", "tty", "quiet", "rawjson":
	default:
		return nil, fmt.Errorf("invalid progress mode %q: use auto, plain, tty, quiet or rawjson", mode)
	}
	d := &Build{
		out: stderr, mode: progressui.DisplayMode(mode),
		ch: make(chan *solver.Status, 64), closed: make(chan struct{}),
	}
	d.terminal = stderr.IsTerminal()
	d.escape = d.terminal && d.mode != progressui.RawJSONMode
	var out io.Writer = stderr.File()
	if d.mode == progressui.RawJSONMode {
		out = stderr
	}
	ui, err := progressui.NewDisplay(out, d.mode)
	if err != nil {
		return nil, fmt.Errorf("progress mode %s: %w", mode, err)
	}
	go func() {
		defer close(d.closed)
		// The display ends with its channel, not with the build's context, so that it still shows the steps that were interrupted.
		err := crash.Guard(func() (err error) {
			d.warnings, err = ui.UpdateFrom(context.WithoutCancel(ctx), d.ch)
			return err
		})()
		if err != nil {
			fmt.Fprintf(stderr, "NOTE: the progress of this build cannot be shown: %s\n", err)
		}
		for range d.ch { // no step waits for it
			continue
		}
	}()
	return d, nil
}

// Events is the build's solver.Events. After Finish nothing is taken any more.
func (d *Build) Events(st *solver.Status) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return
	}
	d.found = append(d.found, st.Warnings...)
	if d.mode == progressui.PlainMode || d.mode == progressui.AutoMode && !d.terminal {
		st = Plain(st)
	}
	if d.escape {
		st = escaped(st)
	}
	d.ch <- st
}

// Finish waits until everything is shown. Only the first call does something.
func (d *Build) Finish() {
	d.mu.Lock()
	if !d.done {
		close(d.ch)
	}
	d.done = true
	d.mu.Unlock()
	<-d.closed
}

// PrintWarnings lists what the linter found, as `docker build` does after the progress.
func (d *Build) PrintWarnings() {
	if len(d.warnings) == 0 || d.mode == progressui.QuietMode || d.mode == progressui.RawJSONMode {
		return
	}
	noun := "warning"
	if len(d.warnings) > 1 {
		noun = "warnings"
	}
	fmt.Fprintf(d.out, "\n %d %s found:\n", len(d.warnings), noun)
	slices.SortStableFunc(d.warnings, func(a, b bkclient.VertexWarning) int { return line(a.Range) - line(b.Range) })
	for _, w := range d.warnings {
		fmt.Fprintf(d.out, " - %s\n", w.Short)
	}
}

// Warnings are those of the front end, in the order of their arrival. They are complete after Finish.
func (d *Build) Warnings() []*bkclient.VertexWarning { return d.found }

func line(r []*pb.Range) int {
	if len(r) == 0 {
		return 0
	}
	return int(r[0].Start.Line)
}
