package explorecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/analyze"
	"github.com/micabuild/mica/internal/analyze/filetree"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/explore"
	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/inspect"
)

// NewExploreCommand is `mica explore`.
func NewExploreCommand(app *command.App) *cobra.Command {
	var platform string
	cmd := &cobra.Command{
		Use:   "explore [OPTIONS] IMAGE [IMAGE]",
		Short: "Look through the layers and files of an image in the terminal",
		Long: "Look through the layers and files of an image in the terminal, or compare two images.\n\n" +
			"An image is one of the store, a name in a registry, an archive, an OCI layout, a build of `mica builds`, a layer, or a directory.",
		Args:              command.RequireArgs(1, 2),
		ValidArgsFunction: app.CompleteImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runExplore(cmd.Context(), app, platform, args)
		},
	}
	cmd.Flags().StringVar(&platform, "platform", "", "Platform to show if an image has several (default: this host's)")
	return cmd
}

func runExplore(ctx context.Context, app *command.App, platformName string, names []string) (err error) {
	if !app.Stdout.IsTerminal() || !command.IsTerminal(app.Stdin) {
		return errors.New("explore needs a terminal for input and output: use `mica analyze` or `mica diff` elsewhere")
	}
	if os.Getenv("TERM") == "dumb" {
		return errors.New("explore needs a terminal whose cursor moves, and TERM is dumb: use `mica analyze` or `mica diff`")
	}
	platform, err := command.ParsePlatform(platformName)
	if err != nil {
		return err
	}
	opener, err := newOpener(ctx, app, platform)
	if err != nil {
		return err
	}
	var images []*explore.Image
	var opened []*inspect.Image
	for _, name := range names {
		img, openErr := opener.Open(ctx, name)
		if openErr != nil {
			return openErr
		}
		defer func() { err = errors.Join(err, img.Close()) }()
		opened = append(opened, img)
	}
	for _, img := range opened {
		shown, err := exploreImage(ctx, app, img)
		if err != nil {
			return err
		}
		load, digested := shown.Load, ownLayers(img, opened)
		shown.Load = func(ctx context.Context) (*filetree.Tree, error) {
			for _, l := range digested {
				if err := l.AddDigests(ctx); err != nil {
					return nil, err
				}
			}
			return load(ctx)
		}
		images = append(images, shown)
	}
	if err := explore.Run(ctx, images...); !errors.Is(err, explore.ErrHangup) {
		return err
	}
	return &command.ExitError{Code: 128 + int(syscall.SIGHUP)} // nobody is there to read an error
}

// ownLayers are the layers that an image does not share with another that it is compared with: the digests of their files are
// needed.
func ownLayers(img *inspect.Image, opened []*inspect.Image) (own []*inspect.Layer) {
	for _, other := range opened {
		if other == img {
			continue
		}
		shared := other.Chain()
		for i, l := range img.Layers {
			if i >= len(shared) || l.DiffID != shared[i] {
				own = append(own, img.Layers[i:]...)
				break
			}
		}
	}
	return own
}

// exploreImage is an image as it is explored. Its files are not read yet.
func exploreImage(ctx context.Context, app *command.App, img *inspect.Image) (*explore.Image, error) {
	out := &explore.Image{Name: img.Name, ID: img.ID.String(), Build: buildOf(app, img)}
	for _, l := range img.Layers {
		shown := explore.Layer{
			DiffID: l.DiffID.String(), Size: l.Blob.Size, Compressed: true,
			Command: analyze.Instruction(analyze.MaskText(l.CreatedBy)),
		}
		if l.Stored() {
			size, err := l.Size(ctx)
			if err != nil {
				return nil, err
			}
			shown.Size, shown.Compressed = size, false
		}
		out.Layers = append(out.Layers, shown)
	}
	in, err := img.Analyzed(ctx)
	if err != nil {
		return nil, err
	}
	out.Load = func(ctx context.Context) (*filetree.Tree, error) { return analyze.Load(ctx, in) }
	out.Analyze = func(ctx context.Context, tree *filetree.Tree) (*analyze.Report, error) {
		return analyze.FromTree(ctx, in, tree, analyze.Options{Top: 1000})
	}
	out.Open = func(ctx context.Context, layer int, path string) (io.ReadCloser, error) {
		return openFile(ctx, img, layer, path)
	}
	return out, nil
}

// openFile opens a file as it is with the layers up to one: the highest of them that has the path has its content.
func openFile(ctx context.Context, img *inspect.Image, layer int, path string) (io.ReadCloser, error) {
	if layer >= len(img.Layers) || layer < 0 {
		layer = len(img.Layers) - 1
	}
	for i := layer; i >= 0; i-- {
		v, err := img.Layers[i].Browse(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := v.Lstat(ctx, path); err == nil {
			return v.Open(ctx, path)
		}
	}
	return nil, fmt.Errorf("%s is in no layer of %s", path, img.Name)
}

// buildOf is the newest build that made an image, nil if none is remembered.
func buildOf(app *command.App, img *inspect.Image) *history.Build {
	builds := history.Open(app.Store)
	if img.Build != "" {
		if b, err := builds.Find(img.Build); err == nil {
			return b
		}
	}
	list, err := builds.List()
	if err != nil || img.Target.Digest == "" {
		return nil
	}
	for _, b := range list {
		if b.Image == img.Root.Digest || b.Image == img.Target.Digest {
			return b
		}
	}
	return nil
}
