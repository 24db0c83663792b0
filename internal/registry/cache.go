package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/oci"
)

// CacheRepository is a repository in which a build cache is kept, under a tag.
type CacheRepository struct {
	c     *Client
	local *Local
	name  reference.Named
	repo  *remote.Repository
	push  *pusher
}

// OpenCache prepares to read or write a cache under a name with a tag. Layers are compressed as o says.
func (c *Client) OpenCache(ctx context.Context, local *Local, name reference.Named, o PushOptions) (*CacheRepository, error) {
	name = reference.TagNameOnly(name)
	at, err := home(name)
	if err != nil {
		return nil, err
	}
	repo, err := c.repository(ctx, at)
	if err != nil {
		return nil, explain(reference.FamiliarString(name), err)
	}
	if o.Compression == "" {
		o.Compression = compression.Gzip
	}
	if o.Progress == nil {
		o.Progress = func(Event) {}
	}
	p := &pusher{
		c: c, local: local, repo: repo, name: name, o: o, progress: o.Progress,
		blobs: map[digest.Digest]*sync.Mutex{}, slots: make(chan struct{}, parallelLayers),
	}
	return &CacheRepository{c: c, local: local, name: at, repo: repo, push: p}, nil
}

// Root is what the tag stands for; IsNotFound where there is none.
func (r *CacheRepository) Root(ctx context.Context) (ocispec.Descriptor, error) {
	m, err := fetchManifest(ctx, r.repo, refOf(r.name))
	if err != nil {
		return ocispec.Descriptor{}, explain(reference.FamiliarString(r.name), err)
	}
	return m.desc, nil
}

// Name is the repository, "docker.io/library/cache".
func (r *CacheRepository) Name() string { return r.name.Name() }

// IsNotFound reports whether a registry does not have what was asked for.
func IsNotFound(err error) bool { return isMissing(err) }

// Open reads a manifest or a blob, unverified.
func (r *CacheRepository) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if oci.IsIndex(d.MediaType) || oci.IsManifest(d.MediaType) {
		m, err := fetchManifest(ctx, r.repo, d.Digest.String())
		if err != nil {
			return nil, explain(reference.FamiliarString(r.name), err)
		}
		return io.NopCloser(bytes.NewReader(m.raw)), nil
	}
	if err := oci.CheckDescriptor(d); err != nil {
		return nil, err
	}
	return r.c.openBlob(ctx, r.repo, d, 0), nil
}

// Layer sees that the repository has a layer of the store, and says as what.
func (r *CacheRepository) Layer(ctx context.Context, id digest.Digest) (ocispec.Descriptor, error) {
	got, err := r.local.Layers.Get(id)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: id, Size: got.TarSize}
	for _, p := range got.Packs {
		if oci.IsLayer(p.MediaType) && p.Digest != id {
			desc = p // what came compressed stays as it is
		}
	}
	l := &pushedLayer{p: r.push, id: id, desc: desc, shown: id}
	return l.push(ctx)
}

// Copy takes a blob from elsewhere, unless the repository has it.
func (r *CacheRepository) Copy(ctx context.Context, d ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	there, err := r.c.blobExists(ctx, r.repo, d)
	if err != nil || there {
		return err
	}
	return r.c.pushBlob(ctx, r.repo, d, open)
}

// Put writes the cache's config and manifest, and moves the tag.
func (r *CacheRepository) Put(ctx context.Context, config, manifest ocispec.Descriptor, rawConfig, rawManifest []byte) error {
	err := r.Copy(ctx, config, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(rawConfig)), nil })
	if err == nil {
		err = putDocument(ctx, r.repo, manifest, rawManifest, refOf(r.name))
	}
	if err != nil {
		return explain(reference.FamiliarString(r.name), errors.Join(fmt.Errorf("push build cache"), err))
	}
	return nil
}
