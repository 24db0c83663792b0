package imagecmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/image"
)

// NewRmiCommand is `mica rmi`.
func NewRmiCommand(app *command.App) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:               "rmi [OPTIONS] IMAGE [IMAGE...]",
		Short:             "Remove one or more images",
		Args:              command.RequireArgs(1, -1),
		ValidArgsFunction: app.CompleteImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runRmi(cmd.Context(), app, args, force)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Force removal of the image")
	cmd.Flags().Bool("no-prune", false, "Do not delete untagged parents (mica has none)")
	return cmd
}

// runRmi removes the images that it can remove. Its error names the others. With force, a missing image is not an error.
func runRmi(ctx context.Context, app *command.App, refs []string, force bool) error {
	if err := app.Open(ctx); err != nil {
		return err
	}
	var errs command.ErrorList
	for _, ref := range refs {
		lines, err := app.Images.Remove(ctx, ref, force)
		printRemoved(app, lines)
		var missing *image.NotFoundError
		switch {
		case err == nil:
		case force && errors.As(err, &missing):
			app.PrintError(err)
		default:
			errs = append(errs, err)
		}
	}
	if err := app.Collect(ctx); err != nil {
		errs = append(errs, err)
	}
	return errs.OrNil()
}

func printRemoved(app *command.App, lines []image.Removed) {
	for _, l := range lines {
		if l.Deleted != "" {
			fmt.Fprintln(app.Stdout, "Deleted: "+l.Deleted)
		} else {
			fmt.Fprintln(app.Stdout, "Untagged: "+l.Untagged)
		}
	}
}
