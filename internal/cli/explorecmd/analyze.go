// Package explorecmd has the commands that show what an image is made of: `mica analyze` and `mica explore`.
package explorecmd

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/analyze"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/printer"
)

type analyzeFlags struct {
	format                            string
	top                               int
	maxWasted, minEfficiency, maxSize string
	ciConfig                          string
	failOn                            []string
	platform                          string
}

// NewAnalyzeCommand is `mica analyze`.
func NewAnalyzeCommand(app *command.App) *cobra.Command {
	var f analyzeFlags
	cmd := &cobra.Command{
		Use:   "analyze [OPTIONS] IMAGE",
		Short: "Find what an image wastes, and what was left in it by mistake",
		Long: "Find what an image wastes, and what was left in it by mistake: bytes of layers that later layers hide, copies, caches of package " +
			"managers, secrets.\n\nIMAGE is an image of the store, a name in a registry, an archive, an OCI layout, a build of `mica builds`, a layer, or a directory.\n" +
			"The exit code is 1 if the image misses a threshold, and 2 after an error.",
		Args:              func(cmd *cobra.Command, args []string) error { return app.Answer(command.RequireArgs(1, 1)(cmd, args)) },
		ValidArgsFunction: app.CompleteImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.Answer(runAnalyze(cmd.Context(), app, &f, cmd.Flags().Changed, args[0]))
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.format, "format", formatter.PrettyFormatKey, `Format output: "pretty", "json" or a Go template`)
	fl.IntVar(&f.top, "top", 10, "List at most this many files, wasted paths and copies (0 for all)")
	fl.StringVar(&f.maxWasted, "max-wasted", "", "Exit with 1 if the layers have more bytes that are not in the image, as 20MB")
	fl.StringVar(&f.minEfficiency, "min-efficiency", "", "Exit with 1 if the efficiency is less, as 0.95 or 95%")
	fl.StringVar(&f.maxSize, "max-size", "", "Exit with 1 if the image is larger, as 200MB")
	fl.StringArrayVar(&f.failOn, "fail-on", nil, "Exit with 1 if there are findings of a kind: secret, waste, cache or duplicate")
	fl.StringVar(&f.platform, "platform", "", "Platform to analyze if an image has several (default: this host's)")
	fl.StringVar(&f.ciConfig, "ci-config", "", "Check the rules of a file for dive (.dive-ci)")
	return cmd
}

func runAnalyze(ctx context.Context, app *command.App, f *analyzeFlags, isSet func(flag string) bool, ref string) (err error) {
	if f.top < 0 {
		return &command.UsageError{Err: fmt.Errorf("invalid --top: %d is negative", f.top)}
	}
	limits, err := f.limits(isSet)
	if err != nil {
		return err
	}
	platform, err := command.ParsePlatform(f.platform)
	if err != nil {
		return err
	}
	opener, err := newOpener(ctx, app, platform)
	if err != nil {
		return err
	}
	// A threshold is not met by what a publisher says of an image.
	opener.Note, opener.Whole = app.Warn, len(limits) > 0
	img, err := opener.Open(ctx, ref)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	in, err := img.Analyzed(ctx)
	if err != nil {
		return err
	}
	report, err := analyze.Analyze(ctx, in, analyze.Options{Top: f.top})
	if err != nil {
		return fmt.Errorf("analyze %s: %w", ref, err)
	}
	report.Unverified = img.Unverified()
	pass := report.Check(limits)
	if f.format != formatter.PrettyFormatKey && f.format != "" {
		err = printer.Template(app.Stdout, f.format, report)
	} else {
		err = printReport(app.Stdout, report)
	}
	if err == nil && !pass {
		err = &command.ExitError{Code: 1}
	}
	return err
}

// limits are the thresholds that flags and dive's file set. A flag that is set to nothing, as by a variable of a script that is not there,
// is a mistake: the image would pass without a check.
func (f *analyzeFlags) limits(isSet func(flag string) bool) (limits []analyze.Limit, err error) {
	for _, l := range []struct {
		flag, text string
		parse      func(text string) (analyze.Limit, error)
	}{
		{"max-wasted", f.maxWasted, analyze.MaxWasted},
		{"min-efficiency", f.minEfficiency, analyze.MinEfficiency},
		{"max-size", f.maxSize, analyze.MaxSize},
	} {
		if !isSet(l.flag) {
			continue
		}
		limit, err := l.parse(l.text)
		if err != nil {
			return nil, invalidFlag(l.flag, err)
		}
		limits = append(limits, limit)
	}
	for _, kind := range f.failOn {
		limit, err := analyze.FailOn(kind)
		if err != nil {
			return nil, invalidFlag("fail-on", err)
		}
		limits = append(limits, limit)
	}
	if !isSet("ci-config") {
		return limits, nil
	}
	if f.ciConfig == "" {
		return nil, invalidFlag("ci-config", errors.New("name a file"))
	}
	rules, err := diveRules(f.ciConfig)
	return append(limits, rules...), err
}

func invalidFlag(flag string, err error) error {
	return &command.UsageError{Err: fmt.Errorf("invalid --%s: %w", flag, err)}
}

func diveRules(name string) ([]analyze.Limit, error) {
	in, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read --ci-config: %w", err)
	}
	defer func() { _ = in.Close() }()
	limits, err := analyze.DiveRules(in)
	if err != nil {
		return nil, fmt.Errorf("read --ci-config %s: %w", name, err)
	}
	return limits, nil
}
