package imagecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/transfer"
)

// NewLoadCommand is `mica load`.
func NewLoadCommand(app *command.App) *cobra.Command {
	var input string
	var platforms []string
	cmd := &cobra.Command{
		Use:   "load [OPTIONS]",
		Short: "Load an image from a tar archive or STDIN",
		Args:  command.RequireArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runLoad(cmd.Context(), app, input, platforms)
		},
	}
	cmd.Flags().StringVarP(&input, "input", "i", "", "Read from tar archive file, instead of STDIN")
	cmd.Flags().BoolP("quiet", "q", false, "Suppress the load output")
	cmd.Flags().StringSliceVar(&platforms, "platform", nil, `Load only the given platform(s) (e.g., "linux/amd64,linux/arm64/v8")`)
	return cmd
}

func runLoad(ctx context.Context, app *command.App, input string, platforms []string) error {
	wanted, _, err := command.ParsePlatforms(platforms)
	if err != nil {
		return err
	}
	in, closeInput, err := openInput(ctx, app, input, "load")
	if err != nil {
		return err
	}
	defer closeInput()
	if err := app.Open(ctx); err != nil {
		return err
	}
	loaded, err := load(ctx, app, in, wanted)
	if err != nil {
		// The layers that were stored are garbage now.
		return errors.Join(err, app.Collect(context.WithoutCancel(ctx)))
	}
	for _, l := range loaded {
		for name, old := range l.Replaced {
			fmt.Fprintf(app.Stdout, "The image %s already exists, renaming the old one with ID %s to empty string\n", name, old)
		}
		for _, n := range l.Names {
			fmt.Fprintln(app.Stdout, "Loaded image: "+n)
		}
		if len(l.Names) == 0 {
			fmt.Fprintln(app.Stdout, "Loaded image ID: "+l.ID.String())
		}
	}
	return nil
}

func load(ctx context.Context, app *command.App, in io.Reader, wanted []ocispec.Platform) (_ []transfer.Loaded, err error) {
	use, err := app.Store.Use(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, use.End()) }()
	return app.Local().Load(ctx, in, wanted...)
}

// openInput opens a file, or stdin for "" unless that is a terminal.
func openInput(ctx context.Context, app *command.App, path, verb string) (io.Reader, func(), error) {
	if path == "" {
		if command.IsTerminal(app.Stdin) {
			return nil, nil, fmt.Errorf("requested %s from stdin, but stdin is empty", verb)
		}
		return app.Input(ctx), func() {}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		_ = f.Close()
		return nil, nil, fmt.Errorf("%s is a directory, not an archive", path)
	}
	return f, func() { _ = f.Close() }, nil
}
