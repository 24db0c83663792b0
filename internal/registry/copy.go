package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/micabuild/mica/internal/oci"
)

// Source is where Copy reads an image from: a repository, or an archive or folder of package ocilayout.
type Source interface {
	content.ReadOnlyGraphStorage
	// Root is the manifest or index to copy.
	Root(ctx context.Context) (ocispec.Descriptor, error)
	Close() error
}

// Destination is where Copy writes an image to. Nothing is seen there before Commit.
type Destination interface {
	content.Storage
	Commit(ctx context.Context, root ocispec.Descriptor) error
	Close() error
}

// CopyOptions say what to copy. The zero value copies an image with all of its platforms.
type CopyOptions struct {
	// Platform picks one image of several.
	Platform *ocispec.Platform
	// Referrers copies what refers to the image, too: signatures, attestations, and what refers to those.
	Referrers bool
	Progress  Progress
}

// maxReferrers is how far referrers of referrers are followed.
const maxReferrers = 8

// Copy copies an image as it is, byte for byte, and returns what was copied. The store is not touched.
func Copy(ctx context.Context, src Source, dst Destination, o CopyOptions) (ocispec.Descriptor, error) {
	root, err := src.Root(ctx)
	if err != nil {
		return root, err
	}
	if o.Platform != nil && oci.IsIndex(root.MediaType) {
		if root, err = onePlatform(ctx, src, root, *o.Platform); err != nil {
			return root, err
		}
	}
	listed := newListed()
	opts := copyOptions(src, dst, o.Progress)
	opts.FindSuccessors = listed.successors
	if from, ok := src.(*repositorySource); ok {
		from.listed = listed
	}
	if to, ok := dst.(*repositoryDestination); ok {
		to.listed = listed
	}
	if err := oras.CopyGraph(ctx, src, dst, root, opts); err != nil {
		return root, copyError(err)
	}
	if o.Referrers {
		if err := copyReferrers(ctx, src, dst, root, opts); err != nil {
			return root, copyError(err)
		}
	}
	return root, dst.Commit(ctx, root)
}

func onePlatform(ctx context.Context, src Source, root ocispec.Descriptor, want ocispec.Platform) (ocispec.Descriptor, error) {
	e, err := oci.Find(ctx, root, indexReader(src), &want)
	if err != nil {
		return root, err
	}
	return e.Descriptor, nil
}

// indexReader reads the indexes of a source.
func indexReader(src Source) oci.Read {
	return func(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
		if d.Size > maxManifest {
			return nil, fmt.Errorf("index %s has %d bytes, more than the %d that one may have", d.Digest, d.Size, maxManifest)
		}
		return content.FetchAll(ctx, src, d)
	}
}

func copyOptions(src Source, dst Destination, progress Progress) oras.CopyGraphOptions {
	opts := oras.CopyGraphOptions{Concurrency: parallelLayers, MaxMetadataBytes: maxManifest}
	if progress == nil {
		progress = func(Event) {}
	}
	tell := func(s State) func(context.Context, ocispec.Descriptor) error {
		return func(_ context.Context, d ocispec.Descriptor) error {
			progress(Event{Layer: d.Digest, State: s, Total: d.Size})
			return nil
		}
	}
	opts.PreCopy, opts.PostCopy, opts.OnCopySkipped, opts.OnMounted = tell(Downloading), tell(Done), tell(Exists), tell(Mounted)
	from, ok := src.(*repositorySource)
	to, both := dst.(*repositoryDestination)
	if both {
		to.src = src
	}
	if ok && both && from.repo.Reference.Registry == to.repo.Reference.Registry {
		opts.MountFrom = func(context.Context, ocispec.Descriptor) ([]string, error) {
			return []string{from.repo.Reference.Repository}, nil
		}
		opts.OnMounted = func(_ context.Context, d ocispec.Descriptor) error {
			progress(Event{Layer: d.Digest, State: Mounted, From: from.repo.Reference.Repository})
			return nil
		}
	}
	return opts
}

// copyReferrers copies what refers to an image, or to one of an index's.
func copyReferrers(ctx context.Context, src Source, dst Destination, root ocispec.Descriptor, opts oras.CopyGraphOptions) error {
	subjects, err := subjectsOf(ctx, src, root)
	if err != nil {
		return err
	}
	for _, s := range subjects {
		if err := oras.ExtendedCopyGraph(ctx, src, dst, s, oras.ExtendedCopyGraphOptions{CopyGraphOptions: opts, Depth: maxReferrers}); err != nil {
			return err
		}
		from, ok := src.(*repositorySource)
		to, both := dst.(*repositoryDestination)
		if !ok || !both {
			continue
		}
		if err := copyCosign(ctx, from, to, s, opts); err != nil {
			return err
		}
	}
	return nil
}

// subjectsOf are an image and, of an index, what it lists: each may be referred to.
func subjectsOf(ctx context.Context, src Source, root ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	subjects := []ocispec.Descriptor{root}
	if !oci.IsIndex(root.MediaType) {
		return subjects, nil
	}
	list, err := oci.Entries(ctx, root, indexReader(src), nil)
	for _, e := range list {
		for _, d := range append(e.Via[:len(e.Via):len(e.Via)], e.Descriptor) {
			if !slices.ContainsFunc(subjects, func(o ocispec.Descriptor) bool { return o.Digest == d.Digest }) {
				subjects = append(subjects, d)
			}
		}
	}
	return subjects, err
}

