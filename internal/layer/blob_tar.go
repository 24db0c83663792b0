package layer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/pipe"
	"github.com/micabuild/mica/internal/store"
)

// openBlobTar decompresses the blob that is cheapest to read, ahead of the reader, and verifies it.
func (l *Layers) openBlobTar(ctx context.Context, id digest.Digest, blobs []ocispec.Descriptor) (io.ReadCloser, error) {
	choice := blobs[0]
	if holds(blobs, id) {
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
		var bad *compression.Error
		if errors.As(err, &bad) {
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
