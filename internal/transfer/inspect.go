package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/registry"
)

// Published is an image or index in a registry.
type Published struct {
	Root ocispec.Descriptor // a manifest or an index
	Raw  []byte             // its bytes
	Name reference.Named    // as users know it

	repo *registry.Repository
}

// maxImages limits the images of an index that are inspected: each takes memory.
const maxImages = 200

// Inspect downloads the manifest or index of a name, and nothing else.
func Inspect(ctx context.Context, c *registry.Client, name reference.Named) (*Published, error) {
	src, err := openSource(ctx, c, name)
	if err != nil {
		return nil, err
	}
	return &Published{Root: src.root.Descriptor, Raw: src.root.Raw, Name: name, repo: src.repo}, nil
}

// PublishedImage is an image in a registry.
type PublishedImage struct {
	Target    ocispec.Descriptor // the manifest
	Raw       []byte             // its bytes
	Manifest  ocispec.Manifest
	RawConfig []byte
	Config    dockerspec.DockerOCIImage
}

// Images returns the image, or the images of the index and of the indexes in it, without attestations.
func (r *Published) Images(ctx context.Context) ([]*PublishedImage, error) {
	list := []oci.Entry{{Descriptor: r.Root}}
	if oci.IsIndex(r.Root.MediaType) {
		var err error
		if list, err = oci.Entries(ctx, r.Root, r.read, nil); err != nil {
			return nil, err
		}
	}
	if len(list) > maxImages {
		return nil, fmt.Errorf("index %s has %d entries, the limit is %d", r.Root.Digest, len(list), maxImages)
	}
	var images []*PublishedImage
	for _, e := range list {
		if !oci.IsImage(e.Descriptor) {
			continue
		}
		img, err := r.image(ctx, e.Descriptor)
		if err != nil {
			return nil, err
		}
		images = append(images, img)
	}
	return images, nil
}

// Image returns the image for a platform, nil for this host's.
func (r *Published) Image(ctx context.Context, want *ocispec.Platform) (*PublishedImage, error) {
	if !oci.IsIndex(r.Root.MediaType) {
		return r.image(ctx, r.Root)
	}
	e, err := oci.Find(ctx, r.Root, r.read, want)
	if err != nil {
		return nil, err
	}
	return r.image(ctx, e.Descriptor)
}

// read is an oci.Read of the repository.
func (r *Published) read(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if d.Digest == r.Root.Digest {
		return r.Raw, nil
	}
	if err := oci.CheckDescriptor(d); err != nil {
		return nil, err
	}
	m, err := r.repo.FetchManifest(ctx, d.Digest.String())
	if err != nil {
		return nil, registry.Explain(reference.FamiliarString(r.Name), err)
	}
	return m.Raw, nil
}

func (r *Published) image(ctx context.Context, d ocispec.Descriptor) (*PublishedImage, error) {
	m := &registry.Manifest{Descriptor: r.Root, Raw: r.Raw}
	if d.Digest != r.Root.Digest {
		err := oci.CheckDescriptor(d)
		if err != nil {
			return nil, err
		}
		if m, err = r.repo.FetchManifest(ctx, d.Digest.String()); err != nil {
			return nil, registry.Explain(reference.FamiliarString(r.Name), err)
		}
	}
	img := &PublishedImage{Target: m.Descriptor, Raw: m.Raw}
	if err := json.Unmarshal(m.Raw, &img.Manifest); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	var err error
	if img.RawConfig, err = r.repo.ReadBlob(ctx, img.Manifest.Config); err != nil {
		return nil, registry.Explain(reference.FamiliarString(r.Name), err)
	}
	if !oci.IsImageConfig(img.Manifest.Config.MediaType) {
		return img, nil
	}
	if err := json.Unmarshal(img.RawConfig, &img.Config); err != nil {
		return nil, fmt.Errorf("image config %s: %w", img.Manifest.Config.Digest, err)
	}
	return img, nil
}

// OpenRange reads a part of a blob, which is not verified.
func (r *Published) OpenRange(ctx context.Context, d ocispec.Descriptor, from, to int64) (io.ReadCloser, error) {
	body, err := r.repo.OpenRange(ctx, d, from, to)
	return body, registry.Explain(reference.FamiliarString(r.Name), err)
}

// FetchLayer downloads a layer of the image, unless the store has it. id is its DiffID. The caller holds store.Use. progress may be nil.
func (r *Published) FetchLayer(ctx context.Context, local *Local, d ocispec.Descriptor, id digest.Digest, progress Progress) error {
	if !oci.IsLayer(d.MediaType) && !oci.IsForeignLayer(d.MediaType) {
		return &unknownLayerError{d}
	}
	p := &puller{local: local, repo: r.repo, origin: r.Name.Name(), progress: progress}
	if progress == nil {
		p.progress = func(Event) {}
	}
	if err := p.layer(ctx, d, id); err != nil {
		return registry.Explain(reference.FamiliarString(r.Name), err)
	}
	return nil
}
