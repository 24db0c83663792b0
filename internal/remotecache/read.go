package remotecache

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	cachetypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
)

// manifest has the fields of every document that a cache can begin with.
type manifest struct {
	Config    ocispec.Descriptor   `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
	Manifests []ocispec.Descriptor `json:"manifests"`
}

// Read reads the caches of a manifest in a repository or a layout. It may be a cache manifest in the form of an image or, as
// old versions of BuildKit write, of an index; or it has images with caches in their configs. Images without a cache are
// ignored.
func Read(ctx context.Context, from content.Fetcher, root ocispec.Descriptor) ([]*Import, error) {
	r := &reader{from: from, seen: map[digest.Digest]bool{}}
	if err := r.read(ctx, root); err != nil {
		return nil, fmt.Errorf("read build cache: %w", err)
	}
	return r.found, nil
}

type reader struct {
	from  content.Fetcher
	seen  map[digest.Digest]bool
	found []*Import
}

func (r *reader) read(ctx context.Context, d ocispec.Descriptor) error {
	if r.seen[d.Digest] {
		return nil
	}
	r.seen[d.Digest] = true
	var m manifest
	if err := r.document(ctx, d, &m); err != nil {
		return err
	}
	switch {
	case m.Config.MediaType == cachetypes.CacheConfigMediaTypeV0:
		return r.config(ctx, m.Config, m.Layers)
	case m.Config.Digest != "":
		return r.inline(ctx, &m)
	}
	for i, d := range m.Manifests {
		if d.MediaType == cachetypes.CacheConfigMediaTypeV0 {
			return r.config(ctx, d, append(m.Manifests[:i:i], m.Manifests[i+1:]...))
		}
	}
	for _, d := range m.Manifests {
		if err := r.read(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// maxDocument limits the size of manifests and configs.
const maxDocument = 64 << 20

func (r *reader) document(ctx context.Context, d ocispec.Descriptor, doc any) error {
	data, err := readBlob(ctx, r.from, d)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, doc); err != nil {
		return fmt.Errorf("%s: %w", d.Digest, err)
	}
	return nil
}

// readBlob reads a blob of a limited size, and verifies it.
func readBlob(ctx context.Context, from content.Fetcher, d ocispec.Descriptor) ([]byte, error) {
	f, err := from.Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", d.Digest, err)
	case len(data) > maxDocument:
		return nil, fmt.Errorf("%s is larger than %d bytes", d.Digest, maxDocument)
	case d.Digest.Validate() != nil || d.Digest.Algorithm().FromBytes(data) != d.Digest:
		return nil, fmt.Errorf("%s: digest mismatch", d.Digest)
	}
	return data, nil
}

func (r *reader) config(ctx context.Context, d ocispec.Descriptor, list []ocispec.Descriptor) error {
	var config configDocument
	if err := r.document(ctx, d, &config); err != nil {
		return err
	}
	layers := make(map[digest.Digest]ocispec.Descriptor, len(list))
	for _, l := range list {
		layers[l.Digest] = l
	}
	err := r.add(&config.CacheConfig, layers)
	if err == nil {
		r.found[len(r.found)-1].Note = config.Note
	}
	return err
}

func (r *reader) add(config *cachetypes.CacheConfig, layers map[digest.Digest]ocispec.Descriptor) error {
	c, err := newImport(r.from, config, layers)
	if err == nil {
		r.found = append(r.found, c)
	}
	return err
}

// ReadConfig reads the cache of a config whose layers are described in it, as in caches that have no manifest. from has their blobs.
func ReadConfig(from content.Fetcher, raw []byte) (*Import, error) {
	var config configDocument
	if err := json.Unmarshal(raw, &config); err != nil {
		return nil, fmt.Errorf("read build cache: %w", err)
	}
	layers := make(map[digest.Digest]ocispec.Descriptor, len(config.Layers))
	for _, l := range config.Layers {
		if a := l.Annotations; a != nil {
			d := ocispec.Descriptor{MediaType: a.MediaType, Digest: l.Blob, Size: a.Size}
			layers[l.Blob] = Annotate(d, Layer{DiffID: a.DiffID, Created: a.CreatedAt})
		}
	}
	c, err := newImport(from, &config.CacheConfig, layers)
	if err != nil {
		return nil, fmt.Errorf("read build cache: %w", err)
	}
	c.Note = config.Note
	return c, nil
}

// inlineName is the field of an image config with the records of the image's layers, as JSON in base64.
const inlineName = "moby.buildkit.cache.v0"

// inlineConfig is an image config with a cache.
type inlineConfig struct {
	RootFS  ocispec.RootFS    `json:"rootfs"`
	History []ocispec.History `json:"history"`
	Cache   []byte            `json:"moby.buildkit.cache.v0"`
}

// inline reads the cache of an image (cache/remotecache/import.go, importInlineCache).
func (r *reader) inline(ctx context.Context, m *manifest) error {
	var img inlineConfig
	if err := r.document(ctx, m.Config, &img); err != nil {
		return err
	}
	if img.Cache == nil || len(m.Layers) == 0 || len(img.RootFS.DiffIDs) != len(m.Layers) {
		return nil
	}
	var config cachetypes.CacheConfig
	if err := json.Unmarshal(img.Cache, &config.Records); err != nil {
		return fmt.Errorf("%s: %w", inlineName, err)
	}
	layers := map[digest.Digest]ocispec.Descriptor{}
	for i, l := range describeLayers(m.Layers, &img) {
		layers[l.Digest] = l
		config.Layers = append(config.Layers, cachetypes.CacheLayer{Blob: l.Digest, ParentIndex: i - 1})
	}
	return r.add(&config, layers)
}

// describeLayers annotates an image's layers with their DiffIDs and history from the config.
func describeLayers(list []ocispec.Descriptor, img *inlineConfig) []ocispec.Descriptor {
	var history []ocispec.History
	for _, h := range img.History {
		if !h.EmptyLayer {
			history = append(history, h)
		}
	}
	described := make([]ocispec.Descriptor, len(list))
	for i, l := range list {
		l.Annotations = map[string]string{AnnotationDiffID: img.RootFS.DiffIDs[i].String()}
		if i < len(history) {
			l.Annotations[annotationDescription] = history[i].CreatedBy
			if at := history[i].Created; at != nil {
				l.Annotations[annotationCreated] = at.Format(time.RFC3339Nano)
			}
		}
		described[i] = l
	}
	return described
}
