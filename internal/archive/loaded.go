package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/oci"
)

// found is an image of an archive, verified, or an index of images. Manifest is nil for an image that came without.
type found struct {
	config   []byte
	manifest []byte
	packs    []ocispec.Descriptor
	index    *foundIndex // nil for a single image
	names    []string    // full
}

// images finds out what is in the archive. Where Docker's manifest.json and an OCI index are both there, the index tells
// the manifests and manifest.json adds names.
func (m *members) images() ([]*found, error) {
	docker, err := m.dockerImages()
	if err != nil {
		return nil, err
	}
	if _, ok := m.json[indexName]; !ok {
		if docker == nil {
			return nil, errors.New("the input is not an image archive: it has neither manifest.json nor index.json")
		}
		for _, d := range docker {
			if err := m.wants(d); err != nil {
				return nil, err
			}
		}
		return docker, nil
	}
	images, err := m.layoutImages()
	if err != nil {
		return nil, err
	}
	for _, d := range docker {
		i := slices.IndexFunc(images, func(f *found) bool { return f.has(d.config) })
		if i < 0 {
			if m.wants(d) == nil {
				images = append(images, d)
			}
			continue
		}
		for _, n := range d.names {
			if !slices.Contains(images[i].names, n) {
				images[i].names = append(images[i].names, n)
			}
		}
	}
	return images, nil
}

// dockerImages reads manifest.json.
func (m *members) dockerImages() ([]*found, error) {
	raw, ok := m.json[manifestName]
	if !ok {
		return nil, nil
	}
	var entries []dockerManifest
	if err := json.Unmarshal(raw, &entries); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	var images []*found
	for _, e := range entries {
		img, err := m.dockerImage(e)
		if err != nil {
			return nil, err
		}
		images = append(images, img)
	}
	return images, nil
}

func (m *members) dockerImage(e dockerManifest) (*found, error) {
	config, err := m.readJSON(e.Config, "config")
	if err != nil {
		return nil, err
	}
	base := strings.TrimSuffix(path.Base(e.Config), ".json")
	if want := digest.NewDigestFromEncoded(digest.SHA256, base); want.Validate() == nil && digest.FromBytes(config) != want {
		return nil, fmt.Errorf("config %s: digest mismatch: its content is %s", e.Config, digest.FromBytes(config))
	}
	ids, err := oci.DiffIDs(config)
	if err != nil {
		return nil, err
	}
	if len(ids) != len(e.Layers) {
		return nil, fmt.Errorf("config %s has %d layers, manifest.json %d", e.Config, len(ids), len(e.Layers))
	}
	img := &found{config: config, packs: []ocispec.Descriptor{}}
	for i, name := range e.Layers {
		l, err := m.layer(name, ids[i])
		if err != nil {
			return nil, err
		}
		img.packs = append(img.packs, l.pack)
	}
	for _, t := range e.RepoTags {
		named, err := reference.ParseNormalizedNamed(t)
		if err != nil {
			return nil, fmt.Errorf("manifest.json: invalid name %q: %w", t, err)
		}
		if named, ok := reference.TagNameOnly(named).(reference.NamedTagged); ok {
			img.names = append(img.names, named.String())
		}
	}
	return img, nil
}

// layoutImages reads index.json.
func (m *members) layoutImages() ([]*found, error) {
	raw, err := m.readJSON(indexName, "")
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	if len(index.Manifests) == 0 {
		return nil, errors.New("index.json names no image")
	}
	var images []*found
	known := map[digest.Digest]*found{}
	for _, d := range index.Manifests {
		if oci.IsAttestation(d) {
			continue
		}
		img := known[d.Digest]
		if img == nil {
			if img, err = m.described(d); err != nil {
				return nil, err
			}
			known[d.Digest] = img
			images = append(images, img)
		}
		if n := annotatedName(d); n != "" && !slices.Contains(img.names, n) {
			img.names = append(img.names, n)
		}
	}
	return images, nil
}

