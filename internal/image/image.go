// Package image has images as users see them: names, IDs, configs, manifests, history, platforms.
package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/store"
)

// Images is the set of images in a store.
//
// The config identifies an image: two manifests with one config are one image, with the manifest that came first. An image
// has a record. The record's name is the image's ID, and it points at the manifest, as the image's names do. The record
// keeps an image that has no name.
type Images struct {
	store  *store.Store
	layers *layer.Layers
}

// New returns the images of a store.
func New(s *store.Store, l *layer.Layers) *Images { return &Images{store: s, layers: l} }

// Image is one image.
type Image struct {
	ID        digest.Digest      // the config's digest
	Target    ocispec.Descriptor // the manifest
	Manifest  ocispec.Manifest
	Config    dockerspec.DockerOCIImage
	RawConfig []byte
	// Root is the manifest or index that the image was found by.
	Root ocispec.Descriptor
	// List and FindNamed set Names, Digests and Tagged.
	Names   []string  // as people write them, "nginx:latest", sorted
	Digests []string  // names by digest of images that are in a registry: "nginx@sha256:…", sorted
	Tagged  time.Time // when a name was last given; zero without one
	Size    int64     // the sum of the sizes of the layers as Docker counts them, in bytes
}

// Chain returns the DiffIDs of the layers, bottom first.
func (i *Image) Chain() []digest.Digest { return i.Config.RootFS.DiffIDs }

// ShortID returns the first twelve digits of the ID.
func (i *Image) ShortID() string { return i.ID.Encoded()[:12] }

// load reads the image of a manifest, or the image for this host of an index. It does not set the names.
func (s *Images) load(target ocispec.Descriptor) (_ *Image, err error) {
	defer crash.Recover(&err)
	img, err := s.read(target)
	if err != nil {
		return nil, err
	}
	for _, id := range img.Chain() {
		size, err := s.layers.Size(id)
		if err != nil {
			return nil, err
		}
		img.Size += size
	}
	return img, nil
}

// read is load without the size. It also reads images whose layers are missing.
func (s *Images) read(target ocispec.Descriptor) (*Image, error) {
	root := target
	if oci.IsIndex(target.MediaType) {
		child, err := s.child(target, nil)
		if err != nil {
			return nil, err
		}
		target = child
	}
	img := &Image{Target: target, Root: root}
	raw, err := s.store.ReadBlob(target.Digest)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	manifest, err := oci.ParseManifest(target.Digest, raw)
	if err != nil {
		return nil, err
	}
	img.Manifest = *manifest
	img.ID = img.Manifest.Config.Digest
	if img.RawConfig, err = s.store.ReadBlob(img.ID); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if img.Config, err = parseConfig(img.RawConfig); err != nil {
		return nil, err
	}
	return img, nil
}

// parseConfig parses an image config, and checks the fields that mica relies on.
func parseConfig(raw []byte) (dockerspec.DockerOCIImage, error) {
	var c dockerspec.DockerOCIImage
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, fmt.Errorf("image config: %w", err)
	}
	if t := c.RootFS.Type; t != "" && t != "layers" {
		return c, fmt.Errorf("image config: unknown rootfs type %q", t)
	}
	for i, id := range c.RootFS.DiffIDs {
		if err := oci.CheckDigest(id); err != nil {
			return c, fmt.Errorf("image config: layer %d: %w", i+1, err)
		}
	}
	return c, nil
}

// Draft has the parts of an image to assemble.
type Draft struct {
	Config []byte
	// Layers are the descriptors of the layers' blobs, bottom first. If nil, they are blobs that the store has, or else the
	// uncompressed tars, whose bytes mica makes when they are read.
	Layers      []ocispec.Descriptor
	Annotations map[string]string // of the manifest
	// Absent is set if layers are missing in the store. The size of the image is then unknown.
	Absent bool
	// DockerTypes uses Docker's media types in place of OCI's.
	DockerTypes bool
}

// Assemble writes the config and manifest of an image. It does not record the image: builds export images that are not
// listed.
func (s *Images) Assemble(_ context.Context, d Draft) (*Image, error) {
	config, err := parseConfig(d.Config)
	if err != nil {
		return nil, err
	}
	if d.Layers != nil && len(d.Layers) != len(config.RootFS.DiffIDs) {
		return nil, fmt.Errorf("image config names %d layers, but %d were given", len(config.RootFS.DiffIDs), len(d.Layers))
	}
	m := ocispec.Manifest{
		Annotations: d.Annotations,
		Config:      ocispec.Descriptor{Digest: digest.FromBytes(d.Config), Size: int64(len(d.Config))},
		Layers:      []ocispec.Descriptor{},
	}
	m.SchemaVersion = 2
	for i, id := range config.RootFS.DiffIDs {
		if d.Layers != nil {
			m.Layers = append(m.Layers, d.Layers[i])
			continue
		}
		l, err := s.layers.Get(id)
		if err != nil {
			return nil, err
		}
		if len(l.Blobs) > 0 {
			m.Layers = append(m.Layers, l.Blobs[0])
		} else {
			m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: id, Size: l.TarSize})
		}
	}
	setMediaTypes(&m, d.DockerTypes)
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	if d.Absent {
		return s.write(raw, d.Config, s.read)
	}
	return s.write(raw, d.Config, s.load)
}

