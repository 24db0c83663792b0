package registry

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/micabuild/mica/internal/oci"
)

// Remote is what a registry has under a name.
type Remote struct {
	Root ocispec.Descriptor // a manifest or an index
	Raw  []byte             // its bytes
	Name reference.Named    // as the place that answered knows it

	c    *Client
	repo *remote.Repository
}

// maxImages is how many images of an index are looked at, each of which takes memory.
const maxImages = 200

// Inspect gets the manifest or index of a name, and nothing else.
func (c *Client) Inspect(ctx context.Context, name reference.Named) (*Remote, error) {
	src, err := c.Source(ctx, name)
	if err != nil {
		return nil, err
	}
	s := src.(*repositorySource)
	return &Remote{Root: s.root.desc, Raw: s.root.raw, Name: name, c: c, repo: s.repo}, nil
}

// RemoteImage is one image at a registry.
type RemoteImage struct {
	Target    ocispec.Descriptor // the manifest
	Raw       []byte             // its bytes
	Manifest  ocispec.Manifest
	RawConfig []byte
	Config    dockerspec.DockerOCIImage
}

// Images are the images of the name: one, or those of an index and of the indexes in it, attestations left out.
func (r *Remote) Images(ctx context.Context) ([]*RemoteImage, error) {
	list := []oci.Entry{{Descriptor: r.Root}}
	if oci.IsIndex(r.Root.MediaType) {
		var err error
		if list, err = oci.Entries(ctx, r.Root, r.read, nil); err != nil {
			return nil, err
		}
	}
	if len(list) > maxImages {
		return nil, fmt.Errorf("index %s has %d entries, more than the %d that are looked at", r.Root.Digest, len(list), maxImages)
	}
	var images []*RemoteImage
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

// Image is the image for a platform, nil for this host's.
func (r *Remote) Image(ctx context.Context, want *ocispec.Platform) (*RemoteImage, error) {
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
func (r *Remote) read(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if d.Digest == r.Root.Digest {
		return r.Raw, nil
	}
	if err := oci.CheckDescriptor(d); err != nil {
		return nil, err
	}
	m, err := fetchManifest(ctx, r.repo, d.Digest.String())
	if err != nil {
		return nil, explain(reference.FamiliarString(r.Name), err)
	}
	return m.raw, nil
}

func (r *Remote) image(ctx context.Context, d ocispec.Descriptor) (*RemoteImage, error) {
	m := &manifest{r.Root, r.Raw}
	if d.Digest != r.Root.Digest {
		err := oci.CheckDescriptor(d)
		if err != nil {
			return nil, err
		}
		if m, err = fetchManifest(ctx, r.repo, d.Digest.String()); err != nil {
			return nil, explain(reference.FamiliarString(r.Name), err)
		}
	}
	img := &RemoteImage{Target: m.desc, Raw: m.raw}
	if err := json.Unmarshal(m.raw, &img.Manifest); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	var err error
	if img.RawConfig, err = r.c.fetchSmall(ctx, r.repo, img.Manifest.Config); err != nil {
		return nil, explain(reference.FamiliarString(r.Name), err)
	}
	if !oci.IsImageConfig(img.Manifest.Config.MediaType) {
		return img, nil
	}
	if err := json.Unmarshal(img.RawConfig, &img.Config); err != nil {
		return nil, fmt.Errorf("image config %s: %w", img.Manifest.Config.Digest, err)
	}
	return img, nil
}
