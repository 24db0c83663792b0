package explorecmd

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

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
