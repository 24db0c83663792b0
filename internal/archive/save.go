package archive

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
)

// Item is an image to save, with the full names to save it under; without one it is saved by its ID.
type Item struct {
	Image *image.Image
	Names []string
}

// Save writes images as one tar that is both a Docker archive and an OCI image layout, as Docker writes it. A layer that
// several images share is written once. The same images give the same bytes.
func (a *Archives) Save(ctx context.Context, w io.Writer, items []Item) error {
	s := &saver{a: a, ctx: ctx, tw: tar.NewWriter(w), written: map[string]bool{}}
	if err := s.head(items); err != nil {
		return err
	}
	for _, it := range items {
		if err := s.image(it.Image); err != nil {
			return fmt.Errorf("save image %s: %w", it.Image.ID, err)
		}
	}
	return s.tw.Close()
}

type saver struct {
	a       *Archives
	ctx     context.Context
	tw      *tar.Writer
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
	d.Annotations = nil
	if p := it.Image.Config.Platform; p.OS != "" && p.Architecture != "" {
		d.Platform = &p
	}
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

// image writes what one image is made of.
func (s *saver) image(img *image.Image) error {
	for _, d := range []digest.Digest{img.Target.Digest, img.ID} {
		data, err := s.a.Store.ReadBlob(d)
		if err != nil {
			return err
		}
		if err := s.file(blobName(d), data); err != nil {
			return err
		}
	}
	for _, l := range img.Manifest.Layers {
		if err := s.layer(l); err != nil {
			return err
		}
	}
	return nil
}

func (s *saver) layer(desc ocispec.Descriptor) error {
	if s.written[blobName(desc.Digest)] {
		return nil
	}
	r, err := s.a.Layers.OpenPack(s.ctx, desc)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	if err := s.header(blobName(desc.Digest), desc.Size); err != nil {
		return err
	}
	if _, err := io.Copy(s.tw, contextReader{s.ctx, r}); err != nil {
		return fmt.Errorf("layer %s: %w", desc.Digest, err)
	}
	return nil
}

func (s *saver) file(name string, data []byte) error {
	if s.written[name] {
		return nil
	}
	if err := s.header(name, int64(len(data))); err != nil {
		return err
	}
	_, err := s.tw.Write(data)
	return err
}

// header begins a file. All have the same time: an archive says when its images were made, not when it was.
func (s *saver) header(name string, size int64) error {
	s.written[name] = true
	return s.tw.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
	})
}

// contextReader ends when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
