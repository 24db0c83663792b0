package imagecmd

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
)

// NewSaveCommand is `mica save`.
func NewSaveCommand(app *command.App) *cobra.Command {
	var output string
	var platforms []string
	cmd := &cobra.Command{
		Use:               "save [OPTIONS] IMAGE [IMAGE...]",
		Short:             "Save one or more images to a tar archive (streamed to STDOUT by default)",
		Args:              command.RequireArgs(1, -1),
		ValidArgsFunction: app.CompleteImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSave(cmd.Context(), app, output, platforms, args)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "Write to a file, instead of STDOUT")
	cmd.Flags().StringSliceVar(&platforms, "platform", nil, `Save only the given platform(s) (e.g., "linux/amd64,linux/arm64/v8")`)
	return cmd
}

func runSave(ctx context.Context, app *command.App, output string, platforms, refs []string) (err error) {
	wanted, _, err := command.ParsePlatforms(platforms)
	if err != nil {
		return err
	}
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
	items, err := app.Local().Items(ctx, refs, wanted)
	if err != nil {
		return err
	}
	return app.WritePrivate(output, func(w io.Writer) error { return app.Local().Save(ctx, w, items) })
}
