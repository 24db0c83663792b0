package registry

import (
	"encoding/json"
	"fmt"
	"mime"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/oci"
)

// Manifest is a manifest or index, as a registry sends it.
type Manifest struct {
	Descriptor ocispec.Descriptor
	Raw        []byte
}

// Document has the fields of a manifest and of an index.
type Document struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType"`
	Config        ocispec.Descriptor   `json:"config"`
	Layers        []ocispec.Descriptor `json:"layers"`
	Manifests     []ocispec.Descriptor `json:"manifests"`
	Subject       *ocispec.Descriptor  `json:"subject"`
}

// Parse decodes a manifest or index, and checks the descriptors of a manifest. What an index lists is checked where it is used: it may have entries that only other
// tools understand.
func (m *Manifest) Parse() (*Document, error) {
	var c Document
	if err := json.Unmarshal(m.Raw, &c); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", m.Descriptor.Digest, err)
	}
	all := append([]ocispec.Descriptor{}, c.Layers...)
	if c.Subject != nil {
		all = append(all, *c.Subject)
	}
	if c.Config.Digest != "" {
		all = append(all, c.Config)
	}
	for _, d := range all {
		if err := oci.CheckDescriptor(d); err != nil {
			return nil, fmt.Errorf("manifest %s: %w", m.Descriptor.Digest, err)
		}
	}
	return &c, nil
}

// setType finds out what the bytes are: what they say themselves counts, then the header, then what they have. Bytes that
// could be read as both an index and a manifest are refused (CVE-2021-41190).
func (m *Manifest) setType(header string) error {
	c, err := m.Parse()
	if err != nil {
		return err
	}
	m.Descriptor.MediaType = c.typeOf(header)
	switch t := m.Descriptor.MediaType; {
	case oci.IsIndex(t):
		if c.Config.Digest != "" || len(c.Layers) > 0 {
			return fmt.Errorf("its manifest is ambiguous: an index with a config or layers")
		}
	case oci.IsManifest(t):
		if len(c.Manifests) > 0 {
			return fmt.Errorf("its manifest is ambiguous: a manifest of an image that lists manifests")
		}
	case oci.IsSchema1(t):
		return fmt.Errorf("its manifest is of schema 1, which Docker gave up in 2019: push the image again with a newer tool")
	default:
		return fmt.Errorf("its manifest is of the unknown type %q", t)
	}
	return nil
}

func (c *Document) typeOf(header string) string {
	if c.MediaType != "" {
		return c.MediaType
	}
	t, _, err := mime.ParseMediaType(header)
	if err == nil && (oci.IsManifestOrIndex(t) || oci.IsSchema1(t)) {
		return t
	}
	switch {
	case len(c.Manifests) > 0:
		return ocispec.MediaTypeImageIndex
	case c.Config.Digest != "":
		return ocispec.MediaTypeImageManifest
	}
	return t
}
