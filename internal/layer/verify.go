package layer

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/layer/convert"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/store"
)

// Verify reads all there is of a layer: every blob, and the table of contents, against the DiffID, and the tree against
// the table of contents. The error of a damaged layer is store.ErrDamaged.
func (l *Layers) Verify(ctx context.Context, id digest.Digest) error {
	t, err := l.TOC(ctx, id)
	if err == nil && t.Undigested {
		if _, err = l.withDigests(ctx, id); err == nil {
			t, err = l.TOC(ctx, id)
		}
	}
	if err != nil {
		return err
	}
	blobs, err := l.blobs(id)
	if err != nil {
		return err
	}
	for _, blob := range blobs {
		if err := l.verifyBlob(ctx, t, blob); err != nil {
			return err
		}
	}
	switch {
	case l.unpacked(id):
		return l.verifyStored(ctx, t, true)
	case len(blobs) == 0 && len(t.Entries) > 0:
		return fail(id, fmt.Errorf("%w: it has neither a blob nor a tree", store.ErrDamaged))
	}
	return nil
}

// verifyBlob compares a blob with the layer's identity, and what it holds with the table of contents.
func (l *Layers) verifyBlob(ctx context.Context, t *toc.Table, blob ocispec.Descriptor) error {
	id := t.DiffID
	tar, err := l.openBlobTar(ctx, id, []ocispec.Descriptor{blob})
	if err != nil {
		return err
	}
	defer func() { _ = tar.Close() }()
	parsed, err := convert.Parse(ctx, tar)
	if err != nil {
		return err
	}
	if have := parsed.Table.Summary(); have.Count != t.Count || have.Size != t.Size {
		return fail(id, toc.ErrDamaged)
	}
	return nil
}
