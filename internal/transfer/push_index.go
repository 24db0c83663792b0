package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/registry"
)

// emptyIndexError is the error of an index of which no image is in the store.
type emptyIndexError struct{ index digest.Digest }

func (e *emptyIndexError) Error() string {
	return fmt.Sprintf("index %s: none of its images is in the store", e.index)
}

// readIndex is an oci.Read of the store.
func (p *pusher) readIndex(_ context.Context, d ocispec.Descriptor) ([]byte, error) {
	if _, err := p.local.Store.StatBlob(d.Digest); err != nil {
		return nil, errors.Join(oci.ErrAbsent, err)
	}
	return p.local.Store.ReadBlob(d.Digest)
}

// pushedIndex is an index that is pushed, and the entries to push.
type pushedIndex struct {
	p        *pusher
	depth    int
	changed  bool
	kept     []ocispec.Descriptor // entries of the index in the registry
	children []*registry.Manifest // manifests that are in the store
}

// index pushes the images of an index. If some are neither in the store nor in the registry, it pushes the others as docker
// push does: one image alone, several with a new index.
func (p *pusher) index(ctx context.Context, root ocispec.Descriptor, depth int) (*registry.Manifest, error) {
	if depth > oci.MaxDepth {
		return nil, fmt.Errorf("index %s is nested too deeply: %d levels are followed", root.Digest, oci.MaxDepth)
	}
	raw, err := p.local.Store.ReadBlob(root.Digest)
	if err != nil {
		return nil, err
	}
	index, err := oci.ParseIndex(root, raw)
	if err != nil {
		return nil, err
	}
	i := &pushedIndex{p: p, depth: depth}
	for _, d := range index.Manifests {
		if err := i.add(ctx, d); err != nil {
			return nil, err
		}
	}
	if !i.changed {
		return &registry.Manifest{Descriptor: root, Raw: raw}, p.pushChildren(ctx, i.children)
	}
	if len(index.Manifests) > 1 && len(i.kept) == 1 && len(i.children) == 1 {
		return i.children[0], nil
	}
	if len(i.children) == 0 {
		return nil, &emptyIndexError{root.Digest}
	}
	index.Manifests = slices.DeleteFunc(i.kept, func(d ocispec.Descriptor) bool { return orphaned(d, i.kept) })
	if raw, err = json.Marshal(index); err != nil {
		return nil, err
	}
	root.Digest, root.Size = digest.FromBytes(raw), int64(len(raw))
	return &registry.Manifest{Descriptor: root, Raw: raw}, p.pushChildren(ctx, i.children)
}

// add pushes an entry of the index, or checks that the registry has it.
func (i *pushedIndex) add(ctx context.Context, d ocispec.Descriptor) error {
	m, err := i.local(ctx, d)
	if err != nil {
		return err
	}
	if m == nil {
		there, err := i.p.has(ctx, d)
		if there {
			i.kept = append(i.kept, d)
		}
		i.changed = i.changed || !there
		return err
	}
	if m.Descriptor.Digest != d.Digest {
		i.changed = true
		if _, err := i.p.local.Store.WriteBlob(m.Raw); err != nil {
			return err
		}
	}
	d.Digest, d.Size, d.MediaType = m.Descriptor.Digest, m.Descriptor.Size, m.Descriptor.MediaType
	i.kept, i.children = append(i.kept, d), append(i.children, m)
	return nil
}

// local pushes an image, or the images of a nested index, that is in the store. Otherwise it returns nil.
func (i *pushedIndex) local(ctx context.Context, d ocispec.Descriptor) (*registry.Manifest, error) {
	switch {
	case !i.isHere(d):
		return nil, nil
	case oci.IsManifest(d.MediaType):
		return i.p.image(ctx, d)
	case oci.IsIndex(d.MediaType):
		m, err := i.p.index(ctx, d, i.depth+1)
		var empty *emptyIndexError
		if errors.As(err, &empty) {
			return nil, nil
		}
		return m, err
	}
	return nil, nil // entries of unknown types are not pulled
}

func (i *pushedIndex) isHere(d ocispec.Descriptor) bool {
	if !isUsable(d) {
		return false // it cannot be in the store
	}
	_, err := i.p.local.Store.StatBlob(d.Digest)
	return err == nil
}

// isUsable reports whether a descriptor can be requested and stored.
func isUsable(d ocispec.Descriptor) bool { return oci.CheckDescriptor(d) == nil }

// has reports whether the registry has an entry: as a manifest or, if its type is unknown, as a blob.
func (p *pusher) has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if !isUsable(d) {
		return false, nil
	}
	there, err := p.repo.HasManifest(ctx, d)
	if err != nil || there || oci.IsManifestOrIndex(d.MediaType) {
		return there, err
	}
	return p.repo.HasBlob(ctx, d)
}

// orphaned reports whether a descriptor is an attestation of an image that is not in the list.
func orphaned(d ocispec.Descriptor, list []ocispec.Descriptor) bool {
	of, ok := d.Annotations["vnd.docker.reference.digest"]
	return ok && !slices.ContainsFunc(list, func(o ocispec.Descriptor) bool { return o.Digest.String() == of })
}

func (p *pusher) pushChildren(ctx context.Context, children []*registry.Manifest) error {
	for _, m := range children {
		if err := p.pushManifest(ctx, m, m.Descriptor.Digest.String()); err != nil {
			return err
		}
	}
	return nil
}
