package remotecache

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	cachetypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/oci"
)

// layerKey identifies a layer by its blob and the layer below it.
type layerKey struct {
	blob   digest.Digest
	parent int
}

// write lists the records, in an order that depends on what is in them only. results adds the result of a record.
func (g *graph) write(results func(*cachetypes.CacheRecord, *Result)) []cachetypes.CacheRecord {
	records := slices.Clone(g.records)
	slices.SortFunc(records, func(a, b *exportRecord) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.id, b.id)) })
	number := make(map[*exportRecord]int, len(records))
	for i, rec := range records {
		number[rec] = i
	}
	list := make([]cachetypes.CacheRecord, len(records))
	for i, rec := range records {
		out := &list[i]
		out.Digest = rec.name
		for _, links := range rec.inputs {
			inputs := make([]cachetypes.CacheInput, len(links))
			for j, l := range links {
				inputs[j] = cachetypes.CacheInput{Selector: l.selector.String(), LinkIndex: number[l.to]}
			}
			out.Inputs = append(out.Inputs, inputs)
		}
		if rec.result != nil {
			results(out, rec.result)
		}
	}
	return list
}

// layerList collects the layers of a config (cache/remotecache/v1/utils.go, marshalRemote).
type layerList struct {
	list   []cachetypes.CacheLayer
	number map[layerKey]int
	blobs  map[digest.Digest]ocispec.Descriptor // by DiffID
}

// add adds the layers of a chain, and returns the number of the top one.
func (w *layerList) add(chain []Layer) int {
	top := -1
	for _, l := range chain {
		key := layerKey{w.blobs[l.DiffID].Digest, top}
		at, ok := w.number[key]
		if !ok {
			at = len(w.list)
			w.list = append(w.list, cachetypes.CacheLayer{Blob: key.blob, ParentIndex: top})
			w.number[key] = at
		}
		top = at
	}
	return top
}

// Annotate adds to a descriptor what readers need to use a layer without its content (cache/refs.go, ociDesc). A blob that
// is another form of the layer has its own annotations.
func Annotate(d ocispec.Descriptor, l Layer) ocispec.Descriptor {
	notes := map[string]string{AnnotationDiffID: l.DiffID.String()}
	maps.Copy(notes, d.Annotations)
	if !l.Created.IsZero() {
		notes[annotationCreated] = l.Created.UTC().Format(time.RFC3339Nano)
	}
	if l.Description != "" {
		notes[annotationDescription] = l.Description
	}
	return ocispec.Descriptor{MediaType: oci.LayerTypeOCI(d.MediaType), Digest: d.Digest, Size: d.Size, Annotations: notes}
}

// Created returns the time of the newest layer, not the current time, so that the same build gives the same bytes.
func (r *Result) Created() time.Time {
	var at time.Time
	for _, l := range r.Layers {
		if l.Created.After(at) {
			at = l.Created
		}
	}
	return at.UTC()
}

// configDocument is the config of a cache, with a field that other builders ignore: clients of BuildKit count the layers of a manifest, so
// it cannot be a blob.
type configDocument struct {
	cachetypes.CacheConfig
	Note []byte `json:"mica.note.v1,omitempty"`
}

// encode writes config and manifest (cache/remotecache/export.go).
func encode(config *cachetypes.CacheConfig, byLayer map[digest.Digest]ocispec.Descriptor, o ExportOptions) (*Exported, error) {
	x := &Exported{}
	blobs := make(map[digest.Digest]ocispec.Descriptor, len(byLayer))
	for _, d := range byLayer {
		if o.DockerTypes {
			d.MediaType = oci.LayerTypeDocker(d.MediaType)
		}
		blobs[d.Digest] = d
	}
	byDigest := maps.Clone(blobs)
	for i, l := range config.Layers {
		if o.Describe {
			config.Layers[i].Annotations = describeLayer(byDigest[l.Blob])
		}
		if d, ok := blobs[l.Blob]; ok {
			x.Layers = append(x.Layers, d)
			delete(blobs, l.Blob)
		}
	}
	return x, x.encode(config, o)
}

// describeLayer returns what a config says of a layer that no manifest describes.
func describeLayer(d ocispec.Descriptor) *cachetypes.LayerAnnotations {
	l, _ := ReadLayer(nil, d)
	return &cachetypes.LayerAnnotations{MediaType: d.MediaType, DiffID: l.DiffID, Size: d.Size, CreatedAt: l.Created}
}

func (x *Exported) encode(config *cachetypes.CacheConfig, o ExportOptions) (err error) {
	x.Config, x.ConfigDescriptor, err = document(cachetypes.CacheConfigMediaTypeV0, configDocument{*config, o.Note})
	if err != nil {
		return err
	}
	if o.Index || o.DockerTypes {
		m := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: append(slices.Clone(x.Layers), x.ConfigDescriptor)}
		if o.DockerTypes {
			m.MediaType = oci.DockerManifestList
		}
		m.SchemaVersion = 2
		x.Manifest, x.ManifestDescriptor, err = document(m.MediaType, m)
		return err
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: x.ConfigDescriptor, Layers: x.Layers}
	m.SchemaVersion = 2
	x.Manifest, x.ManifestDescriptor, err = document(m.MediaType, m)
	return err
}

func document(mediaType string, doc any) ([]byte, ocispec.Descriptor, error) {
	data, err := json.Marshal(doc)
	if err != nil {
		return nil, ocispec.Descriptor{}, fmt.Errorf("write build cache: %w", err)
	}
	return data, ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}, nil
}
