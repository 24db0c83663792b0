// Package oci knows the documents of the image specification as they come from elsewhere: media types, descriptors, and
// which manifest of an index is for a platform. It reads nothing itself.
package oci

import (
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The media types that Docker has beside those of OCI (distribution, "Image Manifest Version 2, Schema 2").
const (
	DockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	DockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerConfig       = "application/vnd.docker.container.image.v1+json"
	DockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"
	DockerLayerGzip    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	DockerLayerZstd    = "application/vnd.docker.image.rootfs.diff.tar.zstd"
	dockerSchema1      = "application/vnd.docker.distribution.manifest.v1"
)

// IsIndex reports whether a media type is that of an index of manifests.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == DockerManifestList
}

// IsManifest reports whether a media type is that of an image's manifest.
func IsManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == DockerManifest
}

// IsManifestOrIndex reports whether a registry keeps content of a media type as a manifest, not as a blob.
func IsManifestOrIndex(mediaType string) bool { return IsManifest(mediaType) || IsIndex(mediaType) }

// IsSchema1 reports whether a media type is that of a manifest of Docker's first schema, signed or not.
func IsSchema1(mediaType string) bool { return strings.HasPrefix(mediaType, dockerSchema1) }

// IsImageConfig reports whether a media type is that of an image's config.
func IsImageConfig(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == DockerConfig
}

// IsLayer reports whether a media type is that of a layer of files, packed in a way that can be unpacked.
func IsLayer(mediaType string) bool {
	switch mediaType {
	case ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd,
		DockerLayer, DockerLayerGzip, DockerLayerZstd:
		return true
	}
	return false
}

// IsForeignLayer reports whether a layer is one that registries need not have (image-spec, layer.md, "Non-Distributable
// Layers").
func IsForeignLayer(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.nondistributable.v1.tar") ||
		strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.foreign.diff.tar")
}

// IsAttestation reports whether an index keeps under this descriptor what BuildKit attests of an image, not an image.
func IsAttestation(d ocispec.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" ||
		d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}
