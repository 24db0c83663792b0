package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/archive"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/redact"
)

func (a *App) archives() *archive.Archives {
	return &archive.Archives{Store: a.Store, Layers: a.Layers, Images: a.Images}
}

func newSaveCommand(app *App) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "save [OPTIONS] IMAGE [IMAGE...]",
		Short: "Save one or more images to a tar archive (streamed to STDOUT by default)",
		Args:  requireArgs(1, -1),
		RunE:  func(cmd *cobra.Command, args []string) error { return runSave(cmd.Context(), app, output, args) },
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "Write to a file, instead of STDOUT")
	return cmd
}

func runSave(ctx context.Context, app *App, output string, refs []string) (err error) {
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
	defer func() { err = errors.Join(err, use.Unlock()) }()
	items, err := saveItems(ctx, app, refs)
	if err != nil {
		return err
	}
	return writeOutput(app, output, func(w io.Writer) error { return app.archives().Save(ctx, w, items) })
}

// writeOutput writes to stdout, or to a file that appears when it is whole.
func writeOutput(app *App, output string, write func(io.Writer) error) (err error) {
	sink, err := destination(app, output)()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	if err := write(sink); err != nil {
		return err
	}
	return sink.Commit()
}

// saveItems finds what is to be saved, as docker save does: a name with its tag, a repository with all of its tags, an ID
// without a name.
func saveItems(ctx context.Context, app *App, refs []string) ([]archive.Item, error) {
	var items []archive.Item
	add := func(img *image.Image, name string) {
		for i := range items {
			if items[i].Image.ID == img.ID {
				if name != "" {
					items[i].Names = append(items[i].Names, name)
				}
				return
			}
		}
		it := archive.Item{Image: img}
		if name != "" {
			it.Names = []string{name}
		}
		items = append(items, it)
	}
	for _, ref := range refs {
		tagged, err := repositoryImages(ctx, app, ref)
		if err != nil {
			return nil, err
		}
		for _, t := range tagged {
			add(t.img, t.name)
		}
		if len(tagged) > 0 {
			continue
		}
		img, err := app.Images.FindNamed(ctx, ref, nil)
		if err != nil {
			return nil, err
		}
		add(img, nameIn(img, ref))
	}
	return items, nil
}

type taggedImage struct {
	img  *image.Image
	name string
}

// repositoryImages are all tags of a repository that was named without one.
func repositoryImages(ctx context.Context, app *App, ref string) ([]taggedImage, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil || !reference.IsNameOnly(named) {
		return nil, nil //nolint:nilerr // Find says what is wrong with it
	}
	images, err := app.Images.List(ctx)
	if images == nil && err != nil {
		return nil, err
	}
	var list []taggedImage
	for _, img := range images {
		for _, n := range img.Names {
			full, err := reference.ParseNormalizedNamed(n)
			if err == nil && full.Name() == named.Name() {
				list = append(list, taggedImage{img, full.String()})
			}
		}
	}
	return list, nil
}

// nameIn is the full name that ref is, if it is one of the image's.
func nameIn(img *image.Image, ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ""
	}
	full := reference.TagNameOnly(named)
	for _, n := range img.Names {
		if n == reference.FamiliarString(full) {
			return full.String()
		}
	}
	return ""
}

func newLoadCommand(app *App) *cobra.Command {
	var input string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "load [OPTIONS]",
		Short: "Load an image from a tar archive or STDIN",
		Args:  requireArgs(0, 0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return runLoad(cmd.Context(), app, input, quiet) },
	}
	cmd.Flags().StringVarP(&input, "input", "i", "", "Read from tar archive file, instead of STDIN")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Suppress the load output")
	return cmd
}

func runLoad(ctx context.Context, app *App, input string, quiet bool) error {
	in, closeInput, err := openInput(ctx, app, input, "load")
	if err != nil {
		return err
	}
	defer closeInput()
	if err := app.Open(ctx); err != nil {
		return err
	}
	loaded, err := load(ctx, app, in)
	if err != nil {
		// What was stored of it is garbage now.
		return errors.Join(err, app.collect(context.WithoutCancel(ctx)))
	}
	for _, l := range loaded {
		for name, old := range l.Replaced {
			fmt.Fprintf(app.Stdout, "The image %s already exists, renaming the old one with ID %s to empty string\n", name, old)
		}
		if quiet {
			continue
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

func load(ctx context.Context, app *App, in io.Reader) (_ []archive.Loaded, err error) {
	use, err := app.Store.Use(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, use.Unlock()) }()
	return app.archives().Load(ctx, in)
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
		return nil, nil, fmt.Errorf("%s is a folder, not an archive", path)
	}
	return f, func() { _ = f.Close() }, nil
}

func newImportCommand(app *App) *cobra.Command {
	var o archive.ImportOptions
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
	cmd.Flags().StringArrayVarP(&o.Changes, "change", "c", nil, "Apply Dockerfile instruction to the created image")
	cmd.Flags().StringVarP(&o.Message, "message", "m", "", "Set commit message for imported image")
	cmd.Flags().StringVar(&o.Platform, "platform", "", "Set platform of the image")
	return cmd
}

func runImport(ctx context.Context, app *App, o archive.ImportOptions, source, name string) (err error) {
	if name != "" {
		if _, err := reference.ParseNormalizedNamed(name); err != nil {
			return fmt.Errorf("invalid reference format: %q: %w", name, err)
		}
	}
	in, closeInput, err := openSource(ctx, app, source)
	if err != nil {
		return err
	}
	defer closeInput()
	if err := app.Open(ctx); err != nil {
		return err
	}
	if o.Message == "" {
		o.Message = "Imported from " + redact.URLs(source)
	}
	o.Created = time.Now()
	use, err := app.Store.Use(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, use.Unlock()) }()
	img, err := app.archives().Import(ctx, in, o)
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
	defer func() { err = errors.Join(err, use.Unlock()) }()
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
