package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/store"
)

// The media types that Docker has beside those of OCI (distribution, "Image Manifest Version 2, Schema 2").
const (
	dockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	dockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig       = "application/vnd.docker.container.image.v1+json"
)

// dockerLayers are Docker's media types of layers by those of OCI.
var dockerLayers = map[string]string{
	ocispec.MediaTypeImageLayer:     "application/vnd.docker.image.rootfs.diff.tar",
	ocispec.MediaTypeImageLayerGzip: "application/vnd.docker.image.rootfs.diff.tar.gzip",
}

// useDockerTypes renames the media types of a manifest. Docker has none for zstd.
func useDockerTypes(m *ocispec.Manifest) {
	m.MediaType, m.Config.MediaType = dockerManifest, dockerConfig
	for i, l := range m.Layers {
		if t, ok := dockerLayers[l.MediaType]; ok {
			m.Layers[i].MediaType = t
		}
	}
}

// IsImageConfig reports whether a media type is that of an image's config.
func IsImageConfig(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == dockerConfig
}

// IsIndex reports whether a media type is that of an index of manifests.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == dockerManifestList
}

// IsManifest reports whether a media type is that of an image's manifest.
func IsManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == dockerManifest
}

// PlatformError says that an index has no image for a platform in the store.
type PlatformError struct{ Platform string }

func (e *PlatformError) Error() string {
	return "no image for platform " + e.Platform + " is in the store"
}

// Index reads an index that is in the store.
func (s *Images) Index(target ocispec.Descriptor) (*ocispec.Index, error) {
	raw, err := s.store.ReadBlob(target.Digest)
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("index %s: %w", target.Digest, err)
	}
	return &index, nil
}

// WriteIndex writes an index of manifests that are in the store, and returns its descriptor. Nothing names it yet.
func (s *Images) WriteIndex(list []ocispec.Descriptor, annotations map[string]string, dockerTypes bool) (ocispec.Descriptor, error) {
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: list, Annotations: annotations}
	index.SchemaVersion = 2
	if dockerTypes {
		index.MediaType = dockerManifestList
	}
	raw, err := json.Marshal(index)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("write index: %w", err)
	}
	d, err := s.store.WriteBlob(raw)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("write index: %w", err)
	}
	return ocispec.Descriptor{MediaType: index.MediaType, Digest: d, Size: int64(len(raw))}, nil
}

