package layer

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/layer/tree"
)

// verifyTree verifies a tree, once in this process, before a process runs on it. Contents are compared by Verify, and when they
// are copied.
func (l *Layers) verifyTree(ctx context.Context, id digest.Digest) error {
	if _, ok := l.verified.Load(id); ok {
		return nil
	}
	t, err := l.TOC(ctx, id)
	if err != nil {
		return err
	}
	if err := l.verifyStored(ctx, t, false); err != nil {
		return err
	}
	l.verified.Store(id, true)
	return nil
}

// verifyStored compares the tree of a layer with its table of contents.
func (l *Layers) verifyStored(ctx context.Context, t *toc.Table, contents bool) error {
	err := l.trees.Verify(ctx, l.path(t.DiffID), tree.Check{Table: t, Contents: contents, Replaceable: func() (bool, error) {
		blobs, err := l.blobs(t.DiffID)
		return len(blobs) > 0, err
	}})
	if err != nil {
		return fail(t.DiffID, err)
	}
	return nil
}
