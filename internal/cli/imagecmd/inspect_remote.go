package imagecmd

import (
	"context"
	"fmt"
	"time"

	"github.com/distribution/reference"
	imagetypes "github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/transfer"
)

// inspectRemote describes what a registry has under a name, without pulling it. Size is that of the packed layers.
func inspectRemote(ctx context.Context, app *command.App, ref string, platform *ocispec.Platform) (*imagetypes.InspectResponse, error) {
	name, err := command.RemoteName(ref)
	if err != nil {
		return nil, err
	}
	name = reference.TagNameOnly(name)
	r, err := transfer.Inspect(ctx, app.Registry(), name)
	if err != nil {
		return nil, err
	}
	img, err := r.Image(ctx, platform)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", reference.FamiliarString(name), err)
	}
	c := img.Config
	got := &imagetypes.InspectResponse{
		ID: img.Manifest.Config.Digest.String(), RepoTags: []string{},
		RepoDigests: []string{reference.FamiliarName(name) + "@" + r.Root.Digest.String()},
		Author:      c.Author, Architecture: c.Architecture, Variant: c.Variant, Os: c.OS, OsVersion: c.OSVersion,
		Config: &c.Config, RootFS: imagetypes.RootFS{Type: "layers"}, Descriptor: &r.Root,
	}
	if _, ok := name.(reference.Tagged); ok {
		got.RepoTags = append(got.RepoTags, reference.FamiliarString(name))
	}
	for _, l := range img.Manifest.Layers {
		got.Size += l.Size
	}
	for _, id := range c.RootFS.DiffIDs {
		got.RootFS.Layers = append(got.RootFS.Layers, id.String())
	}
	if c.Created != nil {
		got.Created = c.Created.Format(time.RFC3339Nano)
	}
	if n := len(c.History); n > 0 {
		got.Comment = c.History[n-1].Comment
	}
	return got, nil
}
