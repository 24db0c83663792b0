package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/ocilayout"
	"github.com/micabuild/mica/internal/store"
)

// Item is an image to save, with its full names. An image without names is saved by its ID.
type Item struct {
	Image *image.Image
	// Root is the index of Image, to save all of its images that are in the store. It is optional.
	Root ocispec.Descriptor
	// Platforms are the platforms of the index to save; empty for all.
	Platforms []ocispec.Platform
	Names     []string
	// Annotations are added to its descriptor in index.json.
	Annotations map[string]string
}

// Save writes images as a tar that is both a Docker archive and an OCI image layout, as Docker does. It writes a layer that
// several images share once. The same images give the same bytes.
func (local *Local) Save(ctx context.Context, w io.Writer, items []Item) error {
	tw := ocilayout.NewTarWriter(w)
	if err := local.SaveFiles(ctx, tw, items); err != nil {
		return err
	}
	return tw.Close()
}

// SaveDirectory is Save to a directory. Files of the same names are replaced.
func (local *Local) SaveDirectory(ctx context.Context, dir string, items []Item) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return local.SaveFiles(ctx, ocilayout.DirWriter{Root: root}, items)
}

// SaveFiles is Save to whatever takes the files of a layout.
func (local *Local) SaveFiles(ctx context.Context, to ocilayout.FileWriter, items []Item) error {
	s := &saver{local: local, ctx: ctx, to: to, written: map[string]bool{}}
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
	local   *Local
	ctx     context.Context
	to      ocilayout.FileWriter
	written map[string]bool
}

// head writes the files that list the images. They come first, so that readers of a stream know the images.
func (s *saver) head(items []Item) error {
	var list []ocilayout.Saved
	for _, it := range items {
		list = append(list, it.listed())
	}
	files, err := ocilayout.List(list)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := s.file(f.Name, f.Data); err != nil {
			return err
		}
	}
	return nil
}

// listed returns the item as the archive lists it.
func (it Item) listed() ocilayout.Saved {
	d := it.Image.Target
	if oci.IsIndex(it.Root.MediaType) {
		d = it.Root
	} else if p := it.Image.Config.Platform; p.OS != "" && p.Architecture != "" {
		d.Platform = &p
	}
	d.Annotations = it.Annotations
	return ocilayout.Saved{Descriptor: d, Config: it.Image.Manifest.Config, Layers: it.Image.Manifest.Layers, Names: it.Names}
}

// item writes an image, or an index with its entries.
func (s *saver) item(it Item) error {
	if !oci.IsIndex(it.Root.MediaType) {
		return s.image(it.Image)
	}
	entries, err := s.local.Images.Entries(it.Root)
	if err != nil {
		return err
	}
	parts, err := s.local.Images.Parts(it.Root)
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

// wants reports whether to save the item's image for a platform.
func (it Item) wants(p ocispec.Platform) bool {
	return len(it.Platforms) == 0 || slices.ContainsFunc(it.Platforms, func(want ocispec.Platform) bool { return platforms.OnlyStrict(want).Match(p) })
}

// attestation writes the manifest of an attestation, and its blobs.
func (s *saver) attestation(d ocispec.Descriptor) error {
	raw, err := s.local.Store.ReadBlob(d.Digest)
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
	data, err := s.local.Store.ReadBlob(d)
	if err != nil {
		return err
	}
	return s.file(ocilayout.BlobName(d), data)
}

// image writes the blobs of an image.
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
	if s.written[ocilayout.BlobName(desc.Digest)] {
		return nil
	}
	r, err := s.local.Layers.OpenBlob(s.ctx, diffID, desc)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	if err := s.add(ocilayout.BlobName(desc.Digest), desc.Size, contextReader{s.ctx, r}); err != nil {
		return fmt.Errorf("layer %s: %w", desc.Digest, err)
	}
	return nil
}

func (s *saver) file(name string, data []byte) error {
	return s.add(name, int64(len(data)), bytes.NewReader(data))
}

// add writes a file, unless it was written before.
func (s *saver) add(name string, size int64, r io.Reader) error {
	if s.written[name] {
		return nil
	}
	s.written[name] = true
	return s.to.Add(name, size, r)
}

// contextReader fails when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
