package layer

import (
	"context"
	"runtime"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/view"
)

// indexOf returns the index of one layer, whiteouts included.
func (l *Layers) indexOf(ctx context.Context, id digest.Digest) (*index.Node, error) {
	t, err := l.TOC(ctx, id)
	if err != nil {
		return nil, err
	}
	root, err := index.FromTable(t)
	if err != nil {
		return nil, fail(id, err)
	}
	return root, nil
}

// merged returns the files of a chain, whose ChainIDs and those of all that it begins with are keys. The chains that were
// used last are remembered, since a build continues from one to the next; they share what they have in common.
func (l *Layers) merged(ctx context.Context, chain, keys []digest.Digest) (*index.Node, error) {
	known := len(chain)
	var root *index.Node
	for ; known > 0; known-- {
		if root = l.chains.get(keys[known-1]); root != nil {
			break
		}
	}
	behind := func(layer digest.Digest, name string) *view.Entry { return l.behind(ctx, layer, name) }
	layers := make([]*index.Node, len(chain)-known)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, id := range chain[known:] {
		g.Go(func() (err error) {
			defer crash.Recover(&err)
			layers[i], err = l.indexOf(gctx, id)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, upper := range layers {
		root = index.Merge(root, upper, behind)
		l.chains.add(keys[known+i], root)
	}
	return root, nil
}

// behind returns the directory that a name leads to through the symlinks of a layer, in that layer; nil for none.
func (l *Layers) behind(ctx context.Context, layer digest.Digest, name string) *view.Entry {
	root, err := l.merged(ctx, []digest.Digest{layer}, []digest.Digest{layer}) // the ChainID of one layer is its DiffID
	if err != nil {
		return nil
	}
	return behindIn(ctx, &chainView{layers: l, root: root}, name)
}

// behindIn is behind of the layer that own shows.
func behindIn(ctx context.Context, own view.View, name string) *view.Entry {
	real, err := view.Resolve(ctx, own, name, true)
	if err != nil {
		return nil
	}
	e, err := own.Lstat(ctx, real)
	if err != nil || !e.IsDir() {
		return nil
	}
	e = e.Clone()
	e.Path, e.Opaque = name, false
	return e
}
