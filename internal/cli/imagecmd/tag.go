package imagecmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/image"
)

// NewTagCommand is `mica tag`.
func NewTagCommand(app *command.App) *cobra.Command {
	return &cobra.Command{
		Use:               "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
		Short:             "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
		Args:              command.RequireArgs(2, 2),
		ValidArgsFunction: app.CompleteImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runTag(cmd.Context(), app, args[0], args[1])
		},
	}
}

func runTag(ctx context.Context, app *command.App, source, target string) (err error) {
	if _, err := image.ParseName(target); err != nil {
		return invalidName(target, err)
	}
	if err := app.Open(ctx); err != nil {
		return err
	}
	use, err := app.Store.Use(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, use.End()) }()
	img, err := app.Images.Find(ctx, source)
	if err != nil {
		var invalid *image.InvalidReferenceError
		if errors.As(err, &invalid) {
			return invalidName(source, invalid.Err)
		}
		return err
	}
	return app.Images.Tag(ctx, img, target)
}

// invalidName is the error for a name that cannot be parsed, in docker's words.
func invalidName(name string, err error) error {
	return command.Verbatim{Err: fmt.Errorf("error parsing reference: %q is not a valid repository/tag: %w", name, err)}
}
