package explorecmd

import (
	"context"
	"errors"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/analyze"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/inspect"
	"github.com/micabuild/mica/internal/view"
)

// open opens an image, wherever it is. The caller closes it.
func open(ctx context.Context, app *command.App, name string, platform *ocispec.Platform) (*inspect.Image, error) {
	if err := app.Open(ctx); err != nil {
		return nil, err
	}
	o := &inspect.Opener{Local: app.Local(), Registry: app.Registry, Platform: platform}
	return o.Open(ctx, name)
}

// analyzed is an image as it is analyzed.
func analyzed(ctx context.Context, app *command.App, img *inspect.Image) (*analyze.Image, error) {
	out := &analyze.Image{Name: img.Name, ID: img.ID, Config: img.Config, AddDigests: img.AddDigests}
	for _, l := range img.Layers {
		layer := analyze.Layer{DiffID: l.DiffID, Size: -1, List: l.List, Read: reader(app, l)}
		if l.Stored() {
			var err error
			if layer.Size, err = l.Size(ctx); err != nil {
				return nil, err
			}
		}
		out.Layers = append(out.Layers, layer)
	}
	return out, nil
}

// reader reads files of a layer. Those of a directory of the host are in no layer of the store.
func reader(app *command.App, l *inspect.Layer) func(context.Context, []string, func(string, io.Reader) error) error {
	return func(ctx context.Context, paths []string, visit func(string, io.Reader) error) error {
		if l.DiffID != "" {
			return app.Layers.ReadFiles(ctx, l.DiffID, paths, visit)
		}
		files, err := l.View(ctx)
		if err != nil {
			return err
		}
		for _, p := range paths {
			if err := visitOne(ctx, files, p, visit); err != nil {
				return err
			}
		}
		return nil
	}
}

func visitOne(ctx context.Context, files view.View, path string, visit func(string, io.Reader) error) (err error) {
	f, err := files.Open(ctx, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return visit(path, f)
}
