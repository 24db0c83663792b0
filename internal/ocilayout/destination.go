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

// Destination is a layout, or an archive of docker save, that an image is written to. Its methods may be called at the same
// time.
type Destination struct {
	location *Location
	name     entryName
	writer   writer

	mu      sync.Mutex
	digests digests
}

// digests are what is known of the manifests that were pushed.
type digests struct {
	manifests map[digest.Digest]bool
	listed    map[digest.Digest]bool // by one of them
	referrers []ocispec.Descriptor   // those that have a subject, in the order in which they came
}

func newDigests() digests {
	return digests{manifests: map[digest.Digest]bool{}, listed: map[digest.Digest]bool{}}
}

// writer is where the files of a layout are written.
type writer interface {
	has(ctx context.Context, d ocispec.Descriptor) (bool, error)
	fetch(d ocispec.Descriptor) (io.ReadCloser, error)
	push(ctx context.Context, d ocispec.Descriptor, r io.Reader) error
	// commit writes small files, index.json as index makes it of the one that is there now.
	commit(ctx context.Context, files map[string]any, index func(ocispec.Index) ocispec.Index) error
	Close() error
}

// Exists reports whether a blob is there, whole. Of manifests only those that were pushed count: what an earlier copy left
// says nothing about what it refers to, and the destination is to know them.
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

// Fetch opens a blob that is there.
func (d *Destination) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := d.writer.fetch(desc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.location, err)
	}
	return r, nil
}

// Push writes a blob, unless it is there already. It returns an error if r is not what the descriptor says.
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

// Commit lists the image whose manifest or index is root. It comes last: before it, no reader sees the image.
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

// index adds the image, and what refers to it, to the images that are there.
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
		// One that an index lists is found there, as BuildKit's attestations are.
		if !there[r.Digest] && !d.digests.listed[r.Digest] {
			index.Manifests = append(index.Manifests, r)
		}
	}
	return index
}

// replaces reports whether an image replaces an entry: one with its name in the layout, or, if it has none
// there, one without that has the same full name, or the same content and no name at all.
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

// dockerManifest is what docker load reads.
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

// Close frees what the destination holds.
func (d *Destination) Close() error {
	if err := d.writer.Close(); err != nil {
		return fmt.Errorf("%s: %w", d.location, reason(err))
	}
	return nil
}

// marshal makes small files, and refuses what readers would refuse.
func marshal(name string, v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err == nil && len(data) > maxJSON {
		err = fmt.Errorf("it would have %d bytes, more than the %d that it may have", len(data), maxJSON)
	}
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	return data, nil
}
