package layer

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/view"
)

// Foreign is a layer that is not in the store.
type Foreign interface {
	// Files returns the root of the files of the layer alone, whiteouts included. They have digests.
	Files() (*index.Node, error)
	// Open opens a regular file.
	Open(ctx context.Context, n *index.Node) (io.ReadCloser, error)
}

// FilesWith is Files of a chain of which some layers are not in the store. Nothing of these is remembered.
func (l *Layers) FilesWith(ctx context.Context, chain []digest.Digest, foreign map[digest.Digest]Foreign) (*index.Node, error) {
	root, err := l.mergedWith(ctx, chain, foreign)
	if root == nil {
		root = &index.Node{Entry: index.ImpliedDir(".")}
	}
	return root, err
}

// ViewWith is View of a chain of which some layers are not in the store.
func (l *Layers) ViewWith(ctx context.Context, chain []digest.Digest, foreign map[digest.Digest]Foreign) (view.View, error) {
	root, err := l.FilesWith(ctx, chain, foreign)
	if err != nil {
		return nil, err
	}
	return &chainView{layers: l, root: root, foreign: foreign}, nil
}

// mergedWith returns the files of a chain, nil of an empty one.
func (l *Layers) mergedWith(ctx context.Context, chain []digest.Digest, foreign map[digest.Digest]Foreign) (root *index.Node, err error) {
	behind := func(id digest.Digest, name string) *view.Entry {
		if foreign[id] == nil {
			return l.behind(ctx, id, name)
		}
		own, err := l.mergedWith(ctx, []digest.Digest{id}, foreign)
		if err != nil {
			return nil
		}
		return behindIn(ctx, &chainView{layers: l, root: own, foreign: foreign}, name)
	}
	for _, id := range chain {
		var upper *index.Node
		if f := foreign[id]; f == nil {
			upper, err = l.indexOf(ctx, id)
		} else if upper, err = f.Files(); err != nil {
			err = fail(id, err)
		}
		if err != nil {
			return nil, err
		}
		root = index.Merge(root, upper, behind)
	}
	return root, nil
}
