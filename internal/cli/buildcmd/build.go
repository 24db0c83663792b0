// Package buildcmd has the commands that build: build, bake and builder prune.
package buildcmd

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/progress"
	"github.com/micabuild/mica/internal/explain"
	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/oci"
)

// Build runs a build with the arguments of `mica build`, for a command that has other flags. pushFailed decides about an error of the push of a
// name: nil goes on with the other names. The result is nil if the arguments ask for something else than a build.
func Build(ctx context.Context, app *command.App, args []string, pushFailed func(error) error) (*builder.Result, error) {
	f := buildFlags{pushFailed: pushFailed}
	fl := pflag.NewFlagSet("build", pflag.ContinueOnError)
	f.add(fl)
	if err := fl.Parse(args); err != nil {
		return nil, err
	}
	if fl.NArg() != 1 {
		return nil, fmt.Errorf("one context is needed, not %d", fl.NArg())
	}
	return runBuild(ctx, app, &f, fl.Arg(0))
}

func runBuild(ctx context.Context, app *command.App, f *buildFlags, path string) (res *builder.Result, err error) {
	if err := errors.Join(checkDirectoryOf("metadata-file", f.metadataFile), checkDirectoryOf("iidfile", f.iidFile)); err != nil {
		return nil, err
	}
	spec, err := f.spec(path)
	if err != nil {
		return nil, err
	}
	if err := openBuilds(ctx, app, spec); err != nil {
		return nil, err
	}
	if err := f.checkModes(spec); err != nil {
		return nil, err
	}
	inspect, err := f.inspect.open(app)
	if err != nil {
		return nil, err
	}
	if err := checkOn(spec, inspect); err != nil {
		return nil, err
	}
	o, err := buildOptions(app, spec)
	if err != nil {
		return nil, err
	}
	source, cleanup, err := openContext(ctx, app, spec)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cleanup()) }()
	o.PushFailed = f.pushFailed
	o.Context, o.Record = source, f.metadataFile != "" && metadataProvenance() != ""
	host, err := app.NewHost(f.runtime)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	display, err := progress.StartBuild(ctx, app.Stderr, f.progressMode())
	if err != nil {
		return nil, err
	}
	var remote engine
	defer func() { err = errors.Join(err, remote.close()) }()
	o.Elsewhere = remote.elsewhere(spec)
	o.Events, o.Explain = display.Events, f.explain
	if f.explain {
		o.Events = nil
	}
	inspect.apply(o, display)
	b := &builder.Builder{Store: app.Store, Layers: app.Layers, Images: app.Images, Host: host, Registry: app.Registry()}
	res, err = b.Build(ctx, *o)
	display.Finish()
	app.PrintNotes()
	if inspect.hasRun() {
		return nil, err
	}
	if err != nil {
		return nil, buildError(app, err, inspect.hasShown(), "build")
	}
	if f.explain {
		return nil, printPlan(app.Stdout, res.Recorded)
	}
	return res, f.finish(app, o, res, display)
}

// finish writes and shows what has been built.
func (f *buildFlags) finish(app *command.App, o *builder.Options, res *builder.Result, display *progress.Build) error {
	if err := f.writeMetadata(app, res, display); err != nil {
		return err
	}
	if o.Call.Name != "" {
		return printResponse(app, o.Call, res.Response)
	}
	display.PrintWarnings()
	f.hint(app, res.Recorded)
	return f.report(app, res)
}

// checkModes refuses two flags of which each says what to do in place of a build.
func (f *buildFlags) checkModes(spec *buildspec.Spec) error {
	var modes []string
	if spec.Call.Name != "" {
		modes = append(modes, "--call or --check")
	}
	if f.explain {
		modes = append(modes, "--explain")
	}
	if f.inspect.at != "" {
		modes = append(modes, "--shell-at")
	}
	if len(modes) > 1 {
		return &command.UsageError{Err: fmt.Errorf("%s cannot be used with %s", modes[1], modes[0])}
	}
	return nil
}

func (f *buildFlags) progressMode() string {
	if f.quiet || f.explain {
		return "quiet"
	}
	return f.progress
}

// hint shows, after a build that was watched, what its steps cost for files that they do not read.
func (f *buildFlags) hint(app *command.App, b *history.Build) {
	if mode := f.progressMode(); b == nil || mode == "quiet" || mode == "none" || mode == "rawjson" {
		return
	}
	if text := explain.Hint(history.Open(app.Store), b); text != "" {
		fmt.Fprintf(app.Stderr, "\nHint: %s (mica why --cost shows more)\n", text)
	}
}

// report writes the image ID.
func (f *buildFlags) report(app *command.App, res *builder.Result) error {
	id := res.Image.ID.String()
	if oci.IsIndex(res.Root.MediaType) {
		id = res.Root.Digest.String() // docker's choice for several platforms
	}
	if f.iidFile != "" {
		if err := os.WriteFile(f.iidFile, []byte(id), 0o644); err != nil {
			return fmt.Errorf("write image ID: %w", err)
		}
	}
	if f.quiet {
		fmt.Fprintln(app.Stdout, id)
	}
	return nil
}
