package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/ocilayout"
)

// found is a verified image of an archive, or an index of images. Manifest is nil if the archive has none.
type found struct {
	config   []byte
	manifest []byte
	layers   []ocispec.Descriptor
	index    *foundIndex // nil for a single image
	names    []string    // full names
}

// images reads the images of the archive. An image without a manifest is left out if it is for another platform than those to
// load, and if there are other images.
func (l *loader) images(ctx context.Context) ([]*found, error) {
	list, err := l.src.Images()
	if err != nil {
		return nil, err
	}
	var images []*found
	var unwanted error
	for _, i := range list {
		img, err := l.listed(ctx, i)
		if err != nil {
			return nil, err
		}
		if i.Descriptor.Digest == "" {
			if err := l.wants(img); err != nil {
				unwanted = err
				continue
			}
		}
		img.names = i.Names
		images = append(images, img)
	}
	if len(images) == 0 {
		return nil, unwanted
	}
	return images, nil
}

func (l *loader) listed(ctx context.Context, i ocilayout.Image) (*found, error) {
	if i.Descriptor.Digest != "" {
		return l.described(ctx, i.Descriptor)
	}
	config, err := l.src.ConfigFile(i.Config)
	if err != nil {
		return nil, err
	}
	ids, err := oci.DiffIDs(config)
	if err != nil {
		return nil, err
	}
	if len(ids) != len(i.Layers) {
		return nil, fmt.Errorf("config %s has %d layers, manifest.json %d", i.Config, len(ids), len(i.Layers))
	}
	img := &found{config: config, layers: []ocispec.Descriptor{}}
	for n, name := range i.Layers {
		got, err := l.layer(name, ids[n])
		if err != nil {
			return nil, err
		}
		img.layers = append(img.layers, got.blob)
	}
	return img, nil
}

// described reads the image or index of a descriptor.
func (l *loader) described(ctx context.Context, d ocispec.Descriptor) (*found, error) {
	raw, err := l.document(d, "manifest")
	if err != nil {
		return nil, err
	}
	var head struct {
		Manifests json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	if head.Manifests != nil {
		return l.index(ctx, d)
	}
	img, err := l.image(ctx, d)
	if err == nil {
		err = l.wants(img)
	}
	return img, err
}

// document reads a manifest, config or index. Errors begin with what.
func (l *loader) document(d ocispec.Descriptor, what string) ([]byte, error) {
	raw, err := l.src.Document(d)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return raw, nil
}

// image reads the image of a manifest.
func (l *loader) image(ctx context.Context, d ocispec.Descriptor) (*found, error) {
	raw, err := l.document(d, "manifest")
	if err != nil {
		return nil, err
	}
	img, err := l.importer.image(ctx, d, raw)
	if err != nil {
		return nil, err
	}
	return &found{config: img.config, manifest: img.manifest}, nil
}

// checkLayers checks that the archive has the layers of a manifest. They are in the store.
func (l *loader) checkLayers(list []ocispec.Descriptor, ids []digest.Digest) error {
	for i, desc := range list {
		got, err := l.layer(ocilayout.BlobName(desc.Digest), ids[i])
		if err != nil {
			return err
		}
		if got.blob.Size != desc.Size {
			return fmt.Errorf("layer %s: its size is %d, not the %d of the manifest", desc.Digest, got.blob.Size, desc.Size)
		}
		if got.blob.Digest != desc.Digest {
			return fmt.Errorf("layer %s: digest mismatch: its content is %s", desc.Digest, got.blob.Digest)
		}
	}
	return nil
}

// adopt records an image and gives it its names.
func (local *Local) adopt(ctx context.Context, f *found) (*Loaded, error) {
	if f.index != nil {
		return local.adoptIndex(ctx, f)
	}
	var img *image.Image
	var err error
	if f.manifest != nil {
		img, err = local.Images.Adopt(ctx, f.manifest, f.config)
	} else {
		img, err = local.Images.Create(ctx, image.Draft{Config: f.config, Layers: f.layers})
	}
	if err != nil {
		return nil, err
	}
	return local.name(ctx, img, f.names, func(name string) error { return local.Images.Tag(ctx, img, name) })
}

// name gives an image its names.
func (local *Local) name(ctx context.Context, img *image.Image, names []string, give func(name string) error) (*Loaded, error) {
	l := &Loaded{ID: img.ID, Replaced: map[string]digest.Digest{}}
	for _, n := range names {
		named, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			return nil, fmt.Errorf("invalid name %q: %w", n, err)
		}
		short := reference.FamiliarString(named)
		if old, err := local.Images.Find(ctx, n); err == nil && old.ID != img.ID {
			l.Replaced[short] = old.ID
		}
		if err := give(n); err != nil {
			return nil, err
		}
		l.Names = append(l.Names, short)
	}
	return l, nil
}

// isStoreFailure reports whether the store failed, and not the layer.
func isStoreFailure(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EACCES)
}
