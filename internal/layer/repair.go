package layer

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/layer/convert"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/store"
)

// repairTOC makes a damaged table of contents again from what there is of the layer. It reads nothing of the layer in a way that
// repairs in turn.
func (l *Layers) repairTOC(ctx context.Context, id digest.Digest) (*toc.Table, error) {
	lock, err := l.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Unlock() }()
	if t, err := l.loadTOC(id); err == nil || !errors.Is(err, toc.ErrDamaged) {
		return t, err // another process was first
	}
	file, err := l.rebuildTOC(ctx, id)
	if err != nil {
		return nil, fail(id, fmt.Errorf("%w, and cannot be made again: %w", toc.ErrDamaged, err))
	}
	return l.storeTOC(id, file, l.store.WriteFileAtomic)
}

// rebuildTOC makes a table of contents from the tree or from a blob.
func (l *Layers) rebuildTOC(ctx context.Context, id digest.Digest) ([]byte, error) {
	blobs, err := l.blobs(id)
	if err != nil {
		return nil, err
	}
	if l.unpacked(id) {
		// A tree that mica made gives the richer table: the tar can be written again from it.
		file, sum, err := l.recordStored(ctx, id)
		if err == nil && sum.DiffID == id {
			return file, nil
		}
		if len(blobs) == 0 {
			return nil, errors.Join(err, fmt.Errorf("its tree is not that layer's: %w", store.ErrDamaged))
		}
	}
	if len(blobs) == 0 {
		return nil, fmt.Errorf("%w: it has neither a blob nor a tree", store.ErrDamaged)
	}
	return l.parseBlob(ctx, id, blobs)
}

// recordStored is recordTree of a layer's own tree.
func (l *Layers) recordStored(ctx context.Context, id digest.Digest) ([]byte, toc.Summary, error) {
	t, err := l.trees.Open(l.path(id))
	if err != nil {
		return nil, toc.Summary{}, err
	}
	defer t.Close()
	return recordTree(ctx, t)
}

// recordTree hashes the tar of a tree and returns the table of contents.
func recordTree(ctx context.Context, t tree.Tree) ([]byte, toc.Summary, error) {
	r, err := convert.FromTree(ctx, t)
	if err != nil {
		return nil, toc.Summary{}, err
	}
	id, err := r.DiffID(ctx)
	if err != nil {
		return nil, toc.Summary{}, err
	}
	file, sum := r.Table(id)
	return file, sum, nil
}

// parseBlob makes the table of contents from a blob, with all digests.
func (l *Layers) parseBlob(ctx context.Context, id digest.Digest, blobs []ocispec.Descriptor) ([]byte, error) {
	tar, err := l.openBlobTar(ctx, id, blobs)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tar.Close() }()
	parsed, err := convert.Parse(ctx, tar)
	if err != nil {
		return nil, err
	}
	file, _ := parsed.Finish(id)
	return file, nil
}
