package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"runtime"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/cli/cli/command/formatter/tabwriter"
	"github.com/docker/cli/templates"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/network"
	"github.com/micabuild/mica/internal/prune"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/userns"
)

// printTemplate prints one value by "json" or a template.
func printTemplate(app *App, format string, value any) error {
	if format == formatter.JSONFormatKey {
		format = formatter.JSONFormat
	}
	tmpl, err := templates.Parse(format)
	if err != nil {
		return &exitError{64, verbatim{fmt.Errorf("template parsing error: %w", err)}}
	}
	if err := tmpl.Execute(app.Stdout, value); err != nil {
		return &exitError{64, verbatim{fmt.Errorf("template parsing error: %w", err)}}
	}
	fmt.Fprintln(app.Stdout)
	return nil
}

type systemInfo struct {
	ServerVersion  string // under Docker's names, though there is no server
	DockerRootDir  string
	Images         int
	Driver         string
	DefaultRuntime string
	OSType         string
	Architecture   string
	NCPU           int
	Rootless       bool
	Network        string // of processes, where they ask for none: "own" or "host"
	NetworkReason  string `json:",omitempty"` // why it is the host's
	SingleID       bool
}

func newInfoCommand(app *App) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "info [OPTIONS]", Short: "Display system-wide information", Args: requireArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return runInfo(cmd.Context(), app, format) },
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", `Format output: "json" or a Go template`)
	return cmd
}

func runInfo(ctx context.Context, app *App, format string) error {
	if err := app.Open(ctx); err != nil {
		return err
	}
	images, err := app.Images.List(ctx)
	if err != nil && images == nil {
		return err
	}
	i := systemInfo{
		ServerVersion: version(), DockerRootDir: app.Store.Root(), Images: len(images), Driver: "overlay",
		OSType: runtime.GOOS, Architecture: runtime.GOARCH, NCPU: runtime.NumCPU(),
		Rootless: !userns.IsRealRoot(), SingleID: userns.Current().Single(), DefaultRuntime: "none",
	}
	i.Network = "own"
	if _, err := network.Find(userns.Current().Nested()); err != nil {
		i.Network, i.NetworkReason = "host", err.Error()
	}
	if path, err := sandbox.FindRuntime(""); err != nil {
		return err
	} else if path != "" {
		i.DefaultRuntime = filepath.Base(path)
	}
	if format != "" {
		return printTemplate(app, format, i)
	}
	w := tabwriter.NewWriter(app.Stdout, 0, 1, 1, ' ', 0)
	fmt.Fprintf(w, "mica version: %s\nImages: %d\nStore: %s\nStorage driver: %s\nOCI runtime: %s\nOS/Arch: %s/%s\nCPUs: %d\nRootless: %t\n",
		i.ServerVersion, i.Images, i.DockerRootDir, i.Driver, i.DefaultRuntime, i.OSType, i.Architecture, i.NCPU, i.Rootless)
	if i.NetworkReason == "" {
		fmt.Fprintln(w, "Network of processes: their own, by pasta")
	} else {
		fmt.Fprintf(w, "Network of processes: the host's: %s\n", i.NetworkReason)
	}
	if i.SingleID {
		fmt.Fprintln(w, "User ids: only your own; add ranges to /etc/subuid and /etc/subgid to keep the owners of files")
	}
	return w.Flush()
}

func newSystemDfCommand(app *App) *cobra.Command {
	var format string
	var verbose bool
	cmd := &cobra.Command{
		Use: "df [OPTIONS]", Short: "Show disk usage", Args: requireArgs(0, 0),
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

func runSystemDf(ctx context.Context, app *App, format string, verbose bool) error {
	if err := app.Open(ctx); err != nil {
		return err
	}
	usage, err := app.pruner().Usage(ctx)
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
		if err := printTemplate(app, format, r); err != nil {
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
func printUsageVerbose(ctx context.Context, app *App, usage *prune.Usage) error {
	images, err := app.Images.List(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(app.Stdout, "Images space usage:\n\n")
	if err := writeImages(formatter.ImageContext{Context: formatter.Context{
		Output: app.Stdout, Format: formatter.NewImageFormat(formatter.TableFormatKey, false, false), Trunc: true,
	}}, images); err != nil {
		return err
	}
	fmt.Fprintf(app.Stdout, "\nBuild cache usage: %s\n\n", units.HumanSize(float64(usage.CacheSize)))
	w := tabwriter.NewWriter(app.Stdout, 10, 1, 3, ' ', 0)
	fmt.Fprintln(w, "CACHE ID\tDESCRIPTION\tLAST USED")
	for _, r := range usage.Records {
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.Key.Encoded()[:12], ellipsis(r.Name, 60), r.Used.Format("2006-01-02 15:04:05"))
	}
	for _, m := range usage.Mounts {
		fmt.Fprintf(w, "%s\t%s\t%s\n", m.Name[:12], ellipsis("cache mount "+m.ID, 60), m.Used.Format("2006-01-02 15:04:05"))
	}
	return w.Flush()
}
