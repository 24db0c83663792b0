package transfer

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/oci"
)

// importer imports images from a repository, a layout or an archive into the store.
type importer struct {
	// config returns a config, verified.
	config oci.Read
	// layers stores the layers of a manifest, whose DiffIDs are ids.
	layers func(ctx context.Context, list []ocispec.Descriptor, ids []digest.Digest) error
}

// imported is an image whose layers are in the store. Its manifest and config may be missing there.
type imported struct{ manifest, config []byte }

// notImageError is the error of a manifest that is not an image's.
type notImageError struct{ configType string }

func (e *notImageError) Error() string {
	return fmt.Sprintf("not an image: the manifest is a %s (use mica copy)", e.configType)
}

// image checks a manifest with the bytes raw against its config, and stores its layers.
func (i *importer) image(ctx context.Context, d ocispec.Descriptor, raw []byte) (*imported, error) {
	m, err := oci.ParseManifest(d.Digest, raw)
	if err != nil {
		return nil, err
	}
	if !oci.IsImageConfig(m.Config.MediaType) {
		return nil, &notImageError{m.Config.MediaType}
	}
	config, err := i.config(ctx, m.Config)
	if err != nil {
		return nil, err
	}
	ids, err := oci.DiffIDs(config)
	if err != nil {
		return nil, err
	}
	if err := oci.CheckLayers(d.Digest, m.Layers, ids); err != nil {
		return nil, err
	}
	return &imported{raw, config}, i.layers(ctx, m.Layers, ids)
}

// ImportLayout stores the image of a layout for a platform, nil for this host's. It neither names nor records the image. root
// is the manifest or index of the image.
func (local *Local) ImportLayout(ctx context.Context, src content.Fetcher, root ocispec.Descriptor, platform *ocispec.Platform) (*image.Image, error) {
	read := func(ctx context.Context, d ocispec.Descriptor) ([]byte, error) { return content.FetchAll(ctx, src, d) }
	i := &importer{
		config: read,
		layers: func(ctx context.Context, list []ocispec.Descriptor, ids []digest.Digest) error {
			for n, d := range list {
				if err := local.ImportLayer(ctx, src, d, ids[n]); err != nil {
					return err
				}
			}
			return nil
		},
	}
	target := root
	if oci.IsIndex(root.MediaType) {
		e, err := oci.Find(ctx, root, read, platform)
		if err != nil {
			return nil, fmt.Errorf("index %s: %w", root.Digest, err)
		}
		target = e.Descriptor
	}
	raw, err := read(ctx, target)
	if err != nil {
		return nil, err
	}
	img, err := i.image(ctx, target, raw)
	if err != nil {
		return nil, err
	}
	return local.Images.Put(img.manifest, img.config)
}

// ImportLayer stores a layer of a layout, unless the store has it. id is its DiffID.
func (local *Local) ImportLayer(ctx context.Context, src content.Fetcher, d ocispec.Descriptor, id digest.Digest) error {
	if got, err := local.Layers.Get(id); err == nil && got.Present() {
		return nil
	}
	r, err := src.Fetch(ctx, d)
	if err != nil {
		return err
	}
	_, _, err = local.Layers.IngestFrom(ctx, layer.Incoming{Reader: r, Blob: d.Digest, DiffID: id})
	return errors.Join(err, r.Close())
}
