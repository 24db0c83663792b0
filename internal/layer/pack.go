package layer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/layer/convert"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/pipe"
	"github.com/micabuild/mica/internal/store"
)

// OpenTar streams the layer's uncompressed tar, from whichever form there is. Where the content does not match id, the
// read that would end it gives store.ErrDamaged.
func (l *Layers) OpenTar(ctx context.Context, id digest.Digest) (io.ReadCloser, error) {
	packs, err := l.checkedPacks(id)
	if err != nil {
		return nil, err
	}
	if len(packs) > 0 {
		return l.openPack(ctx, id, packs)
	}
	s, err := l.summary(id)
	if err != nil && !errors.Is(err, toc.ErrDamaged) {
		return nil, err
	}
	if err == nil && !s.Canonical {
		return nil, fail(id, fmt.Errorf("%w: the blob that packs it is gone", store.ErrNotFound))
	}
	return l.repack(ctx, id)
}

// checkedPacks returns the packs of a layer that is in the store.
func (l *Layers) checkedPacks(id digest.Digest) ([]ocispec.Descriptor, error) {
	if _, err := l.summary(id); err != nil && !errors.Is(err, toc.ErrDamaged) {
		return nil, err
	}
	return l.packs(id)
}

// openPack decompresses the pack that is cheapest to read, ahead of the reader, and verifies it.
func (l *Layers) openPack(ctx context.Context, id digest.Digest, packs []ocispec.Descriptor) (io.ReadCloser, error) {
	choice := packs[0]
	if holds(packs, id) {
		choice = ocispec.Descriptor{Digest: id}
	}
	f, err := l.store.OpenBlob(choice.Digest)
	if err != nil {
		return nil, fail(id, err)
	}
	buf := bufio.NewReaderSize(f, 256<<10)
	plain, _, err := compression.NewReader(buf)
	if err != nil {
		return nil, errors.Join(fail(id, fmt.Errorf("%w: %w", store.ErrDamaged, err)), f.Close())
	}
	v := &verifiedTar{id: id, hash: sha256.New(), ctx: ctx}
	v.ahead = pipe.NewReader(plain, v.hash)
	v.close = func() error {
		v.ahead.Close()
		return errors.Join(plain.Close(), f.Close())
	}
	return v, nil
}

// verifiedTar gives an error in place of io.EOF where the content is not the layer's.
type verifiedTar struct {
	ctx   context.Context
	id    digest.Digest
	ahead *pipe.Reader
	hash  hash.Hash
	close func() error
}

func (v *verifiedTar) Read(p []byte) (int, error) {
	if err := v.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := v.ahead.Read(p)
	switch {
	case err == nil:
		return n, nil
	case !errors.Is(err, io.EOF):
		var packed *compression.Error
		if errors.As(err, &packed) {
			err = fmt.Errorf("%w: %w", store.ErrDamaged, err)
		}
		return n, fail(v.id, err)
	}
	if err := v.ahead.Wait(); err != nil {
		return n, fail(v.id, err)
	}
	if got := digest.NewDigest(digest.SHA256, v.hash); got != v.id {
		return n, fail(v.id, fmt.Errorf("%w: its content is %s", store.ErrDamaged, got))
	}
	return n, io.EOF
}

func (v *verifiedTar) Close() error { return v.close() }

// repack writes the canonical tar again from the table of contents and the tree.
func (l *Layers) repack(ctx context.Context, id digest.Digest) (io.ReadCloser, error) {
	t, err := l.TOC(ctx, id)
	if err != nil {
		return nil, err
	}
	if !t.Canonical {
		return nil, fail(id, fmt.Errorf("%w: the blob that packs it is gone", store.ErrNotFound))
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
