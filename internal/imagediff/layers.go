package imagediff

import (
	"context"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/inspect"
)

// compareLayers lists the layers that both images have, and those that one has.
func compareLayers(ctx context.Context, a, b *inspect.Image, o Options, r *Report) error {
	type pair struct{ a, b *inspect.Layer }
	var pairs []pair
	var differ []*inspect.Layer
	id := func(l *inspect.Layer) digest.Digest { return l.DiffID }
	align(a.Layers, b.Layers, id, func(i, j int) {
		switch {
		case j < 0:
			pairs, differ = append(pairs, pair{a: a.Layers[i]}), append(differ, a.Layers[i])
		case i < 0:
			pairs, differ = append(pairs, pair{b: b.Layers[j]}), append(differ, b.Layers[j])
		default:
			pairs = append(pairs, pair{a.Layers[i], b.Layers[j]})
		}
	})
	if o.includes(sectionFiles) {
		if err := inParallel(ctx, differ, (*inspect.Layer).Look); err != nil {
			return err
		}
	}
	l := &LayersReport{Layers: []LayerChange{}}
	r.Layers = l
	for _, p := range pairs {
		var err error
		switch {
		case p.b == nil:
			err = l.add(ctx, Removed, &l.Removed, p.a)
		case p.a == nil:
			err = l.add(ctx, Added, &l.Added, p.b)
		default:
			if err = l.add(ctx, "", &l.Shared, p.a); err == nil {
				l.Layers[len(l.Layers)-1].setOtherBlob(p.b.Blob.Digest)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// maxParallel is how many layers are fetched or read at once.
const maxParallel = 4

// inParallel does something to layers, once to each.
func inParallel(ctx context.Context, layers []*inspect.Layer, do func(*inspect.Layer, context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxParallel)
	seen := map[digest.Digest]bool{}
	for _, l := range layers {
		if l.DiffID != "" && seen[l.DiffID] {
			continue
		}
		seen[l.DiffID] = true
		g.Go(crash.Guard(func() error { return do(l, ctx) }))
	}
	return g.Wait()
}

// add lists a layer, and fetches none.
func (r *LayersReport) add(ctx context.Context, change Change, sum *LayerSum, l *inspect.Layer) error {
	c := LayerChange{Change: change, DiffID: l.DiffID, CreatedBy: l.CreatedBy, Size: l.Blob.Size, Blob: l.Blob.Digest}
	if l.Stored() || l.Unverified() {
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
