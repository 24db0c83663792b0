package registry

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/micabuild/mica/internal/image"
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

// Images are the images of the name: one, or those of an index, attestations left out.
func (r *Remote) Images(ctx context.Context) ([]*RemoteImage, error) {
	list := []ocispec.Descriptor{r.Root}
	if image.IsIndex(r.Root.MediaType) {
		var index ocispec.Index
		if err := json.Unmarshal(r.Raw, &index); err != nil {
			return nil, fmt.Errorf("index %s: %w", r.Root.Digest, err)
		}
		list = index.Manifests
	}
	if len(list) > maxImages {
		return nil, fmt.Errorf("index %s has %d entries, more than the %d that are looked at", r.Root.Digest, len(list), maxImages)
	}
	var images []*RemoteImage
	for _, d := range list {
		if image.IsAttestation(d) || !image.IsManifest(d.MediaType) {
			continue
		}
		img, err := r.image(ctx, d)
		if err != nil {
			return nil, err
		}
		images = append(images, img)
	}
	return images, nil
}

// Image is the image for a platform, nil for this host's.
func (r *Remote) Image(ctx context.Context, want *ocispec.Platform) (*RemoteImage, error) {
	if !image.IsIndex(r.Root.MediaType) {
		return r.image(ctx, r.Root)
	}
	var index ocispec.Index
	if err := json.Unmarshal(r.Raw, &index); err != nil {
		return nil, fmt.Errorf("index %s: %w", r.Root.Digest, err)
	}
	d, ok := image.Choose(index.Manifests, want)
	if !ok {
		if want == nil {
			host := platforms.DefaultSpec()
			want = &host
		}
		return nil, noPlatform(*want, index.Manifests)
	}
	return r.image(ctx, d)
}

func (r *Remote) image(ctx context.Context, d ocispec.Descriptor) (*RemoteImage, error) {
	m := &manifest{r.Root, r.Raw}
	if d.Digest != r.Root.Digest {
		var err error
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
	if !image.IsImageConfig(img.Manifest.Config.MediaType) {
		return img, nil
	}
	if err := json.Unmarshal(img.RawConfig, &img.Config); err != nil {
		return nil, fmt.Errorf("image config %s: %w", img.Manifest.Config.Digest, err)
	}
	return img, nil
}
