// Package imagecmd has the commands that work with images in the store: they list, show, name, remove, save and load them.
package imagecmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/opencontainers/go-digest"
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
			shown, err := runImages(cmd.Context(), app, &f)
			if shown == 0 && err == nil && len(args) > 0 && cmd.CalledAs() == "images" {
				hintSubcommand(app, args[0])
			}
			return err
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.all, "all", "a", false, "Show all images (default hides dangling images)")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "Only show image IDs")
	fl.BoolVar(&f.noTrunc, "no-trunc", false, "Don't truncate output")
	fl.BoolVar(&f.digests, "digests", false, "Show digests")
	fl.BoolVar(&f.tree, "tree", false, "Show the layers of each image")
	fl.VarP(&f.filters, "filter", "f", "Filter output based on conditions provided")
	fl.StringVar(&f.format, "format", "", `Format output: "table", "table TEMPLATE", "json" or a Go template`)
	return cmd
}

// runImages lists images and returns how many.
func runImages(ctx context.Context, app *command.App, f *imagesFlags) (int, error) {
	if f.tree && (f.quiet || f.format != "" || f.digests) {
		return 0, errors.New("--tree cannot be combined with --quiet, --format or --digests")
	}
	if err := app.Open(ctx); err != nil {
		return 0, err
	}
	filter, err := app.Images.NewFilter(ctx, f.filters, "dangling", "label", "before", "since", "reference", "until")
	if err != nil {
		return 0, err
	}
	images, err := app.Images.List(ctx)
	if err != nil && images == nil {
		return 0, err
	}
	shown := f.match(filter, images)
	if f.tree {
		return len(shown), errors.Join(printTree(ctx, app, shown, f.noTrunc), err)
	}
	out := formatter.ImageContext{
		Context: formatter.Context{
			Output: app.Stdout, Format: formatter.NewImageFormat(f.table(app), f.quiet, f.digests), Trunc: !f.noTrunc,
		},
		Digest: f.digests,
	}
	used, usedErr := containers(app, string(out.Format), shown)
	return len(shown), errors.Join(printer.Images(out, shown, used), err, usedErr)
}

// containers counts the containers of each image, where a format may show them. The store knows of each only whether it has any.
func containers(app *command.App, format string, images []*image.Image) (map[digest.Digest]int64, error) {
	used := map[digest.Digest]int64{}
	if !strings.Contains(format, ".Containers") && !strings.Contains(format, "json") {
		return used, nil
	}
	for _, img := range images {
		running, err := app.Images.InUse(img)
		if err != nil {
			return used, err
		}
		if running {
			used[img.ID] = 1
		}
	}
	return used, nil
}

// match returns the images that the flags select. Those without a tag are hidden where neither -a nor a filter asks for them.
func (f *imagesFlags) match(filter *image.Filter, images []*image.Image) (shown []*image.Image) {
	tagged := !f.all && !slices.ContainsFunc(f.filters, func(s string) bool { return strings.HasPrefix(s, "dangling=") })
	for _, img := range images {
		names, ok := filter.Match(img)
		if !ok || tagged && len(names) == 0 {
			continue
		}
		img.Names = names
		shown = append(shown, img)
	}
	return shown
}

// table is the format: that of the flag, or of docker's configuration, or the table.
func (f *imagesFlags) table(app *command.App) string {
	switch {
	case f.format != "":
		return f.format
	case f.quiet:
		return formatter.TableFormatKey
	}
	return cmp.Or(app.DockerConfig().ImagesFormat, formatter.TableFormatKey)
}

// hintSubcommand tells those who look for images with the name of a command of the group that they may mean the command.
func hintSubcommand(app *command.App, name string) {
	switch name {
	case "build", "history", "import", "inspect", "list", "load", "ls", "prune", "pull", "push", "rm", "save", "tag":
		fmt.Fprintf(app.Stderr, "No images found matching %q: did you mean \"mica image %[1]s\"?\n", name)
	}
}
