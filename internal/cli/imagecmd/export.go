package imagecmd

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/transfer"
)

// NewExportCommand is `mica export`.
func NewExportCommand(app *command.App) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:               "export [OPTIONS] IMAGE",
		Short:             "Export an image's filesystem as a tar archive",
		Args:              command.RequireArgs(1, 1),
		ValidArgsFunction: app.CompleteImages,
		RunE:              func(cmd *cobra.Command, args []string) error { return runExport(cmd.Context(), app, output, args[0]) },
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "Write to a file, instead of STDOUT")
	return cmd
}

func runExport(ctx context.Context, app *command.App, output, ref string) (err error) {
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
	return app.WritePrivate(output, func(w io.Writer) error { return transfer.Export(ctx, w, v) })
}
