package layer

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/toc"
)

// Get describes a layer from the first bytes of its table of contents; store.ErrNotFound. A damaged table is made again
// where that is possible.
func (l *Layers) Get(id digest.Digest) (*Layer, error) {
	s, err := l.goodSummary(id)
	if err != nil {
		return nil, err
	}
	blobs, err := l.blobs(id)
	if err != nil {
		return nil, err
	}
	return &Layer{
		DiffID:   id,
		TarSize:  s.TarSize,
		Size:     s.Size,
		Count:    s.Count,
		Empty:    s.Count == 0,
		Blobs:    blobs,
		Unpacked: l.unpacked(id),
	}, nil
}

// Size returns Layer.Size alone, in one small read.
func (l *Layers) Size(id digest.Digest) (int64, error) {
	s, err := l.goodSummary(id)
	return s.Size, err
}

// goodSummary is summary with a damaged table of contents made again.
func (l *Layers) goodSummary(id digest.Digest) (toc.Summary, error) {
	s, err := l.summary(id)
	if !errors.Is(err, toc.ErrDamaged) {
		return s, err
	}
	t, err := l.repairTOC(context.Background(), id)
	if err != nil {
		return s, err
	}
	return t.Summary, nil
}

// TOC loads a layer's table of contents, verified. A damaged one is made again: from a blob if there is one, from the
// tree if its tar has the layer's DiffID.
func (l *Layers) TOC(ctx context.Context, id digest.Digest) (*toc.Table, error) {
	t, err := l.loadTOC(id)
	if errors.Is(err, toc.ErrDamaged) {
		return l.repairTOC(ctx, id)
	}
	return t, err
}

// Records is TOC in a form that takes less memory, for a table that stays there while a user looks at it.
func (l *Layers) Records(ctx context.Context, id digest.Digest) (*toc.Records, error) {
	r, err := decodeTOC(l, id, toc.DecodeRecords)
	if errors.Is(err, toc.ErrDamaged) {
		if _, err := l.repairTOC(ctx, id); err != nil {
			return nil, err
		}
		return decodeTOC(l, id, toc.DecodeRecords)
	}
	return r, err
}