// write stores the manifest and config of an image, and opens it.
func (s *Images) write(rawManifest, rawConfig []byte, open func(ocispec.Descriptor) (*Image, error)) (*Image, error) {
	if _, err := s.store.WriteBlob(rawConfig); err != nil {
		return nil, fmt.Errorf("write image config: %w", err)
	}
	d, err := s.store.WriteBlob(rawManifest)
	if err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	var head struct {
		MediaType string `json:"mediaType"`
	}
	if err := json.Unmarshal(rawManifest, &head); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if head.MediaType == "" {
		head.MediaType = ocispec.MediaTypeImageManifest
	}
	img, err := open(ocispec.Descriptor{MediaType: head.MediaType, Digest: d, Size: int64(len(rawManifest))})
	if err != nil {
		return nil, err
	}
	if err := oci.CheckLayers(d, img.Manifest.Layers, img.Chain()); err != nil {
		return nil, err
	}
	return img, nil
}

// Create assembles an image and records it.
func (s *Images) Create(ctx context.Context, d Draft) (*Image, error) {
	img, err := s.Assemble(ctx, d)
	if err != nil {
		return nil, err
	}
	return s.record(ctx, img)
}

// Put stores the manifest and config of an image as they are. It does not record the image.
func (s *Images) Put(rawManifest, rawConfig []byte) (*Image, error) {
	return s.write(rawManifest, rawConfig, s.load)
}

// Adopt stores the manifest and config of an image as they are, so that its digests do not change, and records the image.
// The layers are in the store.
func (s *Images) Adopt(ctx context.Context, rawManifest, rawConfig []byte) (*Image, error) {
	img, err := s.write(rawManifest, rawConfig, s.load)
	if err != nil {
		return nil, err
	}
	return s.record(ctx, img)
}

// record writes the record of an image. An image that has a record keeps it, with another manifest too.
func (s *Images) record(ctx context.Context, img *Image) (_ *Image, err error) {
	lock, err := s.store.Lock(ctx, "images")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if old, err := s.store.Records().Get(img.ID.String()); err == nil {
		if same, err := s.load(old.Target); err == nil && same.ID == img.ID {
			return same, nil
		}
	}
	return img, s.store.Records().Set(img.ID.String(), img.Target)
}

// FindNamed is FindFor with the image's names. For those it reads all names of the store.
func (s *Images) FindNamed(ctx context.Context, ref string, want *ocispec.Platform) (*Image, error) {
	img, err := s.FindFor(ctx, ref, want)
	if err != nil {
		return nil, err
	}
	names, err := s.store.Names().ListCached()
	if names == nil && err != nil {
		return nil, err
	}
	img.setNames(bearers(names))
	return img, nil
}

// bearers groups names by the image that has them: its ID (of an index, that of the image for this host), or its manifest.
func bearers(names []store.Name) map[digest.Digest][]store.Name {
	by := make(map[digest.Digest][]store.Name, len(names))
	for _, n := range names {
		at := n.Target.Digest
		if len(n.Images) > 0 {
			at = n.Images[0]
		}
		by[at] = append(by[at], n)
	}
	return by
}

// setNames sets the names from a result of bearers.
func (i *Image) setNames(by map[digest.Digest][]store.Name) {
	i.Names, i.Digests = nil, nil
	for _, n := range slices.Concat(by[i.ID], by[i.Target.Digest]) {
		if short := familiar(n.Ref); strings.Contains(n.Ref, "@") {
			i.Digests = append(i.Digests, short)
		} else {
			i.Names = append(i.Names, short)
		}
		if n.Updated.After(i.Tagged) {
			i.Tagged = n.Updated
		}
	}
	slices.Sort(i.Names)
	slices.Sort(i.Digests)
}

// familiar shortens a full name as reference.FamiliarString does. It does not parse the name: listings have thousands.
func familiar(ref string) string {
	rest, ok := strings.CutPrefix(ref, "docker.io/")
	if !ok {
		return ref
	}
	if official, ok := strings.CutPrefix(rest, "library/"); ok && !strings.Contains(official, "/") {
		return official
	}
	return rest
}
