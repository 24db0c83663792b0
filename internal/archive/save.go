package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/store"
)

// Item is an image to save, with the full names to save it under; without one it is saved by its ID.
type Item struct {
	Image *image.Image
	// Root is an index that Image is of, if that is to be saved with all of its images that are in the store; else it may be
	// left out.
	Root ocispec.Descriptor
	// Platforms are those of the index that are saved; none for all.
	Platforms []ocispec.Platform
	Names     []string
}

// Save writes images as one tar that is both a Docker archive and an OCI image layout, as Docker writes it. A layer that
// several images share is written once. The same images give the same bytes.
func (a *Archives) Save(ctx context.Context, w io.Writer, items []Item) error {
	tw := tar.NewWriter(w)
	if err := a.save(ctx, tarMembers{tw}, items); err != nil {
		return err
	}
	return tw.Close()
}

// SaveFolder is Save into a folder. What is in the folder already is replaced where it has the same name.
func (a *Archives) SaveFolder(ctx context.Context, dir string, items []Item) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return a.save(ctx, folderMembers{root}, items)
}

func (a *Archives) save(ctx context.Context, to memberWriter, items []Item) error {
	s := &saver{a: a, ctx: ctx, to: to, written: map[string]bool{}}
	if err := s.head(items); err != nil {
		return err
	}
	for _, it := range items {
		if err := s.item(it); err != nil {
			return fmt.Errorf("save image %s: %w", it.Image.ID, err)
		}
	}
	return nil
}

type saver struct {
	a       *Archives
	ctx     context.Context
	to      memberWriter
	written map[string]bool
}

// head writes the small files first, so that a reader knows what is to come.
func (s *saver) head(items []Item) error {
	var docker []dockerManifest
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, it := range items {
		docker = append(docker, dockerEntry(it))
		index.Manifests = append(index.Manifests, indexEntries(it)...)
	}
	for _, f := range []struct {
		name  string
		value any
	}{
		{layoutName, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}},
		{indexName, index},
		{manifestName, docker},
	} {
		data, err := json.Marshal(f.value)
		if err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
		if err := s.file(f.name, data); err != nil {
			return err
		}
	}
	return nil
}

func dockerEntry(it Item) dockerManifest {
	m := dockerManifest{Config: blobName(it.Image.ID), Layers: []string{}}
	for _, n := range it.Names {
		if named, err := reference.ParseNormalizedNamed(n); err == nil {
			m.RepoTags = append(m.RepoTags, reference.FamiliarString(named))
		}
	}
	for _, l := range it.Image.Manifest.Layers {
		m.Layers = append(m.Layers, blobName(l.Digest))
	}
	return m
}

// indexEntries describes an image once for each name.
func indexEntries(it Item) []ocispec.Descriptor {
	d := it.Image.Target
	if oci.IsIndex(it.Root.MediaType) {
		d = it.Root
	} else if p := it.Image.Config.Platform; p.OS != "" && p.Architecture != "" {
		d.Platform = &p
	}
	d.Annotations = nil
	if len(it.Names) == 0 {
		return []ocispec.Descriptor{d}
	}
	var list []ocispec.Descriptor
	for _, n := range it.Names {
		named := d
		named.Annotations = map[string]string{imageNameAnnotation: n}
		if ref, err := reference.ParseNormalizedNamed(n); err == nil {
			if t, ok := ref.(reference.Tagged); ok {
				named.Annotations[ocispec.AnnotationRefName] = t.Tag()
			}
		}
		list = append(list, named)
	}
	return list
}

// item writes an image, or an index with all that it lists.
func (s *saver) item(it Item) error {
	if !oci.IsIndex(it.Root.MediaType) {
		return s.image(it.Image)
	}
	entries, err := s.a.Images.Entries(it.Root)
	if err != nil {
		return err
	}
	parts, err := s.a.Images.Parts(it.Root)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if p.Image == nil || !it.wants(p.Image.Config.Platform) {
			continue
		}
		if err := s.image(p.Image); err != nil {
			return err
		}
	}
	for _, e := range entries {
		for _, inside := range e.Via {
			if err := s.blob(inside.Digest); err != nil {
				return err
			}
		}
		if !oci.IsAttestation(e.Descriptor) {
			continue
		}
		if err := s.attestation(e.Descriptor); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return s.blob(it.Root.Digest)
}

// wants reports whether the item's image for a platform is to be saved.
func (it Item) wants(p ocispec.Platform) bool {
	return len(it.Platforms) == 0 || slices.ContainsFunc(it.Platforms, func(want ocispec.Platform) bool { return platforms.OnlyStrict(want).Match(p) })
}

// attestation writes a manifest that is no image's, and what it lists.
func (s *saver) attestation(d ocispec.Descriptor) error {
	raw, err := s.a.Store.ReadBlob(d.Digest)
	if err != nil {
		return err
	}
	m, err := oci.ParseManifest(d.Digest, raw)
	if err != nil {
		return err
	}
	for _, l := range append(m.Layers, m.Config, d) {
		if err := s.blob(l.Digest); err != nil {
			return err
		}
	}
	return nil
}

// blob writes a small blob.
func (s *saver) blob(d digest.Digest) error {
	data, err := s.a.Store.ReadBlob(d)
	if err != nil {
		return err
	}
	return s.file(blobName(d), data)
}

// image writes what one image is made of.
func (s *saver) image(img *image.Image) error {
	for _, d := range []digest.Digest{img.Target.Digest, img.ID} {
		if err := s.blob(d); err != nil {
			return err
		}
	}
	for i, l := range img.Manifest.Layers {
		if err := s.layer(img.Chain()[i], l); err != nil {
			return err
		}
	}
	return nil
}

func (s *saver) layer(diffID digest.Digest, desc ocispec.Descriptor) error {
	if s.written[blobName(desc.Digest)] {
		return nil
	}
	r, err := s.a.Layers.OpenBlob(s.ctx, diffID, desc)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	if err := s.add(blobName(desc.Digest), desc.Size, contextReader{s.ctx, r}); err != nil {
		return fmt.Errorf("layer %s: %w", desc.Digest, err)
	}
	return nil
}

func (s *saver) file(name string, data []byte) error {
	return s.add(name, int64(len(data)), bytes.NewReader(data))
}

// add writes a file once.
func (s *saver) add(name string, size int64, r io.Reader) error {
	if s.written[name] {
		return nil
	}
	s.written[name] = true
	return s.to.add(name, size, r)
}
