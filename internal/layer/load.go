package layer

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/layer/convert"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/store"
)

// TOC loads a layer's table of contents, verified. A damaged one is made again: from a pack if there is one, from the
// tree if its tar has the layer's DiffID.
func (l *Layers) TOC(ctx context.Context, id digest.Digest) (*toc.Table, error) {
	t, err := l.loadTOC(id)
	if errors.Is(err, toc.ErrDamaged) {
		return l.remakeTOC(ctx, id)
	}
	return t, err
}

func (l *Layers) loadTOC(id digest.Digest) (*toc.Table, error) {
	if err := validID(id); err != nil {
		return nil, err
	}
	file, err := os.ReadFile(l.path(id, tocFile))
	if err != nil {
		return nil, l.tocError(id, err)
	}
	t, err := toc.Decode(file, id)
	if err != nil {
		return nil, fail(id, err)
	}
	return t, nil
}

// remakeTOC replaces a damaged table of contents.
func (l *Layers) remakeTOC(ctx context.Context, id digest.Digest) (*toc.Table, error) {
	lock, err := l.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Unlock() }()
	if t, err := l.loadTOC(id); err == nil || !errors.Is(err, toc.ErrDamaged) {
		return t, err // another process was first
	}
	temp, err := l.store.TempDir("toc")
	if err != nil {
		return nil, err
	}
	defer func() { _ = temp.Remove() }()
	d := &draft{temp: temp}
	if err := l.readAgain(ctx, id, d); err != nil {
		return nil, fail(id, fmt.Errorf("%w, and cannot be made again: %w", toc.ErrDamaged, err))
	}
	if err := l.store.WriteFileAtomic(l.path(id, tocFile), d.toc); err != nil {
		return nil, fail(id, err)
	}
	l.heads.Delete(id)
	return l.loadTOC(id)
}

// readAgain makes the table of contents out of what there is of the layer.
func (l *Layers) readAgain(ctx context.Context, id digest.Digest, d *draft) error {
	packs, err := l.packs(id)
	if err != nil {
		return err
	}
	if l.unpacked(id) {
		// A tree that mica made gives the richer table: the layer can be packed from it.
		if err := l.recordStored(ctx, id, d); err == nil && d.sum.DiffID == id {
			return nil
		} else if len(packs) == 0 {
			return errors.Join(err, fmt.Errorf("its tree is not that layer's: %w", store.ErrDamaged))
		}
	}
	if len(packs) == 0 {
		return fmt.Errorf("%w: it has neither a blob nor a tree", store.ErrDamaged)
	}
	return l.readPack(ctx, id, packs, d)
}

// recordStored is recordTree of a layer's own tree.
func (l *Layers) recordStored(ctx context.Context, id digest.Digest, d *draft) error {
	t, err := l.trees.Open(l.path(id))
	if err != nil {
		return err
	}
	defer t.Close()
	return recordTree(ctx, t, d)
}

// readPack makes the table of contents out of a pack, with all digests.
func (l *Layers) readPack(ctx context.Context, id digest.Digest, packs []ocispec.Descriptor, d *draft) error {
	packed, err := l.openPack(ctx, id, packs)
	if err != nil {
		return err
	}
	defer func() { _ = packed.Close() }()
	parsed, err := convert.Parse(ctx, packed)
	if err != nil {
		return err
	}
	d.toc, d.sum = parsed.Finish(id)
	return nil
}
