// Package stepcache reads and writes build caches that many builds share at once (--cache-to type=registry,mode=steps).
//
// The result of each step is a record of its own: an OCI manifest in a repository, found under a tag that is made of the step's key, with the
// layers of the result in the same repository. A record is written as soon as its step has ended. Builds that run at the same time write
// different records, so that none overwrites what another has added, and a step is looked for in one request.
//
// A result has up to two keys, each a tag: by definition (the operation, and the definitions of its inputs), known before anything is
// fetched, and by content (internal/buildcache). Layers of base images are not in the repository: who finds a record has the base image.
package stepcache

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/remotecache"
)

// ArtifactType is the type of the manifests that are records.
const ArtifactType = "application/vnd.mica.step.v1"

// The annotations of a record.
const (
	annotationKeys  = "mica.step.keys"  // the keys, separated by spaces
	annotationChain = "mica.step.chain" // the DiffIDs of all layers, bottom first, separated by spaces

	annotationWritten = "mica.written" // when a manifest was written, for Prune
)

// What a record may have.
const (
	maxLayers = 10_000
	maxKeys   = 16
)

// tagPrefix begins the tag of a record; the hex digits of the key follow.
const tagPrefix = "step-"

// Tag returns the tag of the record with a key.
func Tag(key digest.Digest) string { return tagPrefix + key.Encoded() }

// Record is the result of an output of a step.
type Record struct {
	Keys []digest.Digest
	// Layers are those of the result, bottom first. Without a blob are those of a base image.
	Layers []remotecache.ImportedLayer
	// Written is when the record was written, the zero time if that is unknown. It is not read.
	Written time.Time
}

// empty is the config of a record, the empty JSON object.
var empty = ocispec.DescriptorEmptyJSON

// encode returns the manifest of a record.
func (r *Record) encode() (ocispec.Descriptor, []byte, error) {
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactType, Config: empty}
	m.SchemaVersion = 2
	var ids []digest.Digest
	result := remotecache.Result{}
	seen := map[digest.Digest]bool{}
	for _, l := range r.Layers {
		ids = append(ids, l.DiffID)
		result.Layers = append(result.Layers, l.Layer)
		if l.Blob.Digest != "" && !seen[l.DiffID] {
			seen[l.DiffID] = true
			m.Layers = append(m.Layers, remotecache.Annotate(l.Blob, l.Layer))
		}
	}
	if len(m.Layers) == 0 {
		m.Layers = []ocispec.Descriptor{empty} // image-spec, manifest.md: a manifest should have a layer
	}
	m.Annotations = map[string]string{annotationKeys: join(r.Keys), annotationChain: join(ids)}
	if at := result.Created(); !at.IsZero() {
		m.Annotations[ocispec.AnnotationCreated] = at.Format("2006-01-02T15:04:05.999999999Z07:00")
	}
	if !r.Written.IsZero() {
		m.Annotations[annotationWritten] = r.Written.UTC().Format(time.RFC3339)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return ocispec.Descriptor{}, nil, fmt.Errorf("write step record: %w", err)
	}
	return ocispec.Descriptor{MediaType: m.MediaType, ArtifactType: ArtifactType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, raw, nil
}

func join(list []digest.Digest) string {
	words := make([]string, len(list))
	for i, d := range list {
		words[i] = d.String()
	}
	return strings.Join(words, " ")
}

// split reads a list of digests.
func split(text string, most int) ([]digest.Digest, error) {
	words := strings.Fields(text)
	if len(words) > most {
		return nil, fmt.Errorf("%d digests, more than %d", len(words), most)
	}
	list := make([]digest.Digest, len(words))
	for i, w := range words {
		list[i] = digest.Digest(w)
		if err := oci.CheckDigest(list[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// errNotRecord is the error for a manifest of another kind.
var errNotRecord = errors.New("not a step record")

// parse reads the record that was found under a key. Nothing in it is trusted: its blobs are checked by their digests and by the DiffIDs when
// they are fetched.
func parse(from content.Fetcher, raw []byte, key digest.Digest) (*Record, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("step record %s: %w", key, err)
	}
	if m.ArtifactType != ArtifactType {
		return nil, fmt.Errorf("step record %s: %w: artifactType %.100q", key, errNotRecord, m.ArtifactType)
	}
	r := &Record{}
	var err error
	if r.Keys, err = split(m.Annotations[annotationKeys], maxKeys); err != nil {
		return nil, fmt.Errorf("step record %s: keys: %w", key, err)
	}
	if !slices.Contains(r.Keys, key) {
		return nil, fmt.Errorf("step record %s: it is the record of another step", key)
	}
	chain, err := split(m.Annotations[annotationChain], maxLayers)
	if err != nil {
		return nil, fmt.Errorf("step record %s: layers: %w", key, err)
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("step record %s: it has no layers", key)
	}
	blobs, err := readBlobs(from, m.Layers)
	if err != nil {
		return nil, fmt.Errorf("step record %s: %w", key, err)
	}
	for _, id := range chain {
		l, ok := blobs[id]
		if !ok {
			l.DiffID = id
		}
		r.Layers = append(r.Layers, l)
	}
	return r, nil
}

// readBlobs returns the layers that descriptors describe, by their DiffIDs.
func readBlobs(from content.Fetcher, list []ocispec.Descriptor) (map[digest.Digest]remotecache.ImportedLayer, error) {
	blobs := map[digest.Digest]remotecache.ImportedLayer{}
	for _, d := range list {
		if d.MediaType == empty.MediaType {
			continue
		}
		if !oci.IsLayer(d.MediaType) {
			return nil, fmt.Errorf("layer %s has the unknown media type %.100q", d.Digest, d.MediaType)
		}
		if err := oci.CheckDescriptor(d); err != nil {
			return nil, err
		}
		l, ok := remotecache.ReadLayer(from, d)
		if !ok {
			return nil, fmt.Errorf("layer %s has no DiffID", d.Digest)
		}
		if err := oci.CheckDigest(l.DiffID); err != nil {
			return nil, err
		}
		blobs[l.DiffID] = l
	}
	return blobs, nil
}