// annotatedName is the name that an index gives an image: the full one of containerd and Docker, or a reference name that
// is more than a tag.
func annotatedName(d ocispec.Descriptor) string {
	for _, n := range []string{d.Annotations[imageNameAnnotation], d.Annotations[ocispec.AnnotationRefName]} {
		if !strings.ContainsAny(n, "/:") {
			continue
		}
		if named, err := reference.ParseNormalizedNamed(n); err == nil {
			if _, digested := named.(reference.Digested); !digested {
				return reference.TagNameOnly(named).String()
			}
		}
	}
	return ""
}

// described is the image or the index that a descriptor names.
func (m *members) described(d ocispec.Descriptor) (*found, error) {
	raw, err := m.verifiedJSON(d, "manifest")
	if err != nil {
		return nil, err
	}
	var head struct {
		Manifests json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	if head.Manifests != nil {
		return m.index(d)
	}
	img, err := m.image(d)
	if err == nil {
		err = m.wants(img)
	}
	return img, err
}

// image is the image that a manifest describes.
func (m *members) image(d ocispec.Descriptor) (*found, error) {
	raw, err := m.verifiedJSON(d, "manifest")
	if err != nil {
		return nil, err
	}
	manifest, err := oci.ParseManifest(d.Digest, raw)
	if err != nil {
		return nil, err
	}
	config, err := m.verifiedJSON(manifest.Config, "config")
	if err != nil {
		return nil, err
	}
	ids, err := oci.DiffIDs(config)
	if err != nil {
		return nil, err
	}
	if err := oci.CheckLayers(d.Digest, manifest.Layers, ids); err != nil {
		return nil, err
	}
	for i, desc := range manifest.Layers {
		l, err := m.layer(blobName(desc.Digest), ids[i])
		if err != nil {
			return nil, err
		}
		if l.pack.Size != desc.Size {
			return nil, fmt.Errorf("layer %s: its size is %d, not the %d of the manifest", desc.Digest, l.pack.Size, desc.Size)
		}
		if l.pack.Digest != desc.Digest {
			return nil, fmt.Errorf("layer %s: digest mismatch: its content is %s", desc.Digest, l.pack.Digest)
		}
	}
	return &found{config: config, manifest: raw}, nil
}

func (m *members) verifiedJSON(d ocispec.Descriptor, what string) ([]byte, error) {
	if err := oci.CheckDescriptor(d); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	raw, err := m.readJSON(blobName(d.Digest), what)
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) != d.Size {
		return nil, fmt.Errorf("%s %s: it has %d bytes, not the %d of its descriptor", what, d.Digest, len(raw), d.Size)
	}
	if got := digest.FromBytes(raw); got != d.Digest {
		return nil, fmt.Errorf("%s %s: digest mismatch: its content is %s", what, d.Digest, got)
	}
	return raw, nil
}

// adopt records an image and gives it its names.
func (a *Archives) adopt(ctx context.Context, f *found) (*Loaded, error) {
	if f.index != nil {
		return a.adoptIndex(ctx, f)
	}
	var img *image.Image
	var err error
	if f.manifest != nil {
		img, err = a.Images.Adopt(ctx, f.manifest, f.config)
	} else {
		img, err = a.Images.Create(ctx, image.Draft{Config: f.config, Packs: f.packs})
	}
	if err != nil {
		return nil, err
	}
	return a.name(ctx, img, f.names, func(name string) error { return a.Images.Tag(ctx, img, name) })
}

// name gives an image its names.
func (a *Archives) name(ctx context.Context, img *image.Image, names []string, give func(name string) error) (*Loaded, error) {
	l := &Loaded{ID: img.ID, Replaced: map[string]digest.Digest{}}
	for _, n := range names {
		named, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			return nil, fmt.Errorf("invalid name %q: %w", n, err)
		}
		short := reference.FamiliarString(named)
		if old, err := a.Images.Find(ctx, n); err == nil && old.ID != img.ID {
			l.Replaced[short] = old.ID
		}
		if err := give(n); err != nil {
			return nil, err
		}
		l.Names = append(l.Names, short)
	}
	return l, nil
}

// isStoreFailure tells that the store could not take a layer from the layer being none.
func isStoreFailure(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EACCES)
}
