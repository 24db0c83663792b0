package historycmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/printer"
	"github.com/micabuild/mica/internal/explain"
	"github.com/micabuild/mica/internal/history"
)

type whyFlags struct {
	against, format string
	exitCode, cost  bool
}

// NewWhyCommand is `mica why`.
func NewWhyCommand(app *command.App) *cobra.Command {
	var f whyFlags
	cmd := &cobra.Command{
		Use:   "why [OPTIONS] [BUILD] [STEP]",
		Short: "Explain why the steps of a build ran again",
		Long: "Explain why the steps of a build ran again: what changed since the step was last run, and which step passed the change on.\n\n" +
			"A step is compared with that of the latest build of the same context, Dockerfile and target, or with that of --against." + newest + "\n" +
			"STEP is a line of the Dockerfile, or a part of the step's name.",
		Args:              func(cmd *cobra.Command, args []string) error { return f.end(app, command.RequireArgs(0, 2)(cmd, args)) },
		ValidArgsFunction: complete(app),
		RunE:              func(cmd *cobra.Command, args []string) error { return f.end(app, runWhy(cmd.Context(), app, &f, args)) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.against, "against", "", "Compare with this build, in place of the latest one of the same context, Dockerfile and target")
	fl.BoolVar(&f.cost, "cost", false, "Show what each step has cost in the builds that the store remembers, and for which changes")
	fl.BoolVar(&f.exitCode, "exit-code", false, "Exit with 1 if a step ran again or was not in a remote cache, with 0 if none did, with 2 after an error")
	fl.StringVar(&f.format, "format", formatter.PrettyFormatKey, `Format output: "pretty", "json" or a Go template`)
	return cmd
}

// end is the result of the command.
func (f *whyFlags) end(app *command.App, err error) error {
	if f.exitCode {
		return app.Answer(err)
	}
	return err
}

// explained is what `mica why --format` prints.
type explained struct {
	Build   string                `json:"build"`
	Against string                `json:"against,omitempty"`
	Steps   []explainedStep       `json:"steps"`
	Caches  []history.UnreadCache `json:"unreadCaches,omitempty"`

	first bool // there is no build to compare with
}

// explainedStep is a step that ran again, or that remote caches did not have.
type explainedStep struct {
	*history.Step
	// Roots are the causes at the beginning of the chain: those that do not come from another step.
	Roots []history.Cause `json:"roots"`
	// Misses say of remote caches why they did not have the step.
	Misses []explainedMiss `json:"cacheMisses,omitempty"`
}

type explainedMiss struct {
	history.CacheMiss
	Roots []history.Cause `json:"roots"`
}

// explainStep adds to the causes of a step those that they come from.
func explainStep(x *explain.Explainer, b *history.Build, s *history.Step) explainedStep {
	e := explainedStep{Step: s, Roots: x.Roots(s)}
	for _, m := range s.Misses {
		e.Misses = append(e.Misses, explainedMiss{m, explain.RemoteRoots(b, s, m.Cache)})
	}
	return e
}

func runWhy(ctx context.Context, app *command.App, f *whyFlags, args []string) (err error) {
	builds, b, step, err := whyArgs(ctx, app, args)
	if err != nil {
		return err
	}
	if f.cost {
		return runCost(app, f, builds, b, step)
	}
	x := explain.New(builds, b)
	if f.against != "" {
		old, err := builds.Find(f.against)
		if err != nil {
			return err
		}
		x = explain.Against(builds, b, old)
		for _, s := range b.Steps {
			s.Causes = x.Differences(s)
		}
	}
	steps, err := b.Select(step)
	if err != nil {
		return err
	}
	res := explained{Build: b.Ref, Against: f.against, Steps: []explainedStep{}, Caches: b.Caches}
	res.first = f.against == "" && isFirst(builds, b)
	for _, s := range steps {
		if f.against != "" {
			s.Misses = nil // of the build itself
		}
		if len(s.Causes)+len(s.Misses) > 0 && (f.against != "" || s.State != history.StepCached) {
			res.Steps = append(res.Steps, explainStep(x, b, s))
		}
	}
	if f.format != formatter.PrettyFormatKey && f.format != "" {
		err = printer.Template(app.Stdout, f.format, res)
	} else {
		printWhy(app.Stdout, b, &res)
	}
	if err == nil && f.exitCode && len(res.Steps) > 0 {
		err = &command.ExitError{Code: 1}
	}
	return err
}

// maxLine is how many digits a line of a Dockerfile has at most: a longer number is the beginning of a ref.
const maxLine = 5

// whyArgs reads the arguments. One argument that is the number of a line, or names no build, is a step of the newest.
func whyArgs(ctx context.Context, app *command.App, args []string) (builds *history.Builds, b *history.Build, step string, err error) {
	if _, notLine := strconv.Atoi(strings.Join(args, " ")); len(args) == 1 && notLine == nil && len(args[0]) <= maxLine {
		builds, b, err = find(ctx, app, nil)
		return builds, b, args[0], err
	}
	builds, b, err = find(ctx, app, args)
	if len(args) == 1 && errors.Is(err, history.ErrNotFound) {
		noBuild := err
		step = args[0]
		if builds, b, err = find(ctx, app, nil); err != nil {
			return nil, nil, "", err
		}
		if list, _ := b.Select(step); len(list) == 0 {
			return nil, nil, "", noBuild
		}
	}
	if len(args) == 2 {
		step = args[1]
	}
	return builds, b, step, err
}

// isFirst reports whether the store remembers no build before b that was one of the same.
func isFirst(builds *history.Builds, b *history.Build) bool {
	for old := range builds.Earlier(b.Line) {
		if old.Started.Before(b.Started) {
			return false
		}
	}
	return true
}

// ago is how long ago a time was, within a sentence.
func ago(at time.Time) string {
	text := units.HumanDuration(time.Since(at)) + " ago"
	return strings.ToLower(text[:1]) + text[1:]
}

func printWhy(w io.Writer, b *history.Build, res *explained) {
	done, cached := counts(b)
	fmt.Fprintf(w, "Build %s of %s, %s: %d steps, %d cached\n", b.Ref, buildName(b), ago(b.Started), done, cached)
	switch {
	case b.Status == history.Running:
		fmt.Fprintln(w, "It is running: more steps may follow.")
	case b.Status == history.Interrupted:
		fmt.Fprintln(w, "It was interrupted: steps may be missing.")
	case len(res.Steps) == 0 && res.first:
		fmt.Fprintln(w, "No step ran again: no earlier build of this context, Dockerfile and target is known.")
	case len(res.Steps) == 0:
		fmt.Fprintln(w, "No step ran again.")
	}
	for _, c := range res.Caches {
		fmt.Fprintf(w, "Cache %s was not read: %s\n", c.Name, c.Error)
	}
	for _, s := range res.Steps {
		fmt.Fprintf(w, "\n%s\n", s.Name)
		printCauses(w, b, s.Causes, s.Roots, "  ")
		for _, m := range s.Misses {
			fmt.Fprintf(w, "  not in cache %s:\n", m.Cache)
			printCauses(w, b, m.Causes, m.Roots, "    ")
		}
	}
}

// printCauses prints causes, and those that they come from.
func printCauses(w io.Writer, b *history.Build, causes, roots []history.Cause, indent string) {
	for _, c := range causes {
		fmt.Fprintf(w, "%s%s\n", indent, c.Text(b.StepName))
		if detail := details(c); detail != "" {
			fmt.Fprintf(w, "%s  %s\n", indent, detail)
		}
	}
	if len(roots) > 0 && !slices.Equal(roots, causes) {
		fmt.Fprintf(w, "%sfrom the start: %s\n", indent, history.Summary(roots, b.StepName))
	}
}

// details are the digests and sizes of a file.
func details(c history.Cause) string {
	if c.Kind != history.File || c.Old == "" && c.New == "" {
		return ""
	}
	size := func(n int64) string { return units.HumanSize(float64(n)) }
	switch c.Change {
	case history.Content:
		return fmt.Sprintf("%s, %s → %s, %s", short(c.Old), size(c.OldSize), short(c.New), size(c.NewSize))
	case history.Added:
		return short(c.New) + ", " + size(c.NewSize)
	case history.Removed:
		return short(c.Old) + ", " + size(c.OldSize)
	}
	return ""
}

// short is the beginning of a digest.
func short(s string) string {
	d := digest.Digest(s)
	if d.Validate() != nil {
		return s
	}
	return d.Algorithm().String() + ":" + d.Encoded()[:12]
}
