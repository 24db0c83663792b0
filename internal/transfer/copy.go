package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"

	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/registry"
)

// Source is where Copy reads an image from: a repository, or a layout or archive of package ocilayout.
type Source interface {
	content.ReadOnlyGraphStorage
	// Root is the manifest or index to copy.
	Root(ctx context.Context) (ocispec.Descriptor, error)
	Close() error
}

// Destination is where Copy writes an image to. Readers do not see it before Commit.
type Destination interface {
	content.Storage
	Commit(ctx context.Context, root ocispec.Descriptor) error
	Close() error
}

// CopyOptions are the options of Copy. The zero value copies all platforms of an image.
type CopyOptions struct {
	// Platform selects one image of an index.
	Platform *ocispec.Platform
	// Referrers also copies the referrers of the image, such as signatures and attestations, and their referrers.
	Referrers bool
	Progress  Progress
}

// maxReferrers limits the depth of referrers of referrers.
const maxReferrers = 8

// Copy copies an image byte for byte, and returns the descriptor of its manifest or index. It does not use the store.
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
		if d.Size > registry.MaxManifest {
			return nil, fmt.Errorf("index %s has %d bytes, the limit is %d", d.Digest, d.Size, registry.MaxManifest)
		}
		return content.FetchAll(ctx, src, d)
	}
}

func copyOptions(src Source, dst Destination, progress Progress) oras.CopyGraphOptions {
	opts := oras.CopyGraphOptions{Concurrency: parallelLayers, MaxMetadataBytes: registry.MaxManifest}
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
	if ok && both && from.repo.Registry() == to.repo.Registry() {
		opts.MountFrom = func(context.Context, ocispec.Descriptor) ([]string, error) {
			return []string{from.repo.Path()}, nil
		}
		opts.OnMounted = func(_ context.Context, d ocispec.Descriptor) error {
			progress(Event{Layer: d.Digest, State: Mounted, From: from.repo.Path()})
			return nil
		}
	}
	return opts
}

// copyReferrers copies the referrers of an image or index, and of the images of the index.
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

// subjectsOf returns an image or index and the entries of the index. Each may have referrers.
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

// copyCosign copies the signatures and attestations that cosign finds by tags (cosign, specs/SIGNATURE_SPEC.md). It used tags
// before registries had referrers.
func copyCosign(ctx context.Context, from *repositorySource, to *repositoryDestination, subject ocispec.Descriptor, opts oras.CopyGraphOptions) error {
	for _, suffix := range []string{"sig", "att", "sbom"} {
		tag := strings.Replace(subject.Digest.String(), ":", "-", 1) + "." + suffix
		m, err := from.repo.FetchManifest(ctx, tag)
		if registry.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		d := m.Descriptor
		if err := oras.CopyGraph(ctx, from, to, d, opts); err != nil {
			return err
		}
		if err := to.repo.Tag(ctx, d, tag); err != nil {
			return err
		}
	}
	return nil
}

// copyError removes oras's context from an error.
func copyError(err error) error {
	var c *oras.CopyError
	if errors.As(err, &c) {
		return c.Err
	}
	return err
}
