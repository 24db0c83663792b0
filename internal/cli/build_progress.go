package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/progress/progressui"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/solver"
)

// progressDisplay is BuildKit's own progress display, fed by a build.
type progressDisplay struct {
	out    io.Writer
	mode   progressui.DisplayMode
	escape bool // control sequences in names and output of steps: the display writes to the terminal itself
	ch     chan *solver.Status
	closed chan struct{}

	mu       sync.Mutex
	done     bool
	warnings []bkclient.VertexWarning
	found    []*bkclient.VertexWarning // the same, in the order of their arrival
}

// startDisplay shows progress on stderr: mode is auto, plain, tty, quiet or rawjson.
func startDisplay(ctx context.Context, app *App, mode string) (*progressDisplay, error) {
	switch mode {
	case "auto", "plain", "tty", "quiet", "rawjson":
	default:
		return nil, fmt.Errorf("invalid progress mode %q: use auto, plain, tty, quiet or rawjson", mode)
	}
	d := &progressDisplay{
		out: app.Stderr, mode: progressui.DisplayMode(mode),
		ch: make(chan *solver.Status, 64), closed: make(chan struct{}),
	}
	d.escape = app.Stderr.IsTerminal() && d.mode != progressui.RawJSONMode
	var out io.Writer = app.Stderr.File()
	if d.mode == progressui.RawJSONMode {
		out = app.Stderr
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
			fmt.Fprintf(app.Stderr, "NOTE: the progress of this build cannot be shown: %s\n", err)
		}
		for range d.ch { // no step waits for it
			continue
		}
	}()
	return d, nil
}

// events is the build's solver.Events. After finish nothing is taken any more.
func (d *progressDisplay) events(st *solver.Status) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return
	}
	d.found = append(d.found, st.Warnings...)
	if d.escape {
		st = escaped(st)
	}
	d.ch <- st
}

// finish waits until everything is shown.
func (d *progressDisplay) finish() {
	d.mu.Lock()
	d.done = true
	d.mu.Unlock()
	close(d.ch)
	<-d.closed
}

// printWarnings lists what the linter found, as `docker build` does after the progress.
func (d *progressDisplay) printWarnings() {
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

func line(r []*pb.Range) int {
	if len(r) == 0 {
		return 0
	}
	return int(r[0].Start.Line)
}

// buildError shows the lines of the Dockerfile that a build failed on, and returns the error for the last line.
func buildError(app *App, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	sources := errdefs.Sources(err)
	for _, s := range sources {
		if s.Info != nil {
			s.Info.Data = []byte(redact.URLs(string(s.Info.Data)))
		}
		if printErr := printSource(app.Stderr, s); printErr != nil {
			return errors.Join(err, printErr)
		}
	}
	var limit *builder.LimitError // which says where it is
	if at := position(sources); at != "" && !errors.As(err, &limit) {
		err = fmt.Errorf("%s: %w", at, err)
	}
	return failedBuild{err}
}

// position is where in the Dockerfile the build failed: "Dockerfile:3".
func position(sources []*errdefs.Source) string {
	if len(sources) == 0 || sources[len(sources)-1].Info == nil {
		return ""
	}
	s := sources[len(sources)-1]
	if n := line(s.Ranges); n > 0 {
		return fmt.Sprintf("%s:%d", s.Info.Filename, n)
	}
	return ""
}
