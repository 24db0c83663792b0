package layer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/store"
)

// Fetch opens a blob of a repository, "docker.io/library/nginx", of a registry.
type Fetch func(ctx context.Context, repository string, desc ocispec.Descriptor) (io.ReadCloser, error)

// SetFetch sets how blobs are fetched that the store lacks. Without it none are.
func (l *Layers) SetFetch(f Fetch) { l.fetch = f }

// OpenBlob streams what a manifest's layer descriptor names, of the layer with this DiffID: the blob of that digest. One that the
// store lacks is the layer's uncompressed tar, or is compressed again as mica did it before, or fetched from a
// registry that is known to have it. The bytes are verified: where they are not what desc names, the read that would end
// them gives store.ErrDamaged. diffID is "" for a blob that is not a layer of files.
func (l *Layers) OpenBlob(ctx context.Context, diffID digest.Digest, desc ocispec.Descriptor) (io.ReadCloser, error) {
	blob, err := l.store.VerifiedBlob(desc.Digest)
	if err == nil || !errors.Is(err, store.ErrNotFound) || diffID == "" {
		return blob, err
	}
	if desc.Digest == diffID {
		return l.OpenTar(ctx, diffID)
	}
	if err := l.restore(ctx, diffID, desc); err != nil {
		return nil, err
	}
	return l.store.VerifiedBlob(desc.Digest)
}

// restore puts a blob of a layer into the store again.
func (l *Layers) restore(ctx context.Context, diffID digest.Digest, desc ocispec.Descriptor) error {
	missing := &missingBlob{desc.Digest, "no registry is known to have it: pull the image again, or push it with --force-compression"}
	for _, s := range l.KnownBlobs(diffID) {
		if s.Blob.Digest != desc.Digest {
			continue
		}
		if a, level, ok := compression.ParseRecipe(s.Recipe); ok {
			made, err := l.Compress(ctx, diffID, a, level)
			if err == nil && made.Digest == desc.Digest {
				return nil
			}
			if err != nil && ctx.Err() != nil {
				return err
			}
		}
		for _, from := range s.Repositories {
			err := l.fetchBlob(ctx, from, desc)
			if err == nil || ctx.Err() != nil {
				return err
			}
			missing.why = fmt.Sprintf("it cannot be fetched from %s: %v", from, err)
		}
	}
	return fail(diffID, missing)
}

// missingBlob is a blob that the store lacks and cannot get.
type missingBlob struct {
	blob digest.Digest
	why  string
}

func (m *missingBlob) Error() string {
	return fmt.Sprintf("blob %s is not in the store, and %s", m.blob, m.why)
}

// Is makes it a store.ErrNotFound.
func (m *missingBlob) Is(target error) bool { return target == store.ErrNotFound }

// fetchBlob brings a blob from a repository into the store.
func (l *Layers) fetchBlob(ctx context.Context, from string, desc ocispec.Descriptor) error {
	if l.fetch == nil {
		return errors.New("there is no connection to registries")
	}
	in, err := l.fetch(ctx, from, desc)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	blob, err := l.store.NewBlob()
	if err != nil {
		return err
	}
	defer func() { _ = blob.Close() }()
	n, err := io.Copy(blob, io.LimitReader(in, desc.Size+1))
	if err != nil {
		return err
	}
	if n != desc.Size {
		return fmt.Errorf("%w: its size is not %d bytes", store.ErrDamaged, desc.Size)
	}
	_, err = blob.Commit(desc.Digest)
	return err
}
