package systemcmd

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/cli/cli/command/formatter/tabwriter"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/printer"
	"github.com/micabuild/mica/internal/prune"
)

// NewSystemDfCommand is `mica system df`.
func NewSystemDfCommand(app *command.App) *cobra.Command {
	var format string
	var verbose bool
	cmd := &cobra.Command{
		Use: "df [OPTIONS]", Short: "Show disk usage", Args: command.RequireArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return runSystemDf(cmd.Context(), app, format, verbose) },
	}
	cmd.Flags().StringVar(&format, "format", "", `Format output: "table", "json" or a Go template`)
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "Show detailed information on space usage")
	return cmd
}

// usageRow is a line of `docker system df`.
type usageRow struct {
	Type               string
	TotalCount, Active int
	Size, Reclaimable  string
}

func runSystemDf(ctx context.Context, app *command.App, format string, verbose bool) error {
	if err := app.Open(ctx); err != nil {
		return err
	}
	usage, err := app.Pruner().Usage(ctx)
	if err != nil {
		return err
	}
	if verbose {
		return printUsageVerbose(ctx, app, usage)
	}
	rows := []usageRow{newUsageRow("Images", usage.Images, true), newUsageRow("Build Cache", usage.Cache, false)}
	switch format {
	case "", formatter.TableFormatKey:
		w := tabwriter.NewWriter(app.Stdout, 10, 1, 3, ' ', 0)
		fmt.Fprintln(w, "TYPE\tTOTAL\tACTIVE\tSIZE\tRECLAIMABLE")
		for _, r := range rows {
			fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\n", r.Type, r.TotalCount, r.Active, r.Size, r.Reclaimable)
		}
		return w.Flush()
	case formatter.JSONFormatKey:
		enc := json.NewEncoder(app.Stdout)
		for _, r := range rows {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	for _, r := range rows {
		if err := printer.Template(app.Stdout, format, r); err != nil {
			return err
		}
	}
	return nil
}

// newUsageRow formats sizes as docker does; images have a percentage.
func newUsageRow(kind string, row prune.Row, percent bool) usageRow {
	r := usageRow{
		Type: kind, TotalCount: row.Total, Active: row.Active,
		Size: units.HumanSize(float64(row.Size)), Reclaimable: units.HumanSize(float64(row.Reclaimable)),
	}
	if percent && row.Size > 0 {
		r.Reclaimable += fmt.Sprintf(" (%v%%)", row.Reclaimable*100/row.Size)
	}
	return r
}

// printUsageVerbose lists every image and every record of the build cache.
func printUsageVerbose(ctx context.Context, app *command.App, usage *prune.Usage) error {
	images, err := app.Images.List(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(app.Stdout, "Images space usage:\n\n")
	if err := printer.Images(formatter.ImageContext{Context: formatter.Context{
		Output: app.Stdout, Format: formatter.NewImageFormat(formatter.TableFormatKey, false, false), Trunc: true,
	}}, images, nil); err != nil {
		return err
	}
	fmt.Fprintf(app.Stdout, "\nBuild cache usage: %s\n\n", units.HumanSize(float64(usage.CacheSize)))
	w := tabwriter.NewWriter(app.Stdout, 10, 1, 3, ' ', 0)
	fmt.Fprintln(w, "CACHE ID\tDESCRIPTION\tLAST USED")
	for _, r := range usage.Records {
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.Key.Encoded()[:12], formatter.Ellipsis(r.Name, 60), r.Used.Format("2006-01-02 15:04:05"))
	}
	for _, m := range usage.Mounts {
		fmt.Fprintf(w, "%s\t%s\t%s\n", m.Name[:12], formatter.Ellipsis("cache mount "+m.ID, 60), m.Used.Format("2006-01-02 15:04:05"))
	}
	return w.Flush()
}
