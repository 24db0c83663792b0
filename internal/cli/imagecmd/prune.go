package imagecmd

import (
	"context"
	"fmt"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
)

type imagePruneFlags struct {
	all, force bool
	filters    command.FilterFlag
}

// NewImagePruneCommand is `mica image prune`.
func NewImagePruneCommand(app *command.App) *cobra.Command {
	var f imagePruneFlags
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove unused images",
		Args:  command.RequireArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runImagePrune(cmd.Context(), app, &f)
		},
	}
	cmd.Flags().BoolVarP(&f.all, "all", "a", false, "Remove all unused images, not just dangling ones")
	cmd.Flags().BoolVarP(&f.force, "force", "f", false, "Do not prompt for confirmation")
	cmd.Flags().Var(&f.filters, "filter", `Provide filter values (e.g. "until=<timestamp>")`)
	return cmd
}

func runImagePrune(ctx context.Context, app *command.App, f *imagePruneFlags) error {
	question := "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] "
	if f.all {
		question = "WARNING! This will remove all images without at least one container associated to them.\nAre you sure you want to continue? [y/N] "
	}
	if err := app.Open(ctx); err != nil {
		return err
	}
	if !f.force && !app.Confirm(ctx, question) {
		return nil
	}
	filter, err := app.Images.NewFilter(ctx, f.filters, "until", "label", "label!", "dangling")
	if err != nil {
		return err
	}
	lines, freed, err := app.Pruner().Unused(ctx, f.all, filter)
	if err != nil {
		return err
	}
	if len(lines) > 0 {
		fmt.Fprintln(app.Stdout, "Deleted Images:")
		for _, l := range lines {
			if l.Deleted != "" {
				fmt.Fprintln(app.Stdout, "deleted: "+l.Deleted)
			} else {
				fmt.Fprintln(app.Stdout, "untagged: "+l.Untagged)
			}
		}
		fmt.Fprintln(app.Stdout)
	}
	fmt.Fprintln(app.Stdout, "Total reclaimed space: "+units.HumanSize(float64(freed)))
	return nil
}
