package inspect

import (
	"context"

	"github.com/micabuild/mica/internal/analyze"
)

// Analyzed is the image as package analyze takes it. Layers that the store does not have are fetched when their files are asked for.
func (i *Image) Analyzed(ctx context.Context) (*analyze.Image, error) {
	out := &analyze.Image{Name: i.Name, ID: i.ID, Config: i.Config, AddDigests: i.AddDigests}
	for _, l := range i.Layers {
		part := analyze.Layer{DiffID: l.DiffID, Size: -1, List: l.List, Read: l.ReadFiles}
		if l.Stored() {
			var err error
			if part.Size, err = l.Size(ctx); err != nil {
				return nil, err
			}
		}
		out.Layers = append(out.Layers, part)
	}
	return out, nil
}
