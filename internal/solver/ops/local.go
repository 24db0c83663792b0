package ops

import (
	"context"
	"path"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/view"
)

// contents selects what a directory contains.
func contents() view.CopyOptions { return view.CopyOptions{DirCopyContents: true, FollowSymlink: true} }

// asLayers turns a local source into a layer, of just the selected path.
func (w *Worker) asLayers(ctx context.Context, r *solver.Result, selector string) (*solver.Result, error) {
	if r.Local == nil {
		return r, nil
	}
	o := view.NewOverlay(view.Empty())
	src := path.Join("/", selector)
	opt := contents()
	opt.CreateDestPath = true
	if err := o.Copy(ctx, r.Local, src, src, opt); err != nil {
		return nil, missing(err, src, false)
	}
	changes, err := o.Changes(ctx)
	if err != nil {
		return nil, err
	}
	form := layer.AsBlob
	if w.WantsTrees() {
		form = layer.AsTree
	}
	l, err := w.Layers.Write(ctx, changes, form)
	if err != nil {
		return nil, err
	}
	return &solver.Result{Chain: buildcache.NewChain(buildcache.Link{DiffID: l.DiffID})}, nil
}

// allAsLayers turns local sources among results into layers.
func (w *Worker) allAsLayers(ctx context.Context, results ...*solver.Result) ([]*solver.Result, error) {
	list := make([]*solver.Result, len(results))
	for i, r := range results {
		var err error
		if list[i], err = w.asLayers(ctx, r, "/"); err != nil {
			return nil, err
		}
	}
	return list, nil
}
