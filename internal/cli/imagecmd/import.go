package imagecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/platforms"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/dockerfile"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/sources"
	"github.com/micabuild/mica/internal/transfer"
)

// importOptions are the flags of import.
type importOptions struct {
	changes           []string
	message, platform string
}

// NewImportCommand is `mica import`.
func NewImportCommand(app *command.App) *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use:   "import [OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
		Short: "Import the contents from a tarball to create a filesystem image",
		Args:  command.RequireArgs(1, 2),
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

func runImport(ctx context.Context, app *command.App, o importOptions, source, name string) (err error) {
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
	img, err := app.Local().Import(ctx, in, what)
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

// image returns the properties of the image that the flags set.
func (o *importOptions) image(ctx context.Context) (what transfer.ImportOptions, err error) {
	what.Message, what.Platform = o.message, platforms.Normalize(platforms.DefaultSpec())
	if o.platform != "" {
		p, err := platforms.Parse(o.platform)
		if err != nil {
			return what, fmt.Errorf("invalid platform %q: %w", o.platform, err)
		}
		what.Platform = platforms.Normalize(p)
	}
	what.Config, err = dockerfile.Config(ctx, o.changes, what.Platform)
	return what, err
}

// openSource opens the archive to import: a file, a URL, or stdin.
func openSource(ctx context.Context, app *command.App, source string) (io.Reader, func(), error) {
	switch {
	case source == "-":
		return openInput(ctx, app, "", "import")
	case sources.IsWebURL(source):
		body, err := sources.Fetch(ctx, source)
		if err != nil {
			return nil, nil, fmt.Errorf("import: %w", err)
		}
		return body, func() { _ = body.Close() }, nil
	}
	return openInput(ctx, app, source, "import")
}
