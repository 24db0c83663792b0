package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/registry"
)

// OpenSource opens a repository to copy from, or a mirror that has the image.
func OpenSource(ctx context.Context, c *registry.Client, name reference.Named) (Source, error) {
	src, err := openSource(ctx, c, name)
	if err != nil {
		return nil, err
	}
	return src, nil
}

func openSource(ctx context.Context, c *registry.Client, name reference.Named) (src *repositorySource, err error) {
	err = c.Try(ctx, reference.TagNameOnly(name), func(ctx context.Context, repo *registry.Repository) error {
		root, err := repo.FetchManifest(ctx, repo.Reference())
		src = &repositorySource{repo: repo, root: root}
		return err
	})
	return src, err
}

type repositorySource struct {
	repo *registry.Repository
	root *registry.Manifest

	listed *listed // nil outside of Copy
}

func (s *repositorySource) Root(context.Context) (ocispec.Descriptor, error) {
	return s.root.Descriptor, nil
}
func (s *repositorySource) Close() error { return nil }

func (s *repositorySource) Exists(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	return s.repo.Exists(ctx, d)
}

func (s *repositorySource) Predecessors(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	return s.repo.Referrers(ctx, d)
}

// Fetch reads manifests from memory or the registry. It reads blobs with as many connections as needed. The content is
// verified: if it does not match the digest, the last read fails.
func (s *repositorySource) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if d.Digest == s.root.Descriptor.Digest {
		return io.NopCloser(bytes.NewReader(s.root.Raw)), nil
	}
	if err := oci.CheckDescriptor(d); err != nil {
		return nil, err
	}
	if oci.IsManifestOrIndex(d.MediaType) {
		m, err := s.repo.FetchManifest(ctx, d.Digest.String())
		if err != nil {
			return nil, err
		}
		return io.NopCloser(bytes.NewReader(m.Raw)), nil
	}
	if s.listed.has(d) {
		raw, err := s.repo.FetchAny(ctx, d)
		if err == nil {
			return io.NopCloser(bytes.NewReader(raw)), nil
		}
		if !registry.IsNotFound(err) {
			return nil, err
		}
		s.listed.isBlob(d)
	}
	return verified(s.repo.OpenBlob(ctx, d, 0), d), nil
}

// verified reads r. At its end it fails if the content does not match d.
func verified(r io.ReadCloser, d ocispec.Descriptor) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{oci.NewVerifiedReader(r, d), r}
}

// OpenDestination opens a repository to copy to. Commit moves its tag.
func OpenDestination(ctx context.Context, c *registry.Client, name reference.Named) (Destination, error) {
	repo, err := c.Repository(ctx, reference.TagNameOnly(name))
	if err != nil {
		return nil, err
	}
	return &repositoryDestination{repo: repo}, nil
}

type repositoryDestination struct {
	repo *registry.Repository
	src  Source // to read a blob again

	listed *listed // nil outside of Copy
}

// Exists reports whether the repository has a manifest or blob.
func (d *repositoryDestination) Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	return d.repo.Exists(ctx, desc)
}

// Fetch reads a manifest or blob of the repository.
func (d *repositoryDestination) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := oci.CheckDescriptor(desc); err != nil {
		return nil, err
	}
	if !oci.IsManifestOrIndex(desc.MediaType) {
		return verified(d.repo.OpenBlob(ctx, desc, 0), desc), nil
	}
	m, err := d.repo.FetchManifest(ctx, desc.Digest.String())
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(m.Raw)), nil
}

// Mount mounts a blob of another repository of the registry.
func (d *repositoryDestination) Mount(ctx context.Context, desc ocispec.Descriptor, from string, open func() (io.ReadCloser, error)) error {
	return d.repo.MountBlob(ctx, desc, from, open)
}

// Push pushes a manifest or blob. If the upload of a blob breaks, it reads the blob again.
func (d *repositoryDestination) Push(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	if oci.IsManifestOrIndex(desc.MediaType) {
		raw, err := content.ReadAll(r, desc)
		if err != nil {
			return err
		}
		return d.repo.PutManifest(ctx, &registry.Manifest{Descriptor: desc, Raw: raw}, desc.Digest.String())
	}
	if d.listed.has(desc) && desc.Size <= registry.MaxManifest {
		return d.pushListed(ctx, desc, r)
	}
	first := true
	return d.repo.PushBlob(ctx, desc, func() (io.ReadCloser, error) {
		if first {
			first = false
			return io.NopCloser(r), nil
		}
		if d.src == nil {
			return nil, errors.New("the upload broke, and the blob cannot be read again")
		}
		return d.src.Fetch(ctx, desc)
	})
}

func (d *repositoryDestination) Commit(ctx context.Context, root ocispec.Descriptor) error {
	ref := d.repo.Reference()
	if ref == root.Digest.String() {
		return nil
	}
	return registry.Explain(d.repo.Path()+":"+ref, d.repo.Tag(ctx, root, ref))
}

func (d *repositoryDestination) Close() error { return nil }
