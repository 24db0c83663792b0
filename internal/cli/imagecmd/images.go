// Package imagecmd has the commands that work with images in the store: they list, show, name, remove, save and load them.
package imagecmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/printer"
	"github.com/micabuild/mica/internal/image"
)

type imagesFlags struct {
	all, quiet, noTrunc, digests, tree bool
	filters                            command.FilterFlag
	format                             string
}

// NewImagesCommand is `mica images`.
func NewImagesCommand(app *command.App) *cobra.Command {
	var f imagesFlags
	cmd := &cobra.Command{
		Use:   "images [OPTIONS] [REPOSITORY[:TAG]]",
		Short: "List images",
		Args:  command.RequireArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				f.filters = append(f.filters, "reference="+args[0])
			}
			return runImages(cmd.Context(), app, &f)
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.all, "all", "a", false, "Show all images (mica has no intermediate ones: the same list)")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "Only show image IDs")
	fl.BoolVar(&f.noTrunc, "no-trunc", false, "Don't truncate output")
	fl.BoolVar(&f.digests, "digests", false, "Show digests")
	fl.BoolVar(&f.tree, "tree", false, "Show the layers of each image")
	fl.VarP(&f.filters, "filter", "f", "Filter output based on conditions provided")
	fl.StringVar(&f.format, "format", "", `Format output: "table", "table TEMPLATE", "json" or a Go template`)
	return cmd
}

func runImages(ctx context.Context, app *command.App, f *imagesFlags) error {
	if f.tree && (f.quiet || f.format != "" || f.digests) {
		return fmt.Errorf("--tree cannot be combined with --quiet, --format or --digests")
	}
	if err := app.Open(ctx); err != nil {
		return err
	}
	filter, err := app.Images.NewFilter(ctx, f.filters, "dangling", "label", "before", "since", "reference", "until")
	if err != nil {
		return err
	}
	images, err := app.Images.List(ctx)
	if err != nil && images == nil {
		return err
	}
	var shown []*image.Image
	for _, img := range images {
		if names, ok := filter.Match(img); ok {
			img.Names = names
			shown = append(shown, img)
		}
	}
	if f.tree {
		return errors.Join(printTree(ctx, app, shown, f.noTrunc), err)
	}
	if f.format == "" {
		f.format = formatter.TableFormatKey
	}
	out := formatter.ImageContext{
		Context: formatter.Context{
			Output: app.Stdout, Format: formatter.NewImageFormat(f.format, f.quiet, f.digests), Trunc: !f.noTrunc,
		},
		Digest: f.digests,
	}
	return errors.Join(printer.Images(out, shown), err)
}
