package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/oci"
)

// foundIndex is an index of an archive, with the images that the archive has of it.
type foundIndex struct {
	desc ocispec.Descriptor
	// blobs are the index, indexes in it, and manifests of attestations with what they list.
	blobs  [][]byte
	images []*found
}

// index reads an index. Images that are not whole in the archive are left out.
func (l *loader) index(ctx context.Context, d ocispec.Descriptor) (*found, error) {
	entries, err := oci.Entries(ctx, d, func(_ context.Context, d ocispec.Descriptor) ([]byte, error) {
		raw, err := l.document(d, "index")
		if errors.Is(err, errdef.ErrNotFound) {
			err = errors.Join(oci.ErrAbsent, err)
		}
		return raw, err
	}, nil)
	if err != nil {
		return nil, err
	}
	x := &foundIndex{desc: d}
	if err := x.keep(l, d); err != nil {
		return nil, err
	}
	var missing error
	for _, e := range entries {
		if err := x.add(ctx, l, e); errors.Is(err, errdef.ErrNotFound) {
			missing = err
		} else if err != nil {
			return nil, fmt.Errorf("index %s: %w", d.Digest, err)
		}
	}
	switch {
	case len(x.images) == 0 && len(l.platforms) > 0:
		return nil, fmt.Errorf("index %s: the archive has no image for platform %s", d.Digest, platforms.FormatAll(l.platforms[0]))
	case len(x.images) == 0 && missing != nil:
		return nil, fmt.Errorf("index %s: %w", d.Digest, missing)
	case len(x.images) == 0:
		return nil, fmt.Errorf("index %s lists no image", d.Digest)
	}
	return &found{index: x}, nil
}

// add adds an entry of the index.
func (x *foundIndex) add(ctx context.Context, l *loader, e oci.Entry) error {
	if e.Platform != nil && !oci.IsAttestation(e.Descriptor) && !l.wanted(*e.Platform) {
		return nil
	}
	for _, via := range e.Via {
		if via.Digest != x.desc.Digest {
			if err := x.keep(l, via); err != nil {
				return err
			}
		}
	}
	if !oci.IsManifest(e.MediaType) {
		return nil // mica does not store entries of unknown types
	}
	raw, err := l.document(e.Descriptor, "manifest")
	if err != nil {
		return err
	}
	manifest, err := oci.ParseManifest(e.Digest, raw)
	if err != nil {
		return err
	}
	if !oci.IsAttestation(e.Descriptor) && oci.IsImageConfig(manifest.Config.MediaType) {
		img, err := l.image(ctx, e.Descriptor)
		if err == nil {
			x.images = append(x.images, img)
		}
		return err
	}
	for _, d := range append([]ocispec.Descriptor{e.Descriptor, manifest.Config}, manifest.Layers...) {
		if err := x.keep(l, d); err != nil {
			return err
		}
	}
	return nil
}

// keep adds a small blob.
func (x *foundIndex) keep(l *loader, d ocispec.Descriptor) error {
	raw, err := l.document(d, "blob")
	if err == nil {
		x.blobs = append(x.blobs, raw)
	}
	return err
}

// wanted reports whether to load images for a platform.
func (l *loader) wanted(p ocispec.Platform) bool {
	for _, want := range l.platforms {
		if platforms.OnlyStrict(want).Match(p) {
			return true
		}
	}
	return len(l.platforms) == 0
}

// wants returns an error if an image is for a platform that is not to be loaded.
func (l *loader) wants(f *found) error {
	p, err := platformOf(f.config)
	if err != nil || l.wanted(p) {
		return err
	}
	return fmt.Errorf("the image is for %s, not for platform %s", platforms.FormatAll(p), platforms.FormatAll(l.platforms[0]))
}

func platformOf(config []byte) (ocispec.Platform, error) {
	var c struct{ ocispec.Platform }
	if err := json.Unmarshal(config, &c); err != nil {
		return c.Platform, fmt.Errorf("image config: %w", err)
	}
	return c.Platform, nil
}

// adoptIndex records the images of an index, and gives the index its names.
func (local *Local) adoptIndex(ctx context.Context, f *found) (*Loaded, error) {
	for _, raw := range f.index.blobs {
		if _, err := local.Store.WriteBlob(raw); err != nil {
			return nil, err
		}
	}
	for _, img := range f.index.images {
		if _, err := local.Images.Put(img.manifest, img.config); err != nil {
			return nil, err
		}
	}
	root := f.index.desc
	root = ocispec.Descriptor{MediaType: root.MediaType, Digest: root.Digest, Size: root.Size}
	img, err := local.Images.Keep(ctx, root)
	if err != nil {
		return nil, err
	}
	return local.name(ctx, img, f.names, func(name string) error {
		_, err := local.Images.Keep(ctx, root, name)
		return err
	})
}
