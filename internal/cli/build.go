package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/build"
	"github.com/micabuild/mica/internal/sandbox"
)

// buildFlags are the flags of `docker build` as they were typed.
type buildFlags struct {
	file, target, platform, network, iidFile, metadataFile, progress, runtime string
	tags, buildArgs, labels, addHosts, outputs                                []string
	noCache, pull, push, load, quiet                                          bool
}

func newBuildCommand(app *App) *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use:     "build [OPTIONS] PATH | -",
		Short:   "Build an image from a Dockerfile",
		Args:    requireArgs(1, 1),
		Aliases: []string{"b"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runBuild(cmd.Context(), app, &f, args[0])
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.file, "file", "f", "", "Name of the Dockerfile (default: PATH/Dockerfile)")
	fl.StringArrayVarP(&f.tags, "tag", "t", nil, "Name and optionally a tag (format: name:tag)")
	fl.StringArrayVar(&f.buildArgs, "build-arg", nil, "Set build-time variables")
	fl.StringArrayVar(&f.labels, "label", nil, "Set metadata for an image")
	fl.StringArrayVar(&f.addHosts, "add-host", nil, "Add a custom host-to-IP mapping (format: host:ip)")
	fl.StringArrayVarP(&f.outputs, "output", "o", nil, `Output destination (format: "type=local,dest=path")`)
	fl.StringVar(&f.target, "target", "", "Set the target build stage to build")
	fl.StringVar(&f.platform, "platform", "", "Set target platform for build")
	fl.StringVar(&f.network, "network", "default", "Set the networking mode for the RUN instructions: default, host, none")
	fl.StringVar(&f.iidFile, "iidfile", "", "Write the image ID to a file")
	fl.StringVar(&f.metadataFile, "metadata-file", "", "Write build result metadata to a file")
	fl.StringVar(&f.progress, "progress", "auto", "Set type of progress output (auto, plain, tty, quiet, rawjson)")
	fl.StringVar(&f.runtime, "runtime", "", "OCI runtime that runs the steps (default: runc, else crun)")
	fl.BoolVar(&f.noCache, "no-cache", false, "Do not use cache when building the image")
	fl.BoolVar(&f.pull, "pull", false, "Always attempt to pull all referenced images")
	fl.BoolVar(&f.push, "push", false, `Shorthand for "--output=type=registry"`)
	fl.BoolVar(&f.load, "load", false, `Shorthand for "--output=type=docker"`)
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "Suppress the build output and print image ID on success")
	return cmd
}

func runBuild(ctx context.Context, app *App, f *buildFlags, path string) (err error) {
	if err := app.Open(ctx); err != nil {
		return err
	}
	o, err := f.options(app)
	if err != nil {
		return err
	}
	source, cleanup, err := openContext(ctx, app, path, f.file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanup()) }()
	o.Context = *source
	host, err := sandbox.NewHost(app.Store, f.runtime)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	display, err := startDisplay(ctx, app, f.progressMode())
	if err != nil {
		return err
	}
	o.Events = display.events
	b := &build.Builder{Store: app.Store, Layers: app.Layers, Images: app.Images, Host: host, Registry: app.registry()}
	res, err := b.Build(ctx, *o)
	display.finish()
	app.printNotes()
	if err != nil {
		return buildError(app, err)
	}
	display.printWarnings()
	return f.report(app, res)
}

// options turns the flags into what the build is told.
func (f *buildFlags) options(app *App) (*build.Options, error) {
	o := &build.Options{
		Target: f.target, Platform: f.platform, Network: f.network, AddHosts: f.addHosts,
		NoCache: f.noCache, Pull: f.pull, Tags: f.tags,
		// An argument without a value takes the environment's, and is not set when that is not.
		BuildArgs: opts.ConvertKVStringsToMap(fromEnvironment(f.buildArgs)),
		Labels:    opts.ConvertKVStringsToMap(f.labels),
	}
	addProxies(app, o.BuildArgs)
	for _, s := range f.outputs {
		e, err := parseOutput(app, s)
		if err != nil {
			return nil, err
		}
		o.Exports = append(o.Exports, *e)
	}
	if f.push || f.load {
		o.Exports = append(o.Exports, build.Export{Type: build.ExportImage, Push: f.push})
	}
	return o, nil
}

// addProxies adds the proxies of docker's configuration file to build arguments, as docker does. Those of the environment
// are not taken: an image's history shows the arguments that its Dockerfile declares.
func addProxies(app *App, args map[string]string) {
	for name, value := range app.dockerConfig().ParseProxyConfig("default", nil) {
		if _, set := args[name]; !set && value != nil {
			args[name] = *value
		}
	}
}

func fromEnvironment(args []string) []string {
	var set []string
	for _, a := range args {
		if strings.Contains(a, "=") {
			set = append(set, a)
		} else if v, ok := os.LookupEnv(a); ok {
			set = append(set, a+"="+v)
		}
	}
	return set
}

func (f *buildFlags) progressMode() string {
	if f.quiet {
		return "quiet"
	}
	return f.progress
}

// report prints and writes down what the build came to.
func (f *buildFlags) report(app *App, res *build.Result) error {
	id := res.Image.ID.String()
	if f.iidFile != "" {
		if err := os.WriteFile(f.iidFile, []byte(id), 0o644); err != nil {
			return fmt.Errorf("write image ID: %w", err)
		}
	}
	if f.metadataFile != "" {
		target := res.Image.Target
		if res.Pushed.Digest != "" {
			target = res.Pushed
		}
		meta := map[string]any{
			"containerimage.config.digest": id,
			"containerimage.digest":        target.Digest,
			"containerimage.descriptor":    target,
		}
		if len(res.Names) > 0 {
			meta["image.name"] = strings.Join(res.Names, ",")
		}
		data, err := json.MarshalIndent(meta, "", "  ")
		if err != nil {
			return fmt.Errorf("write metadata: %w", err)
		}
		if err := os.WriteFile(f.metadataFile, data, 0o644); err != nil {
			return fmt.Errorf("write metadata: %w", err)
		}
	}
	if f.quiet {
		fmt.Fprintln(app.Stdout, id)
	}
	return nil
}
