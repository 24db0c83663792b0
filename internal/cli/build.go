package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/micabuild/mica/internal/build"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/sandbox"
)

func runBuild(ctx context.Context, app *App, f *buildFlags, path string) (err error) {
	if err := openBuilds(ctx, app, f); err != nil {
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
	if o.Call != "" {
		return f.printAnswer(app, res.Answer)
	}
	display.printWarnings()
	return f.report(app, res)
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
	if oci.IsIndex(res.Root.MediaType) {
		id = res.Root.Digest.String() // as docker has it of several platforms
	}
	if f.iidFile != "" {
		if err := os.WriteFile(f.iidFile, []byte(id), 0o644); err != nil {
			return fmt.Errorf("write image ID: %w", err)
		}
	}
	if f.metadataFile != "" {
		meta := map[string]any{
			"containerimage.digest":     res.Root.Digest,
			"containerimage.descriptor": res.Root,
		}
		if !oci.IsIndex(res.Root.MediaType) {
			meta["containerimage.config.digest"] = id
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
