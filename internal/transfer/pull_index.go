package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/registry"
)

// unknownLayerError is the error of a layer that is not a tar of files, as in images for WebAssembly.
type unknownLayerError struct{ layer ocispec.Descriptor }

func (e *unknownLayerError) Error() string {
	return fmt.Sprintf("layer %s is of the unknown type %q", e.layer.Digest, e.layer.MediaType)
}

// pulledIndex is an index that is pulled, with the indexes in it that were read.
type pulledIndex struct {
	p      *puller
	root   *registry.Manifest
	inside []*registry.Manifest
}

// read is an oci.Read.
func (i *pulledIndex) read(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if d.Digest == i.root.Descriptor.Digest {
		return i.root.Raw, nil
	}
	if n := slices.IndexFunc(i.inside, func(m *registry.Manifest) bool { return m.Descriptor.Digest == d.Digest }); n >= 0 {
		return i.inside[n].Raw, nil
	}
	m, err := i.p.manifest(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("index %s in it: %w", d.Digest, err)
	}
	i.inside = append(i.inside, m)
	return m.Raw, nil
}

// choose returns the entries to pull. With AllPlatforms it leaves out entries that are neither images nor attestations.
func (i *pulledIndex) choose(ctx context.Context) ([]oci.Entry, error) {
	if i.p.o.AllPlatforms {
		list, err := oci.Entries(ctx, i.root.Descriptor, i.read, nil)
		list = slices.DeleteFunc(list, func(e oci.Entry) bool { return !oci.IsManifest(e.MediaType) })
		return distinct(list), err
	}
	if len(i.p.o.Platforms) == 0 {
		e, err := oci.Find(ctx, i.root.Descriptor, i.read, nil)
		return []oci.Entry{e}, err
	}
	var chosen []oci.Entry
	for _, want := range i.p.o.Platforms {
		e, err := oci.Find(ctx, i.root.Descriptor, i.read, &want)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, e)
	}
	return distinct(chosen), nil
}

func distinct(list []oci.Entry) []oci.Entry {
	seen := map[digest.Digest]bool{}
	return slices.DeleteFunc(list, func(e oci.Entry) bool {
		again := seen[e.Digest]
		seen[e.Digest] = true
		return again
	})
}

// write stores the indexes, each after those in it: if the root is in the store, so are the others.
func (i *pulledIndex) write() error {
	for _, m := range slices.Backward(i.inside) {
		if err := i.p.write(m); err != nil {
			return err
		}
	}
	return i.p.write(i.root)
}

// child downloads the image or attestation of an entry.
func (p *puller) child(ctx context.Context, d ocispec.Descriptor) error {
	m, err := p.manifest(ctx, d)
	if err != nil {
		return err
	}
	if !oci.IsManifest(m.Descriptor.MediaType) {
		return fmt.Errorf("manifest %s: an index lists it as %s, and it is a %s", d.Digest, d.MediaType, m.Descriptor.MediaType)
	}
	if oci.IsAttestation(d) {
		c, err := m.Parse()
		if err != nil {
			return err
		}
		return p.artifact(ctx, m, c)
	}
	err = p.image(ctx, m)
	var unknown *unknownLayerError
	if p.o.AllPlatforms && errors.As(err, &unknown) {
		return nil
	}
	return err
}

// manifest returns the manifest of an entry, from the store if the store has it.
func (p *puller) manifest(ctx context.Context, d ocispec.Descriptor) (*registry.Manifest, error) {
	if err := oci.CheckDescriptor(d); err != nil {
		return nil, err
	}
	if raw, err := p.local.Store.ReadBlob(d.Digest); err == nil {
		return &registry.Manifest{Descriptor: d, Raw: raw}, nil
	}
	return p.repo.FetchManifest(ctx, d.Digest.String())
}
