package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/archive"
	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/redact"
)

func (a *App) archives() *archive.Archives {
	return &archive.Archives{Store: a.Store, Layers: a.Layers, Images: a.Images}
}

// writeOutput writes to stdout, or to a file that appears when it is whole.
func writeOutput(app *App, output string, write func(io.Writer) error) (err error) {
	sink, err := create(app, output)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	if f, ok := sink.(*fileSink); ok {
		f.mode = 0o600 // as docker's: an image may hold what is not for everybody
	}
	if err := write(sink); err != nil {
		return err
	}
	return sink.Commit()
}

func newLoadCommand(app *App) *cobra.Command {
	var input string
	var platforms []string
	cmd := &cobra.Command{
		Use:   "load [OPTIONS]",
		Short: "Load an image from a tar archive or STDIN",
		Args:  requireArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runLoad(cmd.Context(), app, input, platforms)
		},
	}
	cmd.Flags().StringVarP(&input, "input", "i", "", "Read from tar archive file, instead of STDIN")
	cmd.Flags().BoolP("quiet", "q", false, "Suppress the load output")
	cmd.Flags().StringSliceVar(&platforms, "platform", nil, `Load only the given platform(s) (e.g., "linux/amd64,linux/arm64/v8")`)
	return cmd
}

func runLoad(ctx context.Context, app *App, input string, platforms []string) error {
	wanted, _, err := parsePlatforms(platforms)
	if err != nil {
		return err
	}
	in, closeInput, err := openInput(ctx, app, input, "load")
	if err != nil {
		return err
	}
	defer closeInput()
	if err := app.Open(ctx); err != nil {
		return err
	}
	loaded, err := load(ctx, app, in, wanted)
	if err != nil {
		// What was stored of it is garbage now.
		return errors.Join(err, app.collect(context.WithoutCancel(ctx)))
	}
	for _, l := range loaded {
		for name, old := range l.Replaced {
			fmt.Fprintf(app.Stdout, "The image %s already exists, renaming the old one with ID %s to empty string\n", name, old)
		}
		for _, n := range l.Names {
			fmt.Fprintln(app.Stdout, "Loaded image: "+n)
		}
		if len(l.Names) == 0 {
			fmt.Fprintln(app.Stdout, "Loaded image ID: "+l.ID.String())
		}
	}
	return nil
}

func load(ctx context.Context, app *App, in io.Reader, wanted []ocispec.Platform) (_ []archive.Loaded, err error) {
	use, err := app.Store.Use(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, use.End()) }()
	return app.archives().Load(ctx, in, wanted...)
}

// openInput opens a file, or stdin for "" unless that is a terminal.
func openInput(ctx context.Context, app *App, path, verb string) (io.Reader, func(), error) {
	if path == "" {
		if isTerminal(app.Stdin) {
			return nil, nil, fmt.Errorf("requested %s from stdin, but stdin is empty", verb)
		}
		return app.input(ctx), func() {}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		_ = f.Close()
		return nil, nil, fmt.Errorf("%s is a directory, not an archive", path)
	}
	return f, func() { _ = f.Close() }, nil
}

// importOptions are the flags of import.
type importOptions struct {
	changes           []string
	message, platform string
}

func newImportCommand(app *App) *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use:   "import [OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
		Short: "Import the contents from a tarball to create a filesystem image",
		Args:  requireArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) > 1 {
				name = args[1]
			}
			return runImport(cmd.Context(), app, o, args[0], name)
		},
	}
	cmd.Flags().StringArrayVarP(&o.changes, "change", "c", nil, "Apply Dockerfile instruction to the created image")
	cmd.Flags().StringVarP(&o.message, "message", "m", "", "Set commit message for imported image")
	cmd.Flags().StringVar(&o.platform, "platform", "", "Set platform of the image")
	return cmd
}

func runImport(ctx context.Context, app *App, o importOptions, source, name string) (err error) {
	if name != "" {
		if _, err := image.ParseName(name); err != nil {
			return fmt.Errorf("invalid reference format: %q: %w", name, err)
		}
	}
	what, err := o.image(ctx)
	if err != nil {
		return err
	}
	if what.Message == "" {
		what.Message = "Imported from " + redact.URLs(source)
	}
	in, closeInput, err := openSource(ctx, app, source)
	if err != nil {
		return err
	}
	defer closeInput()
	if err := app.Open(ctx); err != nil {
		return err
	}
	what.Created = time.Now()
	use, err := app.Store.Use(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, use.End()) }()
	img, err := app.archives().Import(ctx, in, what)
	if err != nil {
		return err
	}
	if name != "" {
		if err := app.Images.Tag(ctx, img, name); err != nil {
			return err
		}
	}
	fmt.Fprintln(app.Stdout, img.ID)
	return nil
}

// image is what the flags say of the image.
func (o *importOptions) image(ctx context.Context) (what archive.ImportOptions, err error) {
	what.Message, what.Platform = o.message, platforms.Normalize(platforms.DefaultSpec())
	if o.platform != "" {
		p, err := platforms.Parse(o.platform)
		if err != nil {
			return what, fmt.Errorf("invalid platform %q: %w", o.platform, err)
		}
		what.Platform = platforms.Normalize(p)
	}
	what.Config, err = builder.Config(ctx, o.changes, what.Platform)
	return what, err
}

// openSource opens what is imported: a file, a URL, or stdin.
func openSource(ctx context.Context, app *App, source string) (io.Reader, func(), error) {
	switch {
	case source == "-":
		return openInput(ctx, app, "", "import")
	case isWebURL(source):
		body, err := fetch(ctx, source)
		if err != nil {
			return nil, nil, fmt.Errorf("import: %w", err)
		}
		return body, func() { _ = body.Close() }, nil
	}
	return openInput(ctx, app, source, "import")
}

func newExportCommand(app *App) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "export [OPTIONS] IMAGE",
		Short: "Export an image's filesystem as a tar archive",
		Args:  requireArgs(1, 1),
		RunE:  func(cmd *cobra.Command, args []string) error { return runExport(cmd.Context(), app, output, args[0]) },
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "Write to a file, instead of STDOUT")
	return cmd
}

func runExport(ctx context.Context, app *App, output, ref string) (err error) {
	if output == "" && app.Stdout.IsTerminal() {
		return errors.New("cowardly refusing to save to a terminal. Use the -o flag or redirect")
	}
	if err := app.Open(ctx); err != nil {
		return err
	}
	use, err := app.Store.Use(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, use.End()) }()
	img, err := app.Images.Find(ctx, ref)
	if err != nil {
		return err
	}
	v, err := app.Layers.View(ctx, img.Chain())
	if err != nil {
		return err
	}
	return writeOutput(app, output, func(w io.Writer) error { return archive.Export(ctx, w, v) })
}
