package imagediff

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/inspect"
)

// compareLayers lists the layers that both images have, and those that one has.
func compareLayers(ctx context.Context, a, b *inspect.Image, _ Options, r *Report) (err error) {
	l := &LayersReport{Layers: []LayerChange{}}
	id := func(l *inspect.Layer) digest.Digest { return l.DiffID }
	align(a.Layers, b.Layers, id, func(i, j int) {
		if err != nil {
			return
		}
		switch {
		case j < 0:
			err = l.add(ctx, Removed, &l.Removed, a.Layers[i])
		case i < 0:
			err = l.add(ctx, Added, &l.Added, b.Layers[j])
		default:
			if err = l.add(ctx, "", &l.Shared, a.Layers[i]); err == nil {
				l.Layers[len(l.Layers)-1].setOtherBlob(b.Layers[j].Blob.Digest)
			}
		}
	})
	r.Layers = l
	return err
}

func (r *LayersReport) add(ctx context.Context, change Change, sum *LayerSum, l *inspect.Layer) error {
	c := LayerChange{Change: change, DiffID: l.DiffID, CreatedBy: l.CreatedBy, Size: l.Blob.Size, Blob: l.Blob.Digest}
	if change != "" || l.Stored() {
		size, err := l.Size(ctx)
		if err != nil {
			return err
		}
		c.Size = size
	}
	sum.Count++
	sum.Size += c.Size
	r.Layers = append(r.Layers, c)
	return nil
}

func (c *LayerChange) setOtherBlob(d digest.Digest) {
	if d != c.Blob && d != "" && c.Blob != "" {
		c.OtherBlob = d
	}
}
