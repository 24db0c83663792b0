package attest

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/moby/buildkit/util/attestation"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	artifactType  = "application/vnd.docker.attestation.manifest.v1+json"
	predicateNote = "in-toto.io/predicate-type"
)

// Manifest is the manifest that holds an image's attestations, its config, and the statements.
type Manifest struct {
	Descriptor ocispec.Descriptor // for the index
	Blobs      [][]byte           // all that it is made of, itself included and last
}

// NewManifest makes the manifest of statements about an image, in the form of an image for a platform that is none: that of
// BuildKit's exporters with oci-artifact=false, and of all before 0.31.
func NewManifest(image ocispec.Descriptor, list []*Attestation, subjects []Subject) (*Manifest, error) {
	out := &Manifest{}
	m, err := out.statements(list, subjects)
	if err != nil {
		return nil, err
	}
	config := ocispec.Image{Platform: *nowhere()}
	config.RootFS.Type = "layers"
	for _, l := range m.Layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.Digest)
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("write attestation: %w", err)
	}
	m.Config = out.add(ocispec.MediaTypeImageConfig, raw)
	return out.finish(m, image)
}

// NewArtifact is NewManifest in the form of an artifact that refers to the image, so that registries list it among the
// image's referrers, too: BuildKit's own since 0.31 (image-spec, "Guidelines for Artifact Usage").
func NewArtifact(image ocispec.Descriptor, list []*Attestation, subjects []Subject) (*Manifest, error) {
	out := &Manifest{}
	m, err := out.statements(list, subjects)
	if err != nil {
		return nil, err
	}
	m.ArtifactType = artifactType
	m.Config = ocispec.DescriptorEmptyJSON
	out.Blobs = append(out.Blobs, m.Config.Data)
	m.Subject = &ocispec.Descriptor{MediaType: image.MediaType, Digest: image.Digest, Size: image.Size}
	return out.finish(m, image)
}

// statements writes the statements, and begins the manifest that lists them.
func (m *Manifest) statements(list []*Attestation, subjects []Subject) (*ocispec.Manifest, error) {
	manifest := &ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b *Attestation) int { return rank(a) - rank(b) })
	for _, a := range list {
		data, err := a.Statement(subjects)
		if err != nil {
			return nil, fmt.Errorf("write attestation: %w", err)
		}
		d := m.add(payloadType, data)
		d.Annotations = map[string]string{predicateNote: a.PredicateType}
		manifest.Layers = append(manifest.Layers, d)
	}
	return manifest, nil
}

// finish writes the manifest, and describes it for the index (BuildKit, commitAttestationsManifest).
func (m *Manifest) finish(manifest *ocispec.Manifest, image ocispec.Descriptor) (*Manifest, error) {
	raw, err := json.MarshalIndent(manifest, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write attestation: %w", err)
	}
	m.Descriptor = m.add(manifest.MediaType, raw)
	m.Descriptor.Platform = nowhere()
	m.Descriptor.Annotations = map[string]string{
		attestation.DockerAnnotationReferenceType:   attestation.DockerAnnotationReferenceTypeDefault,
		attestation.DockerAnnotationReferenceDigest: image.Digest.String(),
	}
	return m, nil
}

func (m *Manifest) add(mediaType string, data []byte) ocispec.Descriptor {
	m.Blobs = append(m.Blobs, data)
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// nowhere is the platform that nobody has.
func nowhere() *ocispec.Platform { return &ocispec.Platform{Architecture: "unknown", OS: "unknown"} }
