package buildcmd

import (
	"context"
	"fmt"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/prune"
)

type builderPruneFlags struct {
	all, force  bool
	filters     command.FilterFlag
	keepStorage string
	remote      string
}

// NewBuilderPruneCommand is `mica builder prune`.
func NewBuilderPruneCommand(app *command.App) *cobra.Command {
	var f builderPruneFlags
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove build cache",
		Args:  command.RequireArgs(0, 0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return runBuilderPrune(cmd.Context(), app, &f) },
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.all, "all", "a", false, "Remove all build cache, not just what no image shares layers with")
	fl.BoolVarP(&f.force, "force", "f", false, "Do not prompt for confirmation")
	fl.Var(&f.filters, "filter", `Provide filter values (e.g. "until=24h")`)
	fl.StringVar(&f.keepStorage, "keep-storage", "", "Amount of disk space to keep for cache")
	fl.StringVar(&f.remote, "remote", "", `Remove steps of a shared cache (type=registry,mode=steps) in place of those of the store`)
	return cmd
}

func runBuilderPrune(ctx context.Context, app *command.App, f *builderPruneFlags) error {
	if f.remote != "" {
		return runRemotePrune(ctx, app, f)
	}
	limits, err := prune.ParseLimits(f.all, f.filters, f.keepStorage, time.Now())
	if err != nil {
		return err
	}
	question := "WARNING! This will remove all dangling build cache. Are you sure you want to continue? [y/N] "
	if f.all {
		question = "WARNING! This will remove all build cache. Are you sure you want to continue? [y/N] "
	}
	if err := app.Open(ctx); err != nil {
		return err
	}
	if !f.force && !app.Confirm(ctx, question) {
		return nil
	}
	removed, freed, err := app.Pruner().Cache(ctx, limits)
	if err != nil {
		return err
	}
	if len(removed) > 0 {
		fmt.Fprintln(app.Stdout, "Deleted build cache objects:")
		for _, id := range removed {
			fmt.Fprintln(app.Stdout, id)
		}
		fmt.Fprintln(app.Stdout)
	}
	fmt.Fprintln(app.Stdout, "Total reclaimed space: "+units.HumanSize(float64(freed)))
	return nil
}
