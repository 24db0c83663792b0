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

	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/store"
)

// setMediaTypes gives a manifest and its layers the media types of one family. Docker does not specify the one for zstd; BuildKit and
// containerd know it.
func setMediaTypes(m *ocispec.Manifest, docker bool) {
	layer := oci.LayerTypeOCI
	m.MediaType, m.Config.MediaType = ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig
	if docker {
		layer = oci.LayerTypeDocker
		m.MediaType, m.Config.MediaType = oci.DockerManifest, oci.DockerConfig
	}
	for i, l := range m.Layers {
		m.Layers[i].MediaType = layer(l.MediaType)
	}
}

// PlatformError is the error of an index without an image for a platform in the store.
type PlatformError struct{ Platform string }

func (e *PlatformError) Error() string {
	return "no image for platform " + e.Platform + " is in the store"
}

// Index reads an index of the store.
func (s *Images) Index(target ocispec.Descriptor) (*ocispec.Index, error) {
	raw, err := s.store.ReadBlob(target.Digest)
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	return oci.ParseIndex(target, raw)
}

// WriteIndex writes an index of manifests of the store, and returns its descriptor. It gives the index no name.
func (s *Images) WriteIndex(list []ocispec.Descriptor, annotations map[string]string, dockerTypes bool) (ocispec.Descriptor, error) {
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: list, Annotations: annotations}
	index.SchemaVersion = 2
	if dockerTypes {
		index.MediaType = oci.DockerManifestList
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

// readIndex is an oci.Read of the store, which may have only a part of an index.
func (s *Images) readIndex(_ context.Context, d ocispec.Descriptor) ([]byte, error) {
	raw, err := s.store.ReadBlob(d.Digest)
	if errors.Is(err, store.ErrNotFound) {
		err = errors.Join(oci.ErrAbsent, err)
	}
	return raw, err
}

// child returns the manifest for a platform of those in an index and in the store. Without a platform it is the manifest for
// this host, or else the first.
func (s *Images) child(target ocispec.Descriptor, want *ocispec.Platform) (ocispec.Descriptor, error) {
	there, err := s.present(target)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if e, ok := oci.Choose(there, want); ok {
		return e.Descriptor, nil
	}
	if want != nil {
		return ocispec.Descriptor{}, &PlatformError{platforms.Format(*want)}
	}
	if len(there) == 0 {
		return ocispec.Descriptor{}, fmt.Errorf("index %s: none of its images is in the store: %w", target.Digest, store.ErrNotFound)
	}
	return there[0].Descriptor, nil
}

// Entries returns the entries of an index, and of the indexes in it that are in the store.
func (s *Images) Entries(target ocispec.Descriptor) ([]oci.Entry, error) {
	list, err := oci.Entries(context.Background(), target, s.readIndex, nil)
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	return list, nil
}

// present returns the images of an index whose manifests are in the store.
func (s *Images) present(target ocispec.Descriptor) ([]oci.Entry, error) {
	list, err := s.Entries(target)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(e oci.Entry) bool {
		if !oci.IsImage(e.Descriptor) {
			return true
		}
		return !s.isImageHere(e.Descriptor)
	}), nil
}

// isImageHere reports whether a manifest is in the store and is an image: an index may also list artifacts as manifests. A
// manifest that cannot be read counts as an image, for its error to be reported.
func (s *Images) isImageHere(d ocispec.Descriptor) bool {
	raw, err := s.store.ReadBlob(d.Digest)
	if err != nil {
		return !errors.Is(err, store.ErrNotFound)
	}
	var m struct {
		Config ocispec.Descriptor `json:"config"`
	}
	return json.Unmarshal(raw, &m) != nil || oci.IsImageConfig(m.Config.MediaType)
}

// Part is one platform of an index. Image is nil if it is not in the store.
type Part struct {
	Descriptor ocispec.Descriptor
	Image      *Image
}

// Parts returns the platforms of an index, in its order, without attestations and artifacts.
func (s *Images) Parts(target ocispec.Descriptor) ([]Part, error) {
	list, err := s.Entries(target)
	if err != nil {
		return nil, err
	}
	var parts []Part
	for _, e := range list {
		if !oci.IsImage(e.Descriptor) {
			continue
		}
		p := Part{Descriptor: e.Descriptor}
		if _, err := s.store.StatBlob(e.Digest); err == nil {
			if !s.isImageHere(e.Descriptor) {
				continue
			}
			if p.Image, err = s.load(e.Descriptor); err != nil {
				return nil, err
			}
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// FindFor is Find for one platform of an index, nil for this host's. The error may be a *PlatformError.
func (s *Images) FindFor(ctx context.Context, ref string, want *ocispec.Platform) (*Image, error) {
	target, err := s.resolveHeld(ctx, ref)
	if err != nil {
		return nil, err
	}
	root := target
	if oci.IsIndex(target.MediaType) {
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

// IsMissing reports whether an error of Find or FindFor means that the image does not exist, at least for the platform.
func IsMissing(err error) bool {
	var platform *PlatformError
	return isNotFound(err) || errors.As(err, &platform)
}

// Root returns the manifest or index that a name points at. The error may be a *NotFoundError.
func (s *Images) Root(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	return s.resolveHeld(ctx, ref)
}

// HasDigestName reports whether a manifest or index has a name by digest, and so is in a registry.
func (s *Images) HasDigestName(d digest.Digest) bool {
	names, _ := s.store.Names().ListCached()
	return slices.ContainsFunc(names, func(n store.Name) bool {
		return n.Target.Digest == d && strings.HasSuffix(n.Ref, "@"+d.String())
	})
}

// Keep records the images of an index or manifest that was pulled or loaded, and points names at it: tags, and names by
// digest. The images are in the store. Keep returns the image for this host, or else the first.
func (s *Images) Keep(ctx context.Context, root ocispec.Descriptor, names ...string) (_ *Image, err error) {
	for _, n := range names {
		if _, err := ParseName(n); err != nil {
			return nil, err
		}
	}
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

// described returns the images of an index or manifest that are in the store, and their IDs. The image for this host is
// first.
func (s *Images) described(root ocispec.Descriptor) (images []*Image, ids []digest.Digest, err error) {
	targets := []ocispec.Descriptor{root}
	if oci.IsIndex(root.MediaType) {
		there, err := s.present(root)
		if err != nil {
			return nil, nil, err
		}
		if first, ok := oci.Choose(there, nil); ok {
			i := slices.IndexFunc(there, func(e oci.Entry) bool { return e.Digest == first.Digest })
			there[0], there[i] = there[i], there[0]
		}
		targets = nil
		for _, e := range there {
			targets = append(targets, e.Descriptor)
		}
	}
	for _, t := range targets {
		img, err := s.load(t)
		// A killed prune may have left only the manifest of an image for another platform.
		if t.Digest != root.Digest && errors.Is(err, store.ErrNotFound) {
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

// recorded reports whether the image has a record, and the record can be read.
func (s *Images) recorded(img *Image) bool {
	old, err := s.store.Records().Get(img.ID.String())
	if err != nil {
		return false
	}
	same, err := s.load(old.Target)
	return err == nil && same.ID == img.ID
}
