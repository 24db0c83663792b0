package explorecmd

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/analyze"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/inspect"
)

// newOpener returns what opens images, wherever they are.
func newOpener(ctx context.Context, app *command.App, platform *ocispec.Platform) (*inspect.Opener, error) {
	if err := app.Open(ctx); err != nil {
		return nil, err
	}
	return &inspect.Opener{Local: app.Local(), Registry: app.Registry, Platform: platform}, nil
}

// analyzed is an image as it is analyzed.
func analyzed(ctx context.Context, img *inspect.Image) (*analyze.Image, error) {
	out := &analyze.Image{Name: img.Name, ID: img.ID, Config: img.Config, AddDigests: img.AddDigests}
	for _, l := range img.Layers {
		layer := analyze.Layer{DiffID: l.DiffID, Size: -1, List: l.List, Read: l.ReadFiles}
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
