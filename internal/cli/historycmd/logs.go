package historycmd

import (
	"context"
	"errors"
	"fmt"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/progress"
	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/recorder"
)

func newLogsCommand(app *command.App) *cobra.Command {
	var mode string
	cmd := &cobra.Command{
		Use:               "logs [OPTIONS] [BUILD]",
		Short:             "Print the progress of a build",
		Long:              "Print the progress of a build, with what its steps wrote, and why they ran." + newest,
		Args:              command.RequireArgs(0, 1),
		ValidArgsFunction: complete(app),
		RunE: func(cmd *cobra.Command, args []string) error {
			builds, b, err := find(cmd.Context(), app, args)
			if err != nil {
				return err
			}
			return printLogs(cmd.Context(), app, builds, b, mode)
		},
	}
	cmd.Flags().StringVar(&mode, "progress", "plain", "Set type of progress output (plain, rawjson)")
	return cmd
}

// printLogs shows a recorded build as its progress display did.
func printLogs(ctx context.Context, app *command.App, builds *history.Builds, b *history.Build, mode string) error {
	if mode != "plain" && mode != "rawjson" {
		return &command.UsageError{Err: fmt.Errorf("invalid progress mode %q: use plain or rawjson", mode)}
	}
	ui, err := progressui.NewDisplay(app.Stdout, progressui.DisplayMode(mode))
	if err != nil {
		return fmt.Errorf("show the progress of build %s: %w", b.Ref, err)
	}
	ch := make(chan *bkclient.SolveStatus)
	shown := make(chan error, 1)
	go func() {
		_, err := ui.UpdateFrom(ctx, ch)
		for range ch { // the sender does not wait
			continue
		}
		shown <- err
	}()
	err = replay(builds, b, func(st *bkclient.SolveStatus) { ch <- st })
	close(ch)
	return errors.Join(err, <-shown)
}

// replay sends the events of a recorded build, with notes as output of their steps.
func replay(builds *history.Builds, b *history.Build, send func(*bkclient.SolveStatus)) error {
	return recorder.Replay(builds, b, func(st *bkclient.SolveStatus) { send(progress.Plain(st)) })
}
