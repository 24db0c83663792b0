package oci

import (
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// layerTypes are the media types of layers by their compression. Docker has none for zstd, but BuildKit writes one.
// No specification names the last two, which registries do not have, but archives to import do.
var layerTypes = []struct {
	compression string
	oci, docker string
}{
	{"none", ocispec.MediaTypeImageLayer, DockerLayer},
	{"gzip", ocispec.MediaTypeImageLayerGzip, DockerLayerGzip},
	{"zstd", ocispec.MediaTypeImageLayerZstd, DockerLayerZstd},
	{"bzip2", "application/vnd.oci.image.layer.v1.tar+bzip2", ""},
	{"xz", "application/vnd.oci.image.layer.v1.tar+xz", ""},
}

// LayerType returns OCI's media type of layers with a compression (none, gzip, zstd, bzip2, xz), "" if there is none.
func LayerType(compression string) string {
	for _, t := range layerTypes {
		if t.compression == compression {
			return t.oci
		}
	}
	return ""
}

// LayerTypeOCI returns OCI's media type for Docker's type of a layer. Other types stay as they are.
func LayerTypeOCI(mediaType string) string {
	for _, t := range layerTypes {
		if t.docker != "" && t.docker == mediaType {
			return t.oci
		}
	}
	return mediaType
}

// LayerTypeDocker returns Docker's media type for OCI's type of a layer. Other types stay as they are.
func LayerTypeDocker(mediaType string) string {
	for _, t := range layerTypes {
		if t.docker != "" && t.oci == mediaType {
			return t.docker
		}
	}
	return mediaType
}

// CheckLayers returns an error if a manifest has more or fewer layers than its config has DiffIDs. name is what the error
// calls the manifest.
func CheckLayers(name digest.Digest, layers []ocispec.Descriptor, diffIDs []digest.Digest) error {
	if len(layers) != len(diffIDs) {
		return fmt.Errorf("manifest %s has %d layers, its config %d", name, len(layers), len(diffIDs))
	}
	return nil
}
