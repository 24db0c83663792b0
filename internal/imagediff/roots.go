package imagediff

import (
	"context"
	"slices"

	"github.com/micabuild/mica/internal/inspect"
	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/view"
)

// roots reads the files of two images. Layers that both begin with, and that would have to be fetched, are left out if the layers above
// them tell all differences.
func roots(ctx context.Context, a, b *inspect.Image) (rootA, rootB *index.Node, err error) {
	shared := commonLayers(a, b)
	// If one image continues the other, few digests are needed.
	if shared < len(a.Layers) && shared < len(b.Layers) {
		if err := inParallel(ctx, slices.Concat(a.Layers[shared:], b.Layers[shared:]), (*inspect.Layer).AddDigests); err != nil {
			return nil, nil, err
		}
	}
	from := 0
	if slices.ContainsFunc(a.Layers[:shared], func(l *inspect.Layer) bool { return !l.Stored() }) {
		same, err := sameNames(ctx, a.Layers[shared:], b.Layers[shared:])
		if err != nil {
			return nil, nil, err
		}
		if same {
			from = shared
		}
	}
	if rootA, err = a.FilesFrom(ctx, from); err != nil {
		return nil, nil, err
	}
	rootB, err = b.FilesFrom(ctx, from)
	return rootA, rootB, err
}

// commonLayers is how many layers both images begin with.
func commonLayers(a, b *inspect.Image) int {
	n := 0
	for n < len(a.Layers) && n < len(b.Layers) && a.Layers[n].DiffID != "" && a.Layers[n].DiffID == b.Layers[n].DiffID {
		n++
	}
	return n
}

// sameNames reports whether two lists of layers make the same names, and remove none. Then, on the same layers below, all that the lists do not
// make is the same.
func sameNames(ctx context.Context, a, b []*inspect.Layer) (bool, error) {
	namesA, ok, err := names(ctx, a)
	if err != nil || !ok {
		return false, err
	}
	namesB, ok, err := names(ctx, b)
	if err != nil || !ok || len(namesA) != len(namesB) {
		return false, err
	}
	for name, isDir := range namesA {
		if other, ok := namesB[name]; !ok || other != isDir {
			return false, nil
		}
	}
	return true, nil
}

// names returns the names that layers make, and which of them are directories; ok is false if they remove names, or make one twice of
// different kinds.
func names(ctx context.Context, layers []*inspect.Layer) (all map[string]bool, ok bool, err error) {
	all = map[string]bool{}
	for _, l := range layers {
		t, err := l.Table(ctx)
		if err != nil {
			return nil, false, err
		}
		for i, e := range t.Entries {
			before, twice := all[e.Path]
			if e.Type == view.TypeWhiteout || e.Opaque || t.Places[i].Implied || twice && before != e.IsDir() {
				return nil, false, nil
			}
			all[e.Path] = e.IsDir()
		}
	}
	return all, true, nil
}
