package layer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/layer/convert"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/pipe"
	"github.com/micabuild/mica/internal/store"
)

// OpenTar streams the layer's uncompressed tar, from whichever form there is. Where the content does not match id, the
// read that would end it gives store.ErrDamaged.
func (l *Layers) OpenTar(ctx context.Context, id digest.Digest) (io.ReadCloser, error) {
	blobs, err := l.checkedBlobs(id)
	if err != nil {
		return nil, err
	}
	if len(blobs) > 0 {
		return l.openBlobTar(ctx, id, blobs)
	}
	s, err := l.summary(id)
	if err != nil && !errors.Is(err, toc.ErrDamaged) {
		return nil, err
	}
	if err == nil && !s.Canonical {
		return nil, fail(id, fmt.Errorf("%w: the blob that holds it is gone", store.ErrNotFound))
	}
	return l.treeTar(ctx, id)
}

// checkedBlobs returns the blobs of a layer that is in the store.
func (l *Layers) checkedBlobs(id digest.Digest) ([]ocispec.Descriptor, error) {
	if _, err := l.summary(id); err != nil && !errors.Is(err, toc.ErrDamaged) {
		return nil, err
	}
	return l.blobs(id)
}

// treeTar writes the canonical tar again from the table of contents and the tree.
func (l *Layers) treeTar(ctx context.Context, id digest.Digest) (io.ReadCloser, error) {
	t, err := l.TOC(ctx, id)
	if err != nil {
		return nil, err
	}
	if !t.Canonical {
		return nil, fail(id, fmt.Errorf("%w: the blob that holds it is gone", store.ErrNotFound))
	}
	stored, err := l.trees.Open(l.path(id))
	if err != nil && len(t.Entries) > 0 {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: it has neither a blob nor a tree", store.ErrDamaged)
		}
		return nil, fail(id, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	out, in := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := crash.Guard(func() error { return convert.FromTable(t, stored).WriteTar(ctx, in) })()
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("its tree is %w: %w", store.ErrDamaged, err)
		}
		in.CloseWithError(err)
	}()
	v := &verifiedTar{ctx: ctx, id: id, hash: sha256.New()}
	v.ahead = pipe.NewReader(out, v.hash)
	v.close = func() error {
		cancel()
		_ = out.Close()
		v.ahead.Close()
		<-done
		if stored != nil {
			stored.Close()
		}
		return nil
	}
	return v, nil
}
