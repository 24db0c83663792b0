package historycmd

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/printer"
	"github.com/micabuild/mica/internal/history"
)

func newInspectCommand(app *command.App) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:               "inspect [OPTIONS] [BUILD]",
		Short:             "Show a build: what was built, its steps, and how it ended",
		Long:              "Show a build: what was built, with which arguments, how it ended, and each step with its time, size and cause." + newest,
		Args:              command.RequireArgs(0, 1),
		ValidArgsFunction: complete(app),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, b, err := find(cmd.Context(), app, args)
			if err != nil {
				return err
			}
			if format != "" && format != formatter.PrettyFormatKey {
				return printer.Template(app.Stdout, format, b)
			}
			printBuild(app.Stdout, b)
			return nil
		},
	}
	cmd.Flags().StringVar(&format, "format", formatter.PrettyFormatKey, `Format output: "pretty", "json" or a Go template`)
	return cmd
}

func printBuild(out io.Writer, b *history.Build) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s:\t%s\n", name, value)
		}
	}
	done, cached := counts(b)
	steps := fmt.Sprintf("%d/%d", done, len(b.Steps))
	if done > 0 {
		steps += fmt.Sprintf(" (%d%% cached)", 100*cached/done)
	}
	field("Name", buildName(b))
	field("Build", b.Ref)
	field("Context", b.Context)
	field("Dockerfile", b.Dockerfile)
	field("Target", b.Target)
	field("Platforms", strings.Join(b.Platforms, ", "))
	field("Image", b.Image.String())
	field("Names", strings.Join(b.Names, ", "))
	fmt.Fprintln(w)
	field("Status", string(b.Status))
	field("Error", b.Error)
	field("Started", b.Started.Local().Format(time.DateTime))
	field("Duration", history.Seconds(b.Duration()))
	field("Build Steps", steps)
	_ = w.Flush()
	printArguments(out, b)
	printSteps(out, b)
}

func printArguments(out io.Writer, b *history.Build) {
	if len(b.Args) == 0 {
		return
	}
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "\nBUILD ARGUMENT\tVALUE")
	for _, name := range slices.Sorted(maps.Keys(b.Args)) {
		fmt.Fprintf(w, "%s\t%s\n", name, b.Args[name])
	}
	_ = w.Flush()
}

// maxName is how much of a step's name a table shows, in runes.
const maxName = 60

func printSteps(out io.Writer, b *history.Build) {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "\nSTEP\tSTATUS\tDURATION\tSIZE\tCAUSE")
	for _, s := range b.Steps {
		state, took, size, cause := string(s.State), "", "", ""
		if s.State == "" {
			state = "not reached"
		}
		if s.State == history.StepRan || s.State == history.StepFailed {
			took, cause = history.Seconds(s.Duration()), strings.TrimPrefix(strings.Join(b.Notes(s), "; "), "because ")
		}
		if s.Layer != "" {
			size = units.HumanSize(float64(s.Size))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", formatter.Ellipsis(s.Name, maxName), state, took, size, cause)
	}
	_ = w.Flush()
}
