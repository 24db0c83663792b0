// Package historycmd has the commands that tell of earlier builds: builds and why.
package historycmd

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/history"
)

// NewBuildsCommand is `mica builds`, which has the subcommands of `docker buildx history`.
func NewBuildsCommand(app *command.App) *cobra.Command {
	return command.Group("builds", "Manage the builds that the store remembers",
		newListCommand(app),
		newInspectCommand(app),
		newLogsCommand(app),
		newTraceCommand(app),
		newExportCommand(app),
		newRemoveCommand(app),
	)
}

// named is the end of the help of commands that take a build.
const named = "\n\nBUILD is a ref of `mica builds ls`, the beginning of one, or ^N for the Nth build before the newest."

// newest is named for those that take one at most.
const newest = named + " By default it is the newest."

// open opens the store's builds.
func open(ctx context.Context, app *command.App) (*history.Builds, error) {
	if err := app.Open(ctx); err != nil {
		return nil, err
	}
	return history.Open(app.Store), nil
}

// find opens the builds, and finds that of the first argument; the newest without arguments.
func find(ctx context.Context, app *command.App, args []string) (*history.Builds, *history.Build, error) {
	builds, err := open(ctx, app)
	if err != nil {
		return nil, nil, err
	}
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	b, err := builds.Find(name)
	return builds, b, err
}

// complete makes the shell complete the refs of builds.
func complete(app *command.App) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		builds, err := open(cmd.Context(), app)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		list, _ := builds.List()
		var refs []string
		for _, b := range list {
			refs = append(refs, b.Ref)
		}
		return refs, cobra.ShellCompDirectiveNoFileComp
	}
}

type listFlags struct {
	noTrunc, quiet bool
	format         string
}

func newListCommand(app *command.App) *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use:     "ls [OPTIONS]",
		Aliases: []string{"list"},
		Short:   "List builds",
		Args:    command.RequireArgs(0, 0),
		RunE:    func(cmd *cobra.Command, _ []string) error { return runList(cmd.Context(), app, &f) },
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.noTrunc, "no-trunc", false, "Don't truncate output")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "Only show the refs of builds")
	fl.StringVar(&f.format, "format", "", `Format output: "table", "table TEMPLATE", "json" or a Go template`)
	return cmd
}

func runList(ctx context.Context, app *command.App, f *listFlags) error {
	builds, err := open(ctx, app)
	if err != nil {
		return err
	}
	list, err := builds.List()
	if err != nil {
		return err
	}
	format := formatter.Format(f.format)
	switch {
	case f.quiet && (f.format == "" || f.format == formatter.TableFormatKey):
		format = "{{.Ref}}"
	case f.format == "" || f.format == formatter.TableFormatKey:
		format = "table {{.Ref}}\t{{.Name}}\t{{.Status}}\t{{.CreatedAt}}\t{{.Duration}}"
	}
	name := distinct(list)
	out := formatter.Context{Output: app.Stdout, Format: format, Trunc: !f.noTrunc}
	return out.Write(newRow(), func(print func(formatter.SubContext) error) error {
		for _, b := range list {
			if err := print(&row{build: b, name: name(b), trunc: !f.noTrunc}); err != nil {
				return err
			}
		}
		return nil
	})
}

// row is a build as templates see it, with the field names of docker buildx history.
type row struct {
	formatter.HeaderContext
	build *history.Build
	name  string
	trunc bool
}

func newRow() *row {
	r := &row{}
	r.Header = formatter.SubHeaderContext{
		"Ref": "BUILD ID", "Name": "NAME", "Status": "STATUS", "CreatedAt": "CREATED AT", "Duration": "DURATION", "Steps": "STEPS",
	}
	return r
}

// MarshalJSON is for --format json.
func (r *row) MarshalJSON() ([]byte, error) { return formatter.MarshalJSON(r) }

// Ref identifies the build.
func (r *row) Ref() string { return r.build.Ref }

// Name says what was built.
func (r *row) Name() string {
	if r.trunc {
		return formatter.Ellipsis(r.name, 36)
	}
	return r.name
}

// Status is how it ended.
func (r *row) Status() string { return string(r.build.Status) }

// CreatedAt is how long ago it began.
func (r *row) CreatedAt() string {
	return units.HumanDuration(time.Since(r.build.Started)) + " ago"
}

// Duration is how long it took; + for one that runs.
func (r *row) Duration() string {
	if r.build.Status == history.Interrupted {
		return ""
	}
	text := history.Seconds(r.build.Duration())
	if r.build.Status == history.Running {
		text += "+"
	}
	return text
}

// Steps counts the steps, and those of them that were cached.
func (r *row) Steps() string {
	done, cached := counts(r.build)
	return fmt.Sprintf("%d (%d cached)", done, cached)
}

// buildName is the last part of the context's name, with a Dockerfile and a target that are not the default.
func buildName(b *history.Build) string {
	name := path.Base(strings.TrimSuffix(b.Context, "/"))
	if b.Context == "" || b.Context == "-" {
		name = "-"
	}
	if b.Dockerfile != "" && path.Base(b.Dockerfile) != "Dockerfile" {
		name += "/" + path.Base(b.Dockerfile)
	}
	if b.Target != "" {
		name += " (" + b.Target + ")"
	}
	return name
}

// distinct returns a function that names builds. The name begins with the parent of the context's directory if builds of several
// directories would have the same name.
func distinct(list []*history.Build) func(*history.Build) string {
	contexts := map[string]string{}
	several := map[string]bool{}
	for _, b := range list {
		name := buildName(b)
		if known, ok := contexts[name]; ok && known != b.Context {
			several[name] = true
		}
		contexts[name] = b.Context
	}
	return func(b *history.Build) string {
		name := buildName(b)
		if parent := path.Base(path.Dir(strings.TrimSuffix(b.Context, "/"))); several[name] && path.IsAbs(b.Context) && parent != "/" {
			return parent + "/" + name
		}
		return name
	}
}

// counts returns how many steps have ended, and how many of these were cached.
func counts(b *history.Build) (done, cached int) {
	for _, s := range b.Steps {
		if s.State != "" {
			done++
		}
		if s.State == history.StepCached {
			cached++
		}
	}
	return done, cached
}

type removeFlags struct{ all bool }

func newRemoveCommand(app *command.App) *cobra.Command {
	var f removeFlags
	cmd := &cobra.Command{
		Use:               "rm [OPTIONS] [BUILD...]",
		Short:             "Remove builds",
		Long:              "Remove builds that have ended from those that the store remembers. Images, layers and the build cache stay." + named,
		Args:              command.RequireArgs(0, -1),
		ValidArgsFunction: complete(app),
		RunE:              func(cmd *cobra.Command, args []string) error { return runRemove(cmd.Context(), app, &f, args) },
	}
	cmd.Flags().BoolVar(&f.all, "all", false, "Remove all builds that have ended")
	return cmd
}

func runRemove(ctx context.Context, app *command.App, f *removeFlags, args []string) error {
	if f.all == (len(args) > 0) {
		return &command.UsageError{Err: errors.New("name the builds to remove, or use --all")}
	}
	builds, err := open(ctx, app)
	if err != nil {
		return err
	}
	if f.all {
		_, err := builds.Prune(history.Limits{})
		return err
	}
	removed, failed := builds.Remove(args...)
	for _, ref := range removed {
		fmt.Fprintln(app.Stdout, ref)
	}
	return command.ErrorList(failed).OrNil()
}
