// Package dockerbuild writes builds as .dockerbuild files, which Docker Desktop opens (`docker buildx history import`): a compressed OCI
// layout with, for each build, a manifest whose config is BuildKit's record of the build, and whose layers are the progress with its
// output, the trace, the provenance and the manifests of the result (docker/buildx, util/desktop/bundle/export.go).
package dockerbuild

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/ocilayout"
)

// The media types of what a build has.
const (
	recordType     = "application/vnd.buildkit.historyrecord.v0"
	statusType     = "application/vnd.buildkit.status.v0"
	traceType      = "application/vnd.buildkit.otlp.json.v0"
	provenanceType = "application/vnd.in-toto+json"
	failureType    = "application/vnd.googeapis.google.rpc.status+proto" // BuildKit's spelling

	// originalType is the annotation with the media type of a manifest of the result. As a layer it has another, so that readers do not
	// look for what it refers to.
	originalType = "vnd.export-build.descriptor.mediatype"
	// reference is the annotation with the ref of a build among several.
	reference     = "vnd.buildkit.history.reference"
	predicateNote = "in-toto.io/predicate-type"
)

// Build is a build to export.
type Build struct {
	*history.Build
	// Progress sends the progress of the build.
	Progress func(send func(*bkclient.SolveStatus)) error
	// Image returns the manifest or index that was made, and its media type; fs.ErrNotExist if it is no longer there.
	Image func(digest.Digest) (mediaType string, raw []byte, err error)
	// Provenance is that of each platform, "" for the only one (SLSA 1); nil for what the record knows.
	Provenance map[string]json.RawMessage
}

// Export writes builds to a file.
func Export(w io.Writer, builds ...Build) (err error) {
	zip := gzip.NewWriter(w)
	x := &exporter{tar: ocilayout.NewTarWriter(zip), written: map[digest.Digest]bool{}}
	if err := x.builds(builds); err != nil {
		return fmt.Errorf("export builds: %w", err)
	}
	return errors.Join(x.tar.Close(), zip.Close())
}

// exporter writes an OCI layout.
type exporter struct {
	tar     *ocilayout.TarWriter
	written map[digest.Digest]bool
}

func (x *exporter) builds(builds []Build) error {
	var manifests []ocispec.Descriptor
	for _, b := range builds {
		d, err := x.build(&b)
		if err != nil {
			return fmt.Errorf("build %s: %w", b.Ref, err)
		}
		manifests = append(manifests, d)
	}
	var root ocispec.Descriptor
	if len(manifests) == 1 {
		root = manifests[0]
	} else { // the refs tell them apart
		for i, b := range builds {
			manifests[i].Annotations = map[string]string{reference: b.Ref}
		}
		index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests}
		var err error
		if root, err = x.document(ocispec.MediaTypeImageIndex, index); err != nil {
			return err
		}
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{root}}
	if err := x.file(ocispec.ImageIndexFile, index); err != nil {
		return err
	}
	return x.file(ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
}

// build writes a build, and returns its manifest.
func (x *exporter) build(b *Build) (ocispec.Descriptor, error) {
	parts, err := x.parts(b)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	config, err := x.document(recordType, newRecord(b.Build, parts))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config}
	m.Layers = []ocispec.Descriptor{parts.trace, parts.status}
	for _, platform := range slices.Sorted(maps.Keys(parts.provenance)) {
		m.Layers = append(m.Layers, parts.provenance[platform])
	}
	if parts.image != nil {
		as := *parts.image
		as.Annotations, as.MediaType = map[string]string{originalType: as.MediaType}, "application/json"
		m.Layers = append(m.Layers, as)
	}
	return x.document(m.MediaType, m)
}

// parts are what a build has beside its record.
type parts struct {
	trace, status ocispec.Descriptor
	provenance    map[string]ocispec.Descriptor // by platform, "" for the only one
	image         *ocispec.Descriptor           // nil if it is not there
}

func (x *exporter) parts(b *Build) (p parts, err error) {
	var status, trace bytes.Buffer
	if err := writeStatus(&status, b.Progress); err != nil {
		return p, err
	}
	if p.status, err = x.blob(statusType, status.Bytes()); err != nil {
		return p, err
	}
	if err := writeTrace(&trace, b.Build); err != nil {
		return p, err
	}
	if p.trace, err = x.blob(traceType, trace.Bytes()); err != nil {
		return p, err
	}
	if p.provenance, err = x.provenance(b); err != nil {
		return p, err
	}
	if b.Build.Image == "" {
		return p, nil
	}
	mediaType, raw, err := b.Image(b.Build.Image)
	if errors.Is(err, fs.ErrNotExist) { // it was removed, or pushed and not kept
		return p, nil
	}
	if err != nil {
		return p, err
	}
	d, err := x.blob(mediaType, raw)
	p.image = &d
	return p, err
}

// document writes a blob that is JSON.
func (x *exporter) document(mediaType string, doc any) (ocispec.Descriptor, error) {
	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return x.blob(mediaType, data)
}

func (x *exporter) blob(mediaType string, data []byte) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if x.written[d.Digest] {
		return d, nil
	}
	x.written[d.Digest] = true
	return d, x.tar.Add(ocilayout.BlobName(d.Digest), d.Size, bytes.NewReader(data))
}

func (x *exporter) file(name string, doc any) error {
	data, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return x.tar.Add(name, int64(len(data)), bytes.NewReader(data))
}
