package transfer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/registry"
)

// CacheRepository is a repository with a build cache under a tag.
type CacheRepository struct {
	local *Local
	repo  *registry.Repository
	push  *pusher
}

// OpenCache opens the repository of a cache to read or write it. o has the compression of layers.
func OpenCache(ctx context.Context, c *registry.Client, local *Local, name reference.Named, o PushOptions) (*CacheRepository, error) {
	name = reference.TagNameOnly(name)
	repo, err := c.Repository(ctx, name)
	if err != nil {
		return nil, registry.Explain(reference.FamiliarString(name), err)
	}
	if o.Compression == "" {
		o.Compression = compression.Gzip
	}
	if o.Progress == nil {
		o.Progress = func(Event) {}
	}
	p := &pusher{
		local: local, repo: repo, name: name, o: o, progress: o.Progress,
		blobs: map[digest.Digest]*sync.Mutex{}, slots: make(chan struct{}, parallelLayers),
	}
	return &CacheRepository{local: local, repo: repo, push: p}, nil
}

// Root returns the manifest of the tag. The error is a registry.NotFoundError if no manifest has it.
func (r *CacheRepository) Root(ctx context.Context) (ocispec.Descriptor, error) {
	m, err := r.repo.FetchManifest(ctx, r.repo.Reference())
	if err != nil {
		return ocispec.Descriptor{}, r.explain(err)
	}
	return m.Descriptor, nil
}

// Name returns the repository, such as "docker.io/library/cache".
func (r *CacheRepository) Name() string { return r.repo.Name().Name() }

func (r *CacheRepository) explain(err error) error {
	return registry.Explain(reference.FamiliarString(r.repo.Name()), err)
}

// Fetch reads a manifest or a blob, unverified. It is a content.Fetcher.
func (r *CacheRepository) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if oci.IsIndex(d.MediaType) || oci.IsManifest(d.MediaType) {
		m, err := r.repo.FetchManifest(ctx, d.Digest.String())
		if err != nil {
			return nil, r.explain(err)
		}
		return io.NopCloser(bytes.NewReader(m.Raw)), nil
	}
	if err := oci.CheckDescriptor(d); err != nil {
		return nil, err
	}
	return r.repo.OpenBlob(ctx, d, 0), nil
}

// Exists reports whether the repository has a blob.
func (r *CacheRepository) Exists(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	return r.repo.HasBlob(ctx, d)
}

// Layer pushes a layer of the store, unless the repository has it, and returns the descriptor of its blob.
func (r *CacheRepository) Layer(ctx context.Context, id digest.Digest) (ocispec.Descriptor, error) {
	got, err := r.local.Layers.Get(id)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: id, Size: got.TarSize}
	for _, p := range got.Blobs {
		if oci.IsLayer(p.MediaType) && p.Digest != id {
			desc = p // a compressed blob is pushed as it is
		}
	}
	l := &pushedLayer{p: r.push, id: id, desc: desc, shown: id}
	if desc, err = l.push(ctx); err != nil {
		return ocispec.Descriptor{}, r.explain(err)
	}
	return desc, nil
}

// Copy makes the repository have a blob: it is mounted from one of the repositories that are known to have it if one is of the same registry, and
// else pushed as open reads it.
func (r *CacheRepository) Copy(ctx context.Context, d ocispec.Descriptor, from []string, open func() (io.ReadCloser, error)) error {
	there, err := r.repo.HasBlob(ctx, d)
	if err != nil || there {
		return err
	}
	for _, other := range r.repo.Mountable(from) {
		if r.push.mount(ctx, d, other) {
			return nil
		}
	}
	return r.repo.PushBlob(ctx, d, open)
}

// Blob pushes a small blob, unless the repository has it.
func (r *CacheRepository) Blob(ctx context.Context, d ocispec.Descriptor, raw []byte) error {
	err := r.Copy(ctx, d, nil, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil })
	if err != nil {
		return r.explain(fmt.Errorf("push build cache: %w", err))
	}
	return nil
}

// Put writes the cache's manifest, and moves the tag.
func (r *CacheRepository) Put(ctx context.Context, manifest ocispec.Descriptor, raw []byte) error {
	if err := r.repo.PutManifest(ctx, &registry.Manifest{Descriptor: manifest, Raw: raw}, r.repo.Reference()); err != nil {
		return r.explain(fmt.Errorf("push build cache: %w", err))
	}
	return nil
}

// Manifest returns the manifest that has a tag in the repository. registry.IsNotFound is true of the error if no manifest has it.
func (r *CacheRepository) Manifest(ctx context.Context, tag string) (*registry.Manifest, error) {
	m, err := r.repo.FetchManifest(ctx, tag)
	if err != nil && !registry.IsNotFound(err) {
		err = r.explain(err)
	}
	return m, err
}

// Tags lists the tags of the repository.
func (r *CacheRepository) Tags(ctx context.Context) ([]string, error) {
	return r.repo.Client().Tags(ctx, reference.TrimNamed(r.push.name))
}

// Delete removes a manifest with its tags. registry.IsNotFound is true of the error if it is not there.
func (r *CacheRepository) Delete(ctx context.Context, d ocispec.Descriptor) error {
	err := r.repo.DeleteManifest(ctx, d)
	if err != nil && !registry.IsNotFound(err) {
		err = r.explain(err)
	}
	return err
}

// PutTag writes a manifest, and gives it a tag.
func (r *CacheRepository) PutTag(ctx context.Context, manifest ocispec.Descriptor, raw []byte, tag string) error {
	if err := r.repo.PutManifest(ctx, &registry.Manifest{Descriptor: manifest, Raw: raw}, tag); err != nil {
		return r.explain(fmt.Errorf("push build cache: %w", err))
	}
	return nil
}
