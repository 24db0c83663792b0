package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
)

// ImportOptions are the options of docker import.
type ImportOptions struct {
	Config   dockerspec.DockerOCIImageConfig // the process to run
	Message  string                          // the comment of the only line of history
	Platform ocispec.Platform
	Created  time.Time
}

// Import makes an image of one layer from a tar of a root filesystem, plain or compressed. The caller holds store.Use.
func (local *Local) Import(ctx context.Context, r io.Reader, o ImportOptions) (*image.Image, error) {
	config := dockerspec.DockerOCIImage{}
	config.Platform, config.Config = o.Platform, o.Config
	l, blob, err := local.Layers.Ingest(ctx, r, "", "")
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	created := o.Created.UTC()
	config.Created = &created
	config.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{l.DiffID}}
	config.History = []ocispec.History{{Created: &created, Comment: o.Message}}
	raw, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	return local.Images.Create(ctx, image.Draft{Config: raw, Layers: []ocispec.Descriptor{blob}})
}
