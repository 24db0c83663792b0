package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/image"
)

func newTagCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
		Short: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
		Args:  requireArgs(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runTag(cmd.Context(), app, args[0], args[1])
		},
	}
}

func runTag(ctx context.Context, app *App, source, target string) (err error) {
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
	return verbatim{fmt.Errorf("Error parsing reference: %q is not a valid repository/tag: %w", name, err)}
}
