package historycmd

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/printer"
	"github.com/micabuild/mica/internal/explain"
	"github.com/micabuild/mica/internal/history"
)

// costs is what `mica why --cost --format` prints.
type costs struct {
	Build string     `json:"build"`
	Steps []stepCost `json:"steps"`
}

type stepCost struct {
	Name   string        `json:"name"`
	Line   int           `json:"line,omitempty"`
	Ran    int           `json:"ran"`
	Builds int           `json:"builds"` // that had the step
	Time   time.Duration `json:"time"`   // of all runs, in nanoseconds
	Size   int64         `json:"size"`   // that all runs wrote
	Cache  int64         `json:"cache"`  // that its layer takes in the store now
	Reruns []rerun       `json:"reruns,omitempty"`
}

type rerun struct {
	Copy    string        `json:"copy"`
	Line    int           `json:"line,omitempty"`
	Times   int           `json:"times"`
	Time    time.Duration `json:"time"`
	Reads   []string      `json:"reads,omitempty"`
	ForThem int           `json:"forThem"`
	Text    string        `json:"text"`
}

// runCost prints what the steps of a build have cost in all builds that the store remembers.
func runCost(app *command.App, f *whyFlags, builds *history.Builds, b *history.Build, step string) error {
	if f.against != "" || f.exitCode {
		return &command.UsageError{Err: errors.New("--cost cannot be used with --against and --exit-code")}
	}
	steps, err := b.Select(step)
	if err != nil {
		return err
	}
	chosen := map[digest.Digest]bool{}
	for _, s := range steps {
		chosen[s.Vertex] = true
	}
	res := costs{Build: b.Ref, Steps: []stepCost{}}
	for _, c := range explain.Costs(builds, b) {
		if !chosen[c.Step.Vertex] {
			continue
		}
		s := stepCost{Name: c.Step.Name, Line: c.Step.Line, Ran: c.Ran, Builds: c.Had, Time: c.Time, Size: c.Size, Cache: cacheSize(app, c.Layer)}
		for _, r := range c.Reruns {
			s.Reruns = append(s.Reruns, rerun{r.Copy.Name, r.Copy.Line, r.Times, r.Time, r.Reads, r.ForThem, c.Because(r)})
		}
		res.Steps = append(res.Steps, s)
	}
	if f.format != formatter.PrettyFormatKey && f.format != "" {
		return printer.Template(app.Stdout, f.format, res)
	}
	printCosts(app.Stdout, &res)
	return nil
}

// cacheSize is what a layer takes in the store, 0 if it is not there.
func cacheSize(app *command.App, layer digest.Digest) int64 {
	n, err := app.Layers.DiskUsage(layer)
	if err != nil {
		return 0
	}
	if got, err := app.Layers.Get(layer); err == nil {
		for _, d := range got.Blobs {
			n += d.Size
		}
	}
	return n
}

func printCosts(out io.Writer, res *costs) {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "STEP\tRAN\tTIME\tWRITTEN\tCACHE")
	var notes []string
	for _, s := range res.Steps {
		fmt.Fprintf(w, "%s\t%d of %d\t%s\t%s\t%s\n", formatter.Ellipsis(s.Name, maxName), s.Ran, s.Builds, history.Seconds(s.Time),
			units.HumanSize(float64(s.Size)), units.HumanSize(float64(s.Cache)))
		for _, r := range s.Reruns {
			if r.Time >= time.Second {
				notes = append(notes, r.Text)
			}
		}
	}
	_ = w.Flush()
	if len(notes) > 0 {
		fmt.Fprintf(out, "\n%s\n", strings.Join(notes, "\n"))
	}
}
