package oci

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// CheckDigest returns an error for a digest that is not a sha256 of 64 hexadecimal digits (OCI image-spec, descriptor.md):
// whatever comes from outside is checked before anything is called after it.
func CheckDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("invalid digest %.100q", d)
	}
	if d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("digest %s: only sha256 is supported", d)
	}
	return nil
}

// CheckDescriptor returns an error for a descriptor with an invalid digest or size.
func CheckDescriptor(d ocispec.Descriptor) error {
	if err := CheckDigest(d.Digest); err != nil {
		return err
	}
	if d.Size < 0 {
		return fmt.Errorf("%s has the invalid size %d", d.Digest, d.Size)
	}
	return nil
}

// ParseManifest reads the manifest of an image, whose config and layers have valid descriptors then. One that says that it is
// something else is refused, as by [ParseIndex]. name is what errors call it.
func ParseManifest(name digest.Digest, raw []byte) (*ocispec.Manifest, error) {
	var both struct {
		ocispec.Manifest
		Manifests json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &both); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", name, err)
	}
	if t := both.MediaType; t != "" && !IsManifest(t) {
		return nil, fmt.Errorf("manifest %s says that its type is %q", name, t)
	}
	if both.Manifests != nil {
		return nil, fmt.Errorf("manifest %s lists manifests, as an index does", name)
	}
	if err := CheckDescriptor(both.Config); err != nil {
		return nil, fmt.Errorf("manifest %s: config: %w", name, err)
	}
	for i, l := range both.Layers {
		if err := CheckDescriptor(l); err != nil {
			return nil, fmt.Errorf("manifest %s: layer %d: %w", name, i+1, err)
		}
	}
	return &both.Manifest, nil
}

// DiffIDs returns those of an image config, all of them valid.
func DiffIDs(config []byte) ([]digest.Digest, error) {
	var c struct {
		RootFS ocispec.RootFS `json:"rootfs"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fmt.Errorf("image config: %w", err)
	}
	for i, id := range c.RootFS.DiffIDs {
		if err := CheckDigest(id); err != nil {
			return nil, fmt.Errorf("image config: layer %d: %w", i+1, err)
		}
	}
	return c.RootFS.DiffIDs, nil
}
