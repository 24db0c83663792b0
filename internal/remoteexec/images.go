package remoteexec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/remotecache"
)

// images are root filesystems as images in the repository, which have no names.
type images struct {
	o *Options

	mu   sync.Mutex
	made map[digest.Digest]*pushed // by ChainID and platform
}

type pushed struct {
	done   chan struct{}
	digest digest.Digest
	err    error
}

func newImages(o *Options) *images { return &images{o: o, made: map[digest.Digest]*pushed{}} }

// of returns the digest of the manifest of an image with the layers of a chain. It writes each once.
func (x *images) of(ctx context.Context, chain buildcache.Chain, p ocispec.Platform) (digest.Digest, error) {
	key := digest.FromString(chain.ID().String() + p.OS + "/" + p.Architecture + "/" + p.Variant)
	x.mu.Lock()
	m, ok := x.made[key]
	if !ok {
		m = &pushed{done: make(chan struct{})}
		x.made[key] = m
	}
	x.mu.Unlock()
	if !ok {
		m.digest, m.err = x.push(ctx, chain, p)
		if m.err != nil { // another step may try again
			x.mu.Lock()
			delete(x.made, key)
			x.mu.Unlock()
		}
		close(m.done)
	}
	select {
	case <-m.done:
		return m.digest, m.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// maxParallel is how many layers are written at once.
const maxParallel = 4

func (x *images) push(ctx context.Context, chain buildcache.Chain, p ocispec.Platform) (digest.Digest, error) {
	ids := chain.DiffIDs()
	layers := make([]ocispec.Descriptor, len(ids))
	eg, egctx := errgroup.WithContext(ctx)
	eg.SetLimit(maxParallel)
	for i, id := range ids {
		eg.Go(func() (err error) {
			layers[i], err = x.o.Layer(egctx, id)
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		return "", fmt.Errorf("send layers: %w", err)
	}
	config, err := json.Marshal(ocispec.Image{Platform: p, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: ids}})
	if err != nil {
		return "", err
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: layers,
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))},
	}
	for i := range layers {
		layers[i].Annotations = nil
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	desc := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if err := x.o.Repository.Blob(ctx, m.Config, config); err != nil {
		return "", err
	}
	return desc.Digest, x.o.Repository.PutTag(ctx, desc, raw, desc.Digest.String())
}

// maxConfig limits the config of a result, in bytes.
const maxConfig = 8 << 20

// read returns the layers of an image in the repository.
func (x *images) read(ctx context.Context, d digest.Digest) ([]remotecache.ImportedLayer, error) {
	m, err := x.o.Repository.Manifest(ctx, d.String())
	if err != nil {
		return nil, err
	}
	if m.Descriptor.Digest != d || digest.FromBytes(m.Raw) != d {
		return nil, fmt.Errorf("manifest %s has other content", d)
	}
	var parsed ocispec.Manifest
	if err := json.Unmarshal(m.Raw, &parsed); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d, err)
	}
	var config ocispec.Image
	raw, err := x.config(ctx, parsed.Config)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		return nil, fmt.Errorf("config %s: %w", parsed.Config.Digest, err)
	}
	ids := config.RootFS.DiffIDs
	if len(ids) != len(parsed.Layers) {
		return nil, fmt.Errorf("image %s has %d layers and %d DiffIDs", d, len(parsed.Layers), len(ids))
	}
	list := make([]remotecache.ImportedLayer, len(ids))
	for i, blob := range parsed.Layers {
		if err := errors.Join(oci.CheckDescriptor(blob), ids[i].Validate()); err != nil {
			return nil, err
		}
		list[i] = remotecache.ImportedLayer{Layer: remotecache.Layer{DiffID: ids[i]}, Blob: blob, From: x.o.Repository}
		if config.Created != nil {
			list[i].Created = *config.Created
		}
	}
	return list, nil
}

func (x *images) config(ctx context.Context, d ocispec.Descriptor) (raw []byte, err error) {
	if d.Size > maxConfig {
		return nil, fmt.Errorf("config %s has more than %d bytes", d.Digest, maxConfig)
	}
	if err := oci.CheckDescriptor(d); err != nil {
		return nil, err
	}
	r, err := x.o.Repository.Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return io.ReadAll(oci.NewVerifiedReader(r, d))
}
