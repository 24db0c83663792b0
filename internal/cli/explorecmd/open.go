package explorecmd

import (
	"context"
	"io"

	"github.com/micabuild/mica/internal/analyze"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/layer/toc"
)

// open opens an image of the store. done lets it be removed again.
func open(ctx context.Context, app *command.App, ref string) (_ *analyze.Image, done func(), err error) {
	if err := app.Open(ctx); err != nil {
		return nil, nil, err
	}
	img, err := app.Images.Find(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	lock, err := app.Images.Hold(ctx, img)
	if err != nil {
		return nil, nil, err
	}
	out := &analyze.Image{Name: ref, ID: img.ID, Config: img.Config}
	for _, id := range img.Chain() {
		size, err := app.Layers.Size(id)
		if err != nil {
			_ = lock.Unlock()
			return nil, nil, err
		}
		out.Layers = append(out.Layers, analyze.Layer{
			DiffID: id,
			Size:   size,
			Table:  func(ctx context.Context) (*toc.Table, error) { return app.Layers.TOC(ctx, id) },
			Read: func(ctx context.Context, paths []string, visit func(string, io.Reader) error) error {
				return app.Layers.ReadFiles(ctx, id, paths, visit)
			},
		})
	}
	return out, func() { _ = lock.Unlock() }, nil
}
