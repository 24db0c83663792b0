package layout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/image"
)

// Destination is a layout to copy an image to. Nothing is seen of the image there before Commit.
type Destination struct {
	w    writer
	kind string
	ref  string // the tag in the layout
	name string // the image's full name, "" for none

	mu    sync.Mutex
	small map[digest.Digest]pushed // manifests and configs
	order []digest.Digest
	blobs map[digest.Digest]bool
}

type pushed struct {
	desc ocispec.Descriptor
	raw  []byte
}

// writer is where a layout's files go.
type writer interface {
	// has reports whether a blob is there already.
	has(d ocispec.Descriptor) bool
	write(ctx context.Context, d ocispec.Descriptor, r io.Reader) error
	// entries are the images that are there already.
	entries() []ocispec.Descriptor
	// finish writes these small files last, index.json the very last, and shows the whole.
	finish(files map[string][]byte) error
	Close() error
}

// Create prepares the location to be written to. name is the full name of the image, "" for none.
func (l *Location) Create(ctx context.Context, name string) (*Destination, error) {
	d := &Destination{kind: l.Kind, ref: l.Ref, name: name, small: map[digest.Digest]pushed{}, blobs: map[digest.Digest]bool{}}
	if l.Kind == DockerArchive && l.Ref != "" {
		named, err := reference.ParseNormalizedNamed(l.Ref)
		if err != nil {
			return nil, fmt.Errorf("%s: invalid name %q: %w", l, l.Ref, err)
		}
		d.name = reference.TagNameOnly(named).String()
	}
	var err error
	if l.Kind == OCI {
		d.w, err = newFolderWriter(ctx, l.Path)
	} else {
		d.w, err = newTarWriter(l.Path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l, err)
	}
	return d, nil
}

// Exists reports whether a blob is there.
func (d *Destination) Exists(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, small := d.small[desc.Digest]
	if small || d.blobs[desc.Digest] {
		return true, nil
	}
	// Manifests come again, for Commit to know what there is.
	return !isManifest(desc.MediaType) && d.w.has(desc), nil
}

func isManifest(mediaType string) bool {
	return image.IsManifest(mediaType) || image.IsIndex(mediaType)
}

// Fetch opens a manifest or config that was pushed.
func (d *Destination) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.small[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("%s: %w", desc.Digest, errdef.ErrNotFound)
	}
	return io.NopCloser(bytes.NewReader(p.raw)), nil
}

// Push writes a blob, verified.
func (d *Destination) Push(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	if err := checkDigest(desc.Digest); err != nil {
		return err
	}
	if isManifest(desc.MediaType) || image.IsImageConfig(desc.MediaType) {
		if desc.Size > maxJSON {
			return fmt.Errorf("%s has %d bytes, more than the %d that a manifest or config may have", desc.Digest, desc.Size, maxJSON)
		}
		raw, err := content.ReadAll(r, desc)
		if err != nil {
			return fmt.Errorf("%s: %w", desc.Digest, err)
		}
		d.mu.Lock()
		if _, ok := d.small[desc.Digest]; !ok {
			d.order = append(d.order, desc.Digest)
		}
		d.small[desc.Digest] = pushed{desc, raw}
		d.mu.Unlock()
		return nil
	}
	if err := d.w.write(ctx, desc, r); err != nil {
		return fmt.Errorf("write %s: %w", desc.Digest, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.blobs[desc.Digest] = true
	return nil
}

// Commit shows the image.
func (d *Destination) Commit(_ context.Context, root ocispec.Descriptor) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	files := map[string][]byte{}
	for digest, p := range d.small {
		files[blobName(digest)] = p.raw
	}
	var err error
	if files[ocispec.ImageLayoutFile], err = json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}); err != nil {
		return err
	}
	if d.kind == DockerArchive {
		if files[dockerManifestName], err = d.dockerManifest(root); err != nil {
			return err
		}
	}
	if files[ocispec.ImageIndexFile], err = d.index(root); err != nil {
		return err
	}
	return d.w.finish(files)
}

// index lists the image beside what the layout has, and what refers to it.
func (d *Destination) index(root ocispec.Descriptor) ([]byte, error) {
	root = plain(root)
	root.Annotations = map[string]string{}
	if d.name != "" {
		root.Annotations[nameAnnotation] = d.name
	}
	ref := d.ref
	if d.kind == DockerArchive || ref == "" && d.name != "" {
		ref = tagOf(d.name)
	}
	if ref != "" {
		root.Annotations[ocispec.AnnotationRefName] = ref
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, e := range d.w.entries() {
		if e.Digest == root.Digest && (ref == "" || e.Annotations[ocispec.AnnotationRefName] == "") {
			continue
		}
		if ref != "" && e.Annotations[ocispec.AnnotationRefName] == ref {
			continue
		}
		index.Manifests = append(index.Manifests, e)
	}
	index.Manifests = append(index.Manifests, root)
	for _, id := range d.order {
		p := d.small[id]
		var m struct {
			Subject *ocispec.Descriptor `json:"subject"`
		}
		if !isManifest(p.desc.MediaType) || json.Unmarshal(p.raw, &m) != nil || m.Subject == nil || id == root.Digest ||
			slices.ContainsFunc(index.Manifests, func(e ocispec.Descriptor) bool { return e.Digest == id }) {
			continue
		}
		index.Manifests = append(index.Manifests, plain(p.desc))
	}
	return json.Marshal(index)
}

func tagOf(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return ""
	}
	if t, ok := named.(reference.Tagged); ok {
		return t.Tag()
	}
	return ""
}

// dockerManifest is what docker load reads.
func (d *Destination) dockerManifest(root ocispec.Descriptor) ([]byte, error) {
	if image.IsIndex(root.MediaType) {
		return nil, errors.New("a docker-archive cannot hold an image of several platforms: choose one with --platform")
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(d.small[root.Digest].raw, &m); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", root.Digest, err)
	}
	e := dockerEntry{Config: blobName(m.Config.Digest), Layers: []string{}}
	if named, err := reference.ParseNormalizedNamed(d.name); err == nil {
		e.RepoTags = []string{reference.FamiliarString(named)}
	}
	for _, l := range m.Layers {
		e.Layers = append(e.Layers, blobName(l.Digest))
	}
	return json.Marshal([]dockerEntry{e})
}

// Close frees what the destination holds, and removes what was not committed.
func (d *Destination) Close() error { return d.w.Close() }