// copyCosign copies what cosign attaches by the names of tags, which was before registries knew referrers
// (cosign, specs/SIGNATURE_SPEC.md).
func copyCosign(ctx context.Context, from *repositorySource, to *repositoryDestination, subject ocispec.Descriptor, opts oras.CopyGraphOptions) error {
	for _, suffix := range []string{"sig", "att", "sbom"} {
		tag := strings.Replace(subject.Digest.String(), ":", "-", 1) + "." + suffix
		m, err := fetchManifest(ctx, from.repo, tag)
		if errors.Is(err, errdef.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		d := m.desc
		if err := oras.CopyGraph(ctx, from, to, d, opts); err != nil {
			return err
		}
		if err := to.c.retag(ctx, to.repo, d, tag); err != nil {
			return err
		}
	}
	return nil
}

// copyError takes oras's own words off an error.
func copyError(err error) error {
	var c *oras.CopyError
	if errors.As(err, &c) {
		return c.Err
	}
	return err
}

// Source opens a repository to copy from, a mirror of it if there is one that answers.
func (c *Client) Source(ctx context.Context, name reference.Named) (Source, error) {
	places, err := endpoints(reference.TagNameOnly(name))
	if err != nil {
		return nil, err
	}
	var last error
	for i, place := range places {
		repo, err := c.repository(ctx, place.name)
		if err != nil {
			return nil, err
		}
		root, err := fetchManifest(placeContext(ctx, places, i), repo, refOf(place.name))
		if err == nil {
			return &repositorySource{c: c, repo: repo, root: root}, nil
		}
		last = explain(reference.FamiliarString(place.name), err)
	}
	return nil, last
}

type repositorySource struct {
	c    *Client
	repo *remote.Repository
	root *manifest

	listed *listed // nil outside of Copy
}

func (s *repositorySource) Root(context.Context) (ocispec.Descriptor, error) { return s.root.desc, nil }
func (s *repositorySource) Close() error                                     { return nil }

func (s *repositorySource) Exists(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	return s.c.exists(ctx, s.repo, d)
}

func (s *repositorySource) Predecessors(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	return s.referrers(ctx, d)
}

// Fetch gives manifests from memory or the registry, and blobs over as many connections and tries as they need. The
// content is verified: the read that would end it fails if it is another.
func (s *repositorySource) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if d.Digest == s.root.desc.Digest {
		return io.NopCloser(bytes.NewReader(s.root.raw)), nil
	}
	if err := oci.CheckDescriptor(d); err != nil {
		return nil, err
	}
	if oci.IsManifestOrIndex(d.MediaType) {
		m, err := fetchManifest(ctx, s.repo, d.Digest.String())
		if err != nil {
			return nil, err
		}
		return io.NopCloser(bytes.NewReader(m.raw)), nil
	}
	if s.listed.has(d) {
		raw, err := fetchAny(ctx, s.repo, d)
		if err == nil {
			return io.NopCloser(bytes.NewReader(raw)), nil
		}
		if !isMissing(err) {
			return nil, err
		}
		s.listed.isBlob(d)
	}
	return verified(s.c.openBlob(ctx, s.repo, d, 0), d), nil
}

// verified reads r and fails at its end if it is not what d says.
func verified(r io.ReadCloser, d ocispec.Descriptor) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{oci.NewVerifiedReader(r, d), r}
}

// Destination opens a repository to copy to. Its tag moves in Commit.
func (c *Client) Destination(ctx context.Context, name reference.Named) (Destination, error) {
	at, err := home(reference.TagNameOnly(name))
	if err != nil {
		return nil, err
	}
	repo, err := c.repository(ctx, at)
	if err != nil {
		return nil, err
	}
	return &repositoryDestination{c: c, Repository: repo, repo: repo, ref: refOf(at)}, nil
}

type repositoryDestination struct {
	*remote.Repository
	c    *Client
	repo *remote.Repository
	ref  string
	src  Source // where a blob may be read once more

	listed *listed // nil outside of Copy
}

// Exists reports whether the repository has a manifest or blob.
func (d *repositoryDestination) Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	return d.c.exists(ctx, d.repo, desc)
}

// Mount takes a blob from another repository of the registry.
func (d *repositoryDestination) Mount(ctx context.Context, desc ocispec.Descriptor, from string, open func() (io.ReadCloser, error)) error {
	return d.c.mountBlob(ctx, d.repo, desc, from, open)
}

// Push sends a manifest or blob. A blob whose upload broke is read once more.
func (d *repositoryDestination) Push(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	if oci.IsManifestOrIndex(desc.MediaType) {
		raw, err := content.ReadAll(r, desc)
		if err != nil {
			return err
		}
		return putDocument(ctx, d.repo, desc, raw, desc.Digest.String())
	}
	if d.listed.has(desc) && desc.Size <= maxManifest {
		return d.pushListed(ctx, desc, r)
	}
	first := true
	return d.c.pushBlob(ctx, d.repo, desc, func() (io.ReadCloser, error) {
		if first {
			first = false
			return io.NopCloser(r), nil
		}
		if d.src == nil {
			return nil, errors.New("the upload broke, and what was sent cannot be read again")
		}
		return d.src.Fetch(ctx, desc)
	})
}

func (d *repositoryDestination) Commit(ctx context.Context, root ocispec.Descriptor) error {
	if d.ref == root.Digest.String() {
		return nil
	}
	return explain(d.repo.Reference.Repository+":"+d.ref, d.c.retag(ctx, d.repo, root, d.ref))
}

func (d *repositoryDestination) Close() error { return nil }
