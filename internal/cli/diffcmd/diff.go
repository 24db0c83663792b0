// Package diffcmd has the command that compares images.
package diffcmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/catalog"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/printer"
	"github.com/micabuild/mica/internal/imagediff"
	"github.com/micabuild/mica/internal/inspect"
)

type diffFlags struct {
	options          imagediff.Options
	format, platform string
	quiet            bool
}

// NewDiffCommand is `mica diff`.
func NewDiffCommand(app *command.App) *cobra.Command {
	var f diffFlags
	cmd := &cobra.Command{
		Use:   "diff [OPTIONS] A B",
		Short: "Compare two images",
		Long: "Compare two images: their configs, histories, layers, packages and files.\n\n" +
			"A and B are images of the store, names in registries, archives, OCI layouts, builds of `mica builds`, layers, or directories.\n" +
			"The exit code is 0 if they are the same, 1 if they differ, and 2 after an error.",
		Args:              func(cmd *cobra.Command, args []string) error { return app.Answer(command.RequireArgs(2, 2)(cmd, args)) },
		ValidArgsFunction: app.CompleteImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.Answer(runDiff(cmd.Context(), app, &f, args[0], args[1]))
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.options.Only, "only", nil, "Compare only these: "+strings.Join(imagediff.Sections(), ", "))
	fl.BoolVar(&f.options.IgnoreTimes, "ignore-times", false, "Ignore times: of files, of the config and of the history")
	fl.BoolVar(&f.options.IgnoreOwners, "ignore-owners", false, "Ignore the owners of files")
	fl.StringArrayVar(&f.options.Ignore, "ignore", nil, "Ignore files with these paths (patterns as in .dockerignore; without a slash, in any directory)")
	fl.StringArrayVar(&f.options.Text, "text", nil, `Show how the text of files with these paths differs (as "*.conf" or "/etc/**")`)
	fl.BoolVar(&f.options.Causes, "semantic", false, "Say why two builds of the same thing differ: times, order, caches, ...")
	fl.StringVar(&f.platform, "platform", "", "Platform to compare if an image has several (default: this host's)")
	fl.StringVar(&f.format, "format", formatter.PrettyFormatKey, `Format output: "pretty", "json" or a Go template`)
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "Print nothing: exit with 0 if nothing differs, with 1 if something does, with 2 after an error")
	return cmd
}

func runDiff(ctx context.Context, app *command.App, f *diffFlags, nameA, nameB string) (err error) {
	o := &inspect.Opener{Registry: app.Registry}
	if o.Platform, err = command.ParsePlatform(f.platform); err != nil {
		return err
	}
	if err := app.Open(ctx); err != nil {
		return err
	}
	o.Local = app.Local()
	o.Note = app.Warn
	f.options.Packages = &catalog.Cataloguer{Store: app.Store, Program: app.Catalog}
	a, err := o.Open(ctx, nameA)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	b, err := o.Open(ctx, nameB)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	report, err := imagediff.Compare(ctx, a, b, f.options)
	if err != nil {
		return fmt.Errorf("compare %s with %s: %w", nameA, nameB, err)
	}
	switch {
	case f.quiet:
	case f.format != formatter.PrettyFormatKey && f.format != "":
		err = printer.Template(app.Stdout, f.format, report)
	default:
		out := bufio.NewWriterSize(app.Stdout, 64<<10)
		printReport(out, report)
		_ = out.Flush() // App.Answer reports what cannot be written
	}
	if err == nil && !report.Same {
		err = &command.ExitError{Code: 1}
	}
	return err
}