// IsAttestation reports whether an index keeps under this descriptor what BuildKit says about an image, not an image.
func IsAttestation(d ocispec.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" ||
		d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

// Choose returns, of an index's descriptors, the best for a platform (nil for this host's); ok is false where none fits.
func Choose(list []ocispec.Descriptor, want *ocispec.Platform) (best ocispec.Descriptor, ok bool) {
	match := platforms.Default()
	if want != nil {
		match = platforms.Only(*want)
	}
	for _, d := range list {
		if d.Platform == nil || IsAttestation(d) || !match.Match(*d.Platform) {
			continue
		}
		if !ok || match.Less(*d.Platform, *best.Platform) {
			best, ok = d, true
		}
	}
	return best, ok
}

// child is the manifest in an index that is for a platform, of those in the store. Without a platform, it is this host's,
// else the first that there is.
func (s *Images) child(target ocispec.Descriptor, want *ocispec.Platform) (ocispec.Descriptor, error) {
	index, err := s.Index(target)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	there := s.present(index)
	if d, ok := Choose(there, want); ok {
		return d, nil
	}
	if want != nil {
		return ocispec.Descriptor{}, &PlatformError{platforms.Format(*want)}
	}
	if len(there) == 0 {
		return ocispec.Descriptor{}, fmt.Errorf("index %s: none of its images is in the store: %w", target.Digest, store.ErrNotFound)
	}
	return there[0], nil
}

// present are the images of an index whose manifests are in the store.
func (s *Images) present(index *ocispec.Index) []ocispec.Descriptor {
	return slices.DeleteFunc(slices.Clone(index.Manifests), func(d ocispec.Descriptor) bool {
		if IsAttestation(d) || !IsManifest(d.MediaType) {
			return true
		}
		_, err := s.store.StatBlob(d.Digest)
		return err != nil
	})
}

// Part is one platform of an index. Image is nil for one that is not in the store.
type Part struct {
	Descriptor ocispec.Descriptor
	Image      *Image
}

// Parts lists the platforms of an index, in its order, attestations left out.
func (s *Images) Parts(target ocispec.Descriptor) ([]Part, error) {
	index, err := s.Index(target)
	if err != nil {
		return nil, err
	}
	var parts []Part
	for _, d := range index.Manifests {
		if IsAttestation(d) || !IsManifest(d.MediaType) {
			continue
		}
		p := Part{Descriptor: d}
		if _, err := s.store.StatBlob(d.Digest); err == nil {
			if p.Image, err = s.load(d); err != nil {
				return nil, err
			}
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// FindFor is Find for one platform of a name that stands for several (nil: this host's); *PlatformError.
func (s *Images) FindFor(ctx context.Context, ref string, want *ocispec.Platform) (*Image, error) {
	target, err := s.resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	root := target
	if IsIndex(target.MediaType) {
		if target, err = s.child(target, want); err != nil {
			return nil, fmt.Errorf("image %s: %w", ref, err)
		}
	}
	img, err := s.load(target)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", ref, err)
	}
	if want != nil && target.Digest == root.Digest && img.Config.Architecture != "" && !platforms.Only(*want).Match(img.Config.Platform) {
		return nil, fmt.Errorf("image %s is for %s: %w", ref, platforms.Format(img.Config.Platform), &PlatformError{platforms.Format(*want)})
	}
	img.Root = root
	return img, nil
}

// IsMissing reports whether an error of Find means that there is no such image, or not for the platform.
func IsMissing(err error) bool {
	var platform *PlatformError
	return isNotFound(err) || errors.As(err, &platform)
}

// Root returns what a name points at: a manifest or an index; *NotFoundError.
func (s *Images) Root(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	return s.resolve(ctx, ref)
}

// HasDigestName reports whether a name by digest points at a manifest or index: a registry has it.
func (s *Images) HasDigestName(d digest.Digest) bool {
	names, _ := s.store.Names().ListCached()
	return slices.ContainsFunc(names, func(n store.Name) bool {
		return n.Target.Digest == d && strings.HasSuffix(n.Ref, "@"+d.String())
	})
}

// Keep records the images of an index or manifest that came from elsewhere, and points names at it: tags, and names by
// digest. What it describes is in the store. It returns the image for this host, or else the first.
func (s *Images) Keep(ctx context.Context, root ocispec.Descriptor, names ...string) (_ *Image, err error) {
	lock, err := s.store.Lock(ctx, "images")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	images, ids, err := s.described(root)
	if err != nil {
		return nil, err
	}
	for _, img := range images {
		if s.recorded(img) {
			continue
		}
		if err := s.store.Records().Set(img.ID.String(), img.Target); err != nil {
			return nil, err
		}
	}
	for _, n := range names {
		if err := s.store.Names().Set(n, root, ids...); err != nil {
			return nil, err
		}
	}
	images[0].Root = root
	return images[0], nil
}

// described returns the images that an index or manifest describes, of those in the store, and their IDs: that for this
// host first.
func (s *Images) described(root ocispec.Descriptor) (images []*Image, ids []digest.Digest, err error) {
	targets := []ocispec.Descriptor{root}
	if IsIndex(root.MediaType) {
		index, err := s.Index(root)
		if err != nil {
			return nil, nil, err
		}
		targets = s.present(index)
		if first, ok := Choose(targets, nil); ok {
			i := slices.IndexFunc(targets, func(d ocispec.Descriptor) bool { return d.Digest == first.Digest })
			targets[0], targets[i] = targets[i], targets[0]
		}
	}
	for _, t := range targets {
		img, err := s.load(t)
		// Of an index: what a sweep that was killed has left of another platform, and what is no image.
		if t.Digest != root.Digest && (errors.Is(err, store.ErrNotFound) || err == nil && !IsImageConfig(img.Manifest.Config.MediaType)) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if !slices.Contains(ids, img.ID) {
			images, ids = append(images, img), append(ids, img.ID)
		}
	}
	if len(images) == 0 {
		return nil, nil, fmt.Errorf("index %s: none of its images is in the store: %w", root.Digest, store.ErrNotFound)
	}
	return images, ids, nil
}

// recorded reports whether the image has a record that can be used.
func (s *Images) recorded(img *Image) bool {
	old, err := s.store.Records().Get(img.ID.String())
	if err != nil {
		return false
	}
	same, err := s.load(old.Target)
	return err == nil && same.ID == img.ID
}
