package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/ocilayout"
	"github.com/micabuild/mica/internal/quota"
)

// Loaded is an image that Load stored. Replaced has the names that other images had before, with the IDs of those images.
type Loaded struct {
	ID       digest.Digest
	Names    []string // familiar forms
	Replaced map[string]digest.Digest
}

// Load reads the images of an archive that docker save, mica, skopeo, podman or BuildKit wrote: a Docker archive or an OCI image
// layout, in a tar, which may be compressed. It reads the archive once, from start to end, so that r can be a pipe. It names and
// records images when all of the archive is verified. Of an index it keeps the images that the archive has, or with platforms
// only those for one of them. The caller holds store.Use.
func (local *Local) Load(ctx context.Context, r io.Reader, platforms ...ocispec.Platform) ([]Loaded, error) {
	loaded, err := local.load(ctx, r, platforms)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	return loaded, nil
}

func (local *Local) load(ctx context.Context, r io.Reader, platforms []ocispec.Platform) ([]Loaded, error) {
	in, _, err := compression.NewReader(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	l := local.newLoader(platforms)
	images, err := l.read(ctx, in)
	if err != nil {
		return nil, err
	}
	for _, img := range images {
		for _, n := range img.names {
			if _, err := image.ParseName(n); err != nil {
				return nil, fmt.Errorf("name %s: %w", n, err)
			}
		}
	}
	var loaded []Loaded
	for _, img := range images {
		got, err := local.adopt(ctx, img)
		if err != nil {
			return nil, err
		}
		loaded = append(loaded, *got)
	}
	return loaded, nil
}

// loader reads an archive. It stores layers while it reads.
type loader struct {
	local     *Local
	importer  *importer
	platforms []ocispec.Platform // to load; empty for all
	src       *ocilayout.Source
	layers    map[string]*ingested
}

// ingested is a file that was read as a layer, and the error if it is not a layer.
type ingested struct {
	layer *layer.Layer
	blob  ocispec.Descriptor
	err   error
}

func (local *Local) newLoader(platforms []ocispec.Platform) *loader {
	l := &loader{local: local, platforms: platforms, layers: map[string]*ingested{}}
	l.importer = &importer{
		config: func(_ context.Context, d ocispec.Descriptor) ([]byte, error) { return l.document(d, "config") },
		layers: func(_ context.Context, list []ocispec.Descriptor, ids []digest.Digest) error {
			return l.checkLayers(list, ids)
		},
	}
	return l
}

func (l *loader) read(ctx context.Context, in io.Reader) ([]*found, error) {
	var err error
	l.src, err = ocilayout.ReadStream(ctx, in, func(name string, r io.Reader) error { return l.ingest(ctx, name, r) })
	if err != nil {
		return nil, err
	}
	return l.images(ctx)
}

func (l *loader) ingest(ctx context.Context, name string, r io.Reader) error {
	got, blob, err := l.local.Layers.Ingest(ctx, r, "", "")
	if err != nil && isStoreFailure(ctx, err) {
		return err
	}
	if errors.Is(err, quota.ErrExceeded) {
		return fmt.Errorf("%s: %w", name, err) // to read the rest may take hours
	}
	// The manifests decide later whether the file is needed.
	l.layers[name] = &ingested{got, blob, err}
	return nil
}

// layer returns the layer in a file, and checks its DiffID.
func (l *loader) layer(name string, id digest.Digest) (*ingested, error) {
	at, err := l.src.Resolve(name)
	if err != nil {
		return nil, err
	}
	got, ok := l.layers[at]
	switch {
	case !ok:
		return nil, fmt.Errorf("layer %s: %w", name, errdef.ErrNotFound)
	case got.err != nil:
		return nil, fmt.Errorf("layer %s: %w", name, got.err)
	case got.layer.DiffID != id:
		return nil, fmt.Errorf("layer %s: digest mismatch: the config says %s, its content is %s", name, id, got.layer.DiffID)
	}
	return got, nil
}
