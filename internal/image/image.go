// Package image is the image as users see it: names, IDs, config, manifest, history, platform.
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
// An image is its config: two manifests with one config are one image, which keeps the manifest that came first. It has
// a record, called by its ID, that points at the manifest; names point at the same manifest. An image without a name
// lives on by its record.
type Images struct {
	store  *store.Store
	layers *layer.Layers
}

// New is the set of images of a store.
func New(s *store.Store, l *layer.Layers) *Images { return &Images{store: s, layers: l} }

// Image is one image.
type Image struct {
	ID        digest.Digest      // the config's digest
	Target    ocispec.Descriptor // the manifest
	Manifest  ocispec.Manifest
	Config    dockerspec.DockerOCIImage
	RawConfig []byte
	// Root is what the name that the image was found by points at: the manifest, or an index that has it.
	Root ocispec.Descriptor
	// Names, Digests and Tagged are there in what List and FindNamed return.
	Names   []string  // as people write them, "nginx:latest", sorted
	Digests []string  // names by digest, of what a registry has: "nginx@sha256:…", sorted
	Tagged  time.Time // when a name was last given; zero without one
	Size    int64     // the sum of the layers' sizes as Docker counts them, in bytes
}

// Chain returns the DiffIDs of the layers, bottom first.
func (i *Image) Chain() []digest.Digest { return i.Config.RootFS.DiffIDs }

// ShortID is the first twelve digits of the ID.
func (i *Image) ShortID() string { return i.ID.Encoded()[:12] }

// load reads the image that a manifest describes, or of an index the one for this host. Names are the caller's to fill in.
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

// read is load without the size, for which the layers have to be there.
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

// parseConfig reads an image config and checks what the rest of mica relies on.
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

// Draft is what an image is assembled from.
type Draft struct {
	Config []byte
	// Layers are the descriptors of the layers' blobs, bottom first. If nil, they are blobs that the store has, or else the
	// uncompressed tars, whose bytes mica makes when they are read.
	Layers      []ocispec.Descriptor
	Annotations map[string]string // of the manifest
	// Absent says that not all layers are in the store. The size of the image is unknown then.
	Absent bool
	// DockerTypes gives everything Docker's media types in place of OCI's.
	DockerTypes bool
}

// Assemble writes the config and manifest of an image without recording it: what is exported need not be listed.
func (s *Images) Assemble(_ context.Context, d Draft) (*Image, error) {
	config, err := parseConfig(d.Config)
	if err != nil {
		return nil, err
	}
	if d.Layers != nil && len(d.Layers) != len(config.RootFS.DiffIDs) {
		return nil, fmt.Errorf("image config names %d layers, but %d were given", len(config.RootFS.DiffIDs), len(d.Layers))
	}
	m := ocispec.Manifest{
		MediaType:   ocispec.MediaTypeImageManifest,
		Annotations: d.Annotations,
		Config: ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(d.Config), Size: int64(len(d.Config)),
		},
		Layers: []ocispec.Descriptor{},
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
	if d.DockerTypes {
		useDockerTypes(&m)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	if d.Absent {
		return s.write(raw, d.Config, s.read)
	}
	return s.write(raw, d.Config, s.load)
}

// write stores the documents of an image and opens it.
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

// Create is Assemble for an image that is to stay: it records it.
func (s *Images) Create(ctx context.Context, d Draft) (*Image, error) {
	img, err := s.Assemble(ctx, d)
	if err != nil {
		return nil, err
	}
	return s.record(ctx, img)
}

// Put writes an image by the manifest that it came with, byte for byte, without recording it.
func (s *Images) Put(rawManifest, rawConfig []byte) (*Image, error) {
	return s.write(rawManifest, rawConfig, s.load)
}

// Adopt records an image by the manifest that it came with, byte for byte, so that its digests stay what they were.
// The config and the layers are in the store.
func (s *Images) Adopt(ctx context.Context, rawManifest, rawConfig []byte) (*Image, error) {
	img, err := s.write(rawManifest, rawConfig, s.load)
	if err != nil {
		return nil, err
	}
	return s.record(ctx, img)
}

// record writes the image's record, unless the image is there already with another manifest.
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

// setNames picks the image's names.
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

// familiar shortens a full name as reference.FamiliarString does, without parsing it: listings ask for thousands.
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
