package layout

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/compression"
)

// readDocker makes an index of a Docker archive that is no OCI layout: manifests are made of its configs and layers, which
// are read once for their digests.
func (s *Source) readDocker(ctx context.Context) error {
	var entries []dockerEntry
	if _, err := readJSON(s.files, dockerManifestName, &entries); err != nil {
		return err
	}
	for _, e := range entries {
		m, err := s.dockerImage(ctx, e)
		if err != nil {
			return err
		}
		if len(e.RepoTags) == 0 {
			s.index.Manifests = append(s.index.Manifests, m)
		}
		for _, t := range e.RepoTags {
			named := m
			named.Annotations = map[string]string{nameAnnotation: fullName(t)}
			s.index.Manifests = append(s.index.Manifests, named)
		}
	}
	return nil
}

// fullName completes a name as Docker does.
func fullName(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.TagNameOnly(named).String()
}

func (s *Source) dockerImage(ctx context.Context, e dockerEntry) (ocispec.Descriptor, error) {
	var config struct {
		RootFS ocispec.RootFS `json:"rootfs"`
	}
	var none ocispec.Descriptor
	raw, err := readJSON(s.files, e.Config, &config)
	if err != nil {
		return none, err
	}
	if len(config.RootFS.DiffIDs) != len(e.Layers) {
		return none, fmt.Errorf("config %s has %d layers, manifest.json %d", e.Config, len(config.RootFS.DiffIDs), len(e.Layers))
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	m.Config = s.keep(ocispec.MediaTypeImageConfig, raw)
	for i, name := range e.Layers {
		d, err := s.dockerLayer(ctx, name, config.RootFS.DiffIDs[i])
		if err != nil {
			return none, fmt.Errorf("layer %s: %w", name, err)
		}
		m.Layers = append(m.Layers, d)
	}
	if raw, err = json.Marshal(m); err != nil {
		return none, err
	}
	return s.keep(m.MediaType, raw), nil
}

func (s *Source) keep(mediaType string, raw []byte) ocispec.Descriptor {
	d := digest.FromBytes(raw)
	s.made[d] = raw
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw))}
}

// dockerLayer digests a layer as it stands. That of a plain one must be the one that the config says.
func (s *Source) dockerLayer(ctx context.Context, name string, id digest.Digest) (ocispec.Descriptor, error) {
	var none ocispec.Descriptor
	r, size, err := s.files.open(name)
	if err != nil {
		return none, err
	}
	defer func() { _ = r.Close() }()
	hash := digest.SHA256.Digester()
	head := make([]byte, 10)
	n, err := io.ReadFull(r, head)
	if err != nil {
		return none, fmt.Errorf("it is too short for a layer: %w", err)
	}
	hash.Hash().Write(head[:n])
	if _, err := io.Copy(hash.Hash(), contextReader{ctx, r}); err != nil {
		return none, err
	}
	d := ocispec.Descriptor{Digest: hash.Digest(), Size: size}
	switch compression.Detect(head) {
	case compression.None:
		d.MediaType = ocispec.MediaTypeImageLayer
		if d.Digest != id {
			return none, fmt.Errorf("digest mismatch: the config says %s, its content is %s", id, d.Digest)
		}
	case compression.Gzip:
		d.MediaType = ocispec.MediaTypeImageLayerGzip
	case compression.Zstd:
		d.MediaType = ocispec.MediaTypeImageLayerZstd
	default:
		return none, fmt.Errorf("its compression is one that registries do not take")
	}
	s.names[d.Digest] = name
	return d, nil
}
