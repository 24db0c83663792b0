package engineapi

import (
	"errors"
	"strconv"

	imagetypes "github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/store"
)

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// root is the descriptor of an image's manifest, or of the index that its name points at.
func root(img *image.Image) *ocispec.Descriptor {
	d := img.Root
	if d.Digest == "" {
		d = img.Target
	}
	return &d
}

// manifests describes the manifests of an image: its own, or the entries of its index.
func manifests(o *requestStore, img *image.Image) ([]imagetypes.ManifestSummary, error) {
	top := root(img)
	if !oci.IsIndex(top.MediaType) {
		return []imagetypes.ManifestSummary{imageManifest(o, img.Target, img)}, nil
	}
	entries, err := o.images.Entries(*top)
	if err != nil {
		return nil, err
	}
	parts, err := o.images.Parts(*top)
	if err != nil {
		return nil, err
	}
	byDigest := map[digest.Digest]*image.Image{}
	isPart := map[digest.Digest]bool{}
	for _, p := range parts {
		byDigest[p.Descriptor.Digest], isPart[p.Descriptor.Digest] = p.Image, true
	}
	var list []imagetypes.ManifestSummary
	for _, e := range entries {
		if isPart[e.Digest] {
			list = append(list, imageManifest(o, e.Descriptor, byDigest[e.Digest]))
			continue
		}
		m := imagetypes.ManifestSummary{ID: e.Digest.String(), Descriptor: e.Descriptor, Kind: imagetypes.ManifestKindUnknown}
		if of := e.Annotations["vnd.docker.reference.digest"]; of != "" {
			m.Kind, m.AttestationData = imagetypes.ManifestKindAttestation, &imagetypes.AttestationProperties{For: digest.Digest(of)}
		}
		m.Available = addContent(o, &m, e.Descriptor)
		m.Size.Total = m.Size.Content
		list = append(list, m)
	}
	return list, nil
}

// imageManifest describes the manifest of an image, which is nil if the store does not have it.
func imageManifest(o *requestStore, d ocispec.Descriptor, img *image.Image) imagetypes.ManifestSummary {
	m := imagetypes.ManifestSummary{ID: d.Digest.String(), Descriptor: d, Kind: imagetypes.ManifestKindImage}
	data := &imagetypes.ImageProperties{Containers: []string{}}
	m.ImageData = data
	if d.Platform != nil {
		data.Platform = *d.Platform
	}
	if img == nil {
		return m
	}
	m.Available = true
	if d.Platform == nil {
		data.Platform = img.Config.Platform
	}
	for _, blob := range append([]ocispec.Descriptor{d, img.Manifest.Config}, img.Manifest.Layers...) {
		addContent(o, &m, blob)
	}
	data.Size.Unpacked = img.Size
	m.Size.Total = m.Size.Content + img.Size
	return m
}

// addContent adds the size of a blob that the store has.
func addContent(o *requestStore, m *imagetypes.ManifestSummary, d ocispec.Descriptor) bool {
	size, err := o.store.StatBlob(d.Digest)
	if errors.Is(err, store.ErrNotFound) || err != nil {
		return false
	}
	m.Size.Content += size
	return true
}
