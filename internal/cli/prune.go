package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/prune"
)

type imagePruneFlags struct {
	all, force bool
	filters    filterFlag
}

func newImagePruneCommand(app *App) *cobra.Command {
	var f imagePruneFlags
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove unused images",
		Args:  requireArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runImagePrune(cmd.Context(), app, &f)
		},
	}
	cmd.Flags().BoolVarP(&f.all, "all", "a", false, "Remove all unused images, not just dangling ones")
	cmd.Flags().BoolVarP(&f.force, "force", "f", false, "Do not prompt for confirmation")
	cmd.Flags().Var(&f.filters, "filter", `Provide filter values (e.g. "until=<timestamp>")`)
	return cmd
}

func runImagePrune(ctx context.Context, app *App, f *imagePruneFlags) error {
	question := "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] "
	if f.all {
		question = "WARNING! This will remove all images without at least one container associated to them.\nAre you sure you want to continue? [y/N] "
	}
	if err := app.Open(ctx); err != nil {
		return err
	}
	if !f.force && !confirm(ctx, app, question) {
		return nil
	}
	filter, err := app.Images.NewFilter(ctx, f.filters, "until", "label", "label!", "dangling")
	if err != nil {
		return err
	}
	lines, freed, err := app.pruner().Unused(ctx, f.all, filter)
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

// confirm asks a question that only y answers with yes.
func confirm(ctx context.Context, app *App, question string) bool {
	fmt.Fprint(app.Stdout, question)
	line, _ := bufio.NewReader(app.input(ctx)).ReadString('\n')
	return strings.EqualFold(strings.TrimSpace(line), "y")
}

type builderPruneFlags struct {
	all, force  bool
	filters     filterFlag
	keepStorage string
}

func newBuilderPruneCommand(app *App) *cobra.Command {
	var f builderPruneFlags
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove build cache",
		Args:  requireArgs(0, 0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return runBuilderPrune(cmd.Context(), app, &f) },
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.all, "all", "a", false, "Remove all build cache, not just what no image shares layers with")
	fl.BoolVarP(&f.force, "force", "f", false, "Do not prompt for confirmation")
	fl.Var(&f.filters, "filter", `Provide filter values (e.g. "until=24h")`)
	fl.StringVar(&f.keepStorage, "keep-storage", "", "Amount of disk space to keep for cache")
	return cmd
}

func runBuilderPrune(ctx context.Context, app *App, f *builderPruneFlags) error {
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
	if !f.force && !confirm(ctx, app, question) {
		return nil
	}
	removed, freed, err := app.pruner().Cache(ctx, limits)
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
