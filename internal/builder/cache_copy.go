package builder

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/transfer"
)

// opener opens a blob.
type opener = func() (io.ReadCloser, error)

// blobElsewhere is a blob that the store does not have.
type blobElsewhere struct {
	desc         ocispec.Descriptor
	repositories []string // that are known to have it
	open         opener
}

// copyImported writes a layer that the store does not have, since no step has read it: the blob that an imported cache or a base image has of
// it. If all caches have lost theirs, the error is remotecache.ErrLost. ok is false for a layer of the store.
func (x *cacheWriter) copyImported(
	ctx context.Context, id digest.Digest, write func(*blobElsewhere) error,
) (_ ocispec.Descriptor, ok bool, err error) {
	if got, err := x.b.Layers.Get(id); err == nil && got.Present() {
		return ocispec.Descriptor{}, false, nil
	}
	list := x.cache.Imported(id)
	for _, at := range list {
		blob := &importedBlob{ImportedLayer: at}
		b := &blobElsewhere{desc: at.Blob, open: func() (io.ReadCloser, error) { return blob.open(ctx) }}
		if r, ok := at.From.(*transfer.CacheRepository); ok {
			b.repositories = []string{r.Name()}
		}
		err := write(b)
		if !blob.gone.Load() {
			return at.Blob, true, err
		}
	}
	if len(list) == 0 {
		return x.copyBase(ctx, id, write)
	}
	if base := x.base.findLazy([]digest.Digest{id}); base != nil {
		return ocispec.Descriptor{}, false, base.Fetch(ctx, false)
	}
	return ocispec.Descriptor{}, false, remotecache.ErrLost
}

// copyBase writes a layer of a base image that was not pulled. ok is false for another layer.
func (x *cacheWriter) copyBase(
	ctx context.Context, id digest.Digest, write func(*blobElsewhere) error,
) (_ ocispec.Descriptor, ok bool, err error) {
	at, ok := x.base.elsewhere(x.b.Registry, id)
	if !ok {
		return ocispec.Descriptor{}, false, nil
	}
	return at.Blob, true, write(&blobElsewhere{at.Blob, at.Repositories, func() (io.ReadCloser, error) { return at.Open(ctx) }})
}

// importedBlob is a blob of an imported cache, which notes that the cache does not have it.
type importedBlob struct {
	remotecache.ImportedLayer
	gone atomic.Bool
}

func (b *importedBlob) open(ctx context.Context) (io.ReadCloser, error) {
	r, err := b.From.Fetch(ctx, b.Blob)
	if err != nil {
		b.note(err)
		return nil, err
	}
	return &notingReader{r, b}, nil
}

func (b *importedBlob) note(err error) {
	if errors.Is(err, errdef.ErrNotFound) {
		b.gone.Store(true)
	}
}

// notingReader reads an importedBlob: a registry is asked at the first read.
type notingReader struct {
	io.ReadCloser
	blob *importedBlob
}

func (r *notingReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.blob.note(err)
	return n, err
}
