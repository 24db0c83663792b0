package ocilayout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/micabuild/mica/internal/oci"
)

// Destination is a layout, or an archive of docker save, to write. It is safe for concurrent use.
type Destination struct {
	location *Location
	name     entryName
	writer   writer

	mu      sync.Mutex
	digests digests
}

// digests are the digests of the manifests that were pushed.
type digests struct {
	manifests map[digest.Digest]bool
	listed    map[digest.Digest]bool // in one of the manifests
	referrers []ocispec.Descriptor   // manifests with a subject, in the order of the pushes
}

func newDigests() digests {
	return digests{manifests: map[digest.Digest]bool{}, listed: map[digest.Digest]bool{}}
}

// writer writes the files of a layout.
type writer interface {
	has(ctx context.Context, d ocispec.Descriptor) (bool, error)
	fetch(d ocispec.Descriptor) (io.ReadCloser, error)
	push(ctx context.Context, d ocispec.Descriptor, r io.Reader) error
	// commit writes small files, and index.json. index returns the new index for the present one.
	commit(ctx context.Context, files map[string]any, index func(ocispec.Index) ocispec.Index) error
	Close() error
}

// Exists reports whether the destination has a blob, and verifies it. Of manifests it has only those that were pushed: the
// blobs of a manifest from an earlier copy may be missing, and Commit needs to know the manifests.
func (d *Destination) Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if err := checkDescriptor(desc); err != nil {
		return false, fmt.Errorf("%s: %w", d.location, err)
	}
	if oci.IsManifestOrIndex(desc.MediaType) {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.digests.manifests[desc.Digest], nil
	}
	ok, err := d.writer.has(ctx, desc)
	if err != nil {
		return false, fmt.Errorf("%s: blob %s: %w", d.location, desc.Digest, err)
	}
	return ok, nil
}

// Fetch opens a blob.
func (d *Destination) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := d.writer.fetch(desc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.location, err)
	}
	return r, nil
}

// Push writes a blob, unless the destination has it. It returns an error if the content does not match the descriptor.
func (d *Destination) Push(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	if err := d.push(ctx, desc, contextReader{ctx, r}); err != nil {
		return fmt.Errorf("%s: %w", d.location, err)
	}
	return nil
}

func (d *Destination) push(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	if err := checkDescriptor(desc); err != nil {
		return err
	}
	if !oci.IsManifestOrIndex(desc.MediaType) {
		return d.writer.push(ctx, desc, oci.NewVerifiedReader(r, desc))
	}
	raw, err := io.ReadAll(oci.NewVerifiedReader(r, desc))
	if err != nil {
		return err
	}
	m, err := parseManifest(desc, raw)
	if err != nil {
		return err
	}
	if err := d.writer.push(ctx, desc, bytes.NewReader(raw)); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.digests.add(desc, m)
	return nil
}

func (g *digests) add(desc ocispec.Descriptor, m *manifest) {
	if g.manifests[desc.Digest] {
		return
	}
	g.manifests[desc.Digest] = true
	for _, sub := range m.Manifests {
		g.listed[sub.Digest] = true
	}
	if m.Subject != nil {
		g.referrers = append(g.referrers, m.asReferrer(desc))
	}
}

// Commit adds the image with the manifest or index root to the list of images. Readers do not see the image before.
func (d *Destination) Commit(ctx context.Context, root ocispec.Descriptor) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.commit(ctx, root); err != nil {
		return fmt.Errorf("%s: %w", d.location, err)
	}
	return nil
}

func (d *Destination) commit(ctx context.Context, root ocispec.Descriptor) error {
	if err := checkDescriptor(root); err != nil {
		return err
	}
	files := map[string]any{ocispec.ImageLayoutFile: ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}}
	if d.location.Kind == DockerArchive {
		list, err := d.dockerManifest(ctx, root)
		if err != nil {
			return err
		}
		files[dockerManifestName] = list
	}
	if !d.digests.manifests[root.Digest] {
		return fmt.Errorf("manifest %s is missing", root.Digest)
	}
	return d.writer.commit(ctx, files, func(old ocispec.Index) ocispec.Index { return d.index(old, root) })
}

// index returns an index with the image and its referrers added.
func (d *Destination) index(old ocispec.Index, root ocispec.Descriptor) ocispec.Index {
	image := plain(root)
	image.Annotations = map[string]string{}
	if d.name.ref != "" {
		image.Annotations[ocispec.AnnotationRefName] = d.name.ref
	}
	if d.name.full != "" {
		image.Annotations[imageNameAnnotation] = d.name.full
	}
	index := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		ArtifactType: old.ArtifactType, Subject: old.Subject, Annotations: old.Annotations,
		Manifests: []ocispec.Descriptor{},
	}
	there := map[digest.Digest]bool{root.Digest: true}
	for _, e := range old.Manifests {
		if !d.replaces(image, e) {
			there[e.Digest] = true
			index.Manifests = append(index.Manifests, e)
		}
	}
	index.Manifests = append(index.Manifests, image)
	for _, r := range d.digests.referrers {
		// Readers find a referrer in the index that lists it, as BuildKit's attestations.
		if !there[r.Digest] && !d.digests.listed[r.Digest] {
			index.Manifests = append(index.Manifests, r)
		}
	}
	return index
}

// replaces reports whether an image replaces an entry: an entry with the same reference name or, if neither has one, with the
// same full name, or with the same content and no name at all.
func (d *Destination) replaces(image, e ocispec.Descriptor) bool {
	ref, full := e.Annotations[ocispec.AnnotationRefName], e.Annotations[imageNameAnnotation]
	switch {
	case ref != "":
		return ref == d.name.ref
	case full != "":
		return d.name.ref == "" && full == d.name.full
	}
	return e.Digest == image.Digest
}

// dockerManifest returns the content of manifest.json, which docker load reads.
func (d *Destination) dockerManifest(ctx context.Context, root ocispec.Descriptor) ([]dockerEntry, error) {
	if oci.IsIndex(root.MediaType) {
		return nil, errors.New("a docker-archive cannot hold an image of several platforms: choose one with --platform")
	}
	raw, err := content.FetchAll(ctx, content.FetcherFunc(func(_ context.Context, t ocispec.Descriptor) (io.ReadCloser, error) {
		return d.writer.fetch(t)
	}), root)
	if err != nil {
		return nil, err
	}
	m, err := oci.ParseManifest(root.Digest, raw)
	if err != nil {
		return nil, err
	}
	if !oci.IsManifest(root.MediaType) || !oci.IsImageConfig(m.Config.MediaType) {
		return nil, fmt.Errorf("a docker-archive can only have images: the manifest %s is not an image", root.Digest)
	}
	e := newDockerEntry(m.Config, m.Layers, repoTags(d.name.full))
	for _, b := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if ok, err := d.writer.has(ctx, b); err != nil {
			return nil, err
		} else if !ok {
			return nil, fmt.Errorf("blob %s of the image is missing", b.Digest)
		}
	}
	return []dockerEntry{e}, nil
}

// Close closes the files of the destination. It removes an archive that was not committed.
func (d *Destination) Close() error {
	if err := d.writer.Close(); err != nil {
		return fmt.Errorf("%s: %w", d.location, reason(err))
	}
	return nil
}

// marshal returns the content of a small file. An error is returned if it is too large for readers.
func marshal(name string, v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err == nil && len(data) > maxJSON {
		err = fmt.Errorf("it would have %d bytes, the limit is %d", len(data), maxJSON)
	}
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	return data, nil
}
