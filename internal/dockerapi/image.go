// Package dockerapi describes images, and the progress of their layers, in the types of Docker's API. Commands print them, and the
// server of that API sends them.
package dockerapi

import (
	"time"

	imagetypes "github.com/moby/moby/api/types/image"

	"github.com/micabuild/mica/internal/image"
)

// Inspect describes an image as docker inspect does.
func Inspect(img *image.Image) *imagetypes.InspectResponse {
	c := img.Config
	r := &imagetypes.InspectResponse{
		ID: img.ID.String(), RepoTags: []string{}, RepoDigests: []string{},
		Author: c.Author, Architecture: c.Architecture, Variant: c.Variant, Os: c.OS, OsVersion: c.OSVersion,
		Size: img.Size, Config: &c.Config,
		RootFS:   imagetypes.RootFS{Type: "layers"},
		Metadata: imagetypes.Metadata{LastTagTime: img.Tagged},
	}
	r.RepoTags = append(r.RepoTags, img.Names...)
	r.RepoDigests = append(r.RepoDigests, img.Digests...)
	if c.Created != nil {
		r.Created = c.Created.Format(time.RFC3339Nano)
	}
	for _, id := range img.Chain() {
		r.RootFS.Layers = append(r.RootFS.Layers, id.String())
	}
	if n := len(c.History); n > 0 {
		r.Comment = c.History[n-1].Comment
	}
	return r
}

// Summarize describes an image as docker images does, without what is counted over all images.
func Summarize(img *image.Image) imagetypes.Summary {
	return imagetypes.Summary{
		ID: img.ID.String(), Created: img.Created().Unix(), Size: img.Size, Labels: img.Config.Config.Labels,
		RepoTags: img.Names, RepoDigests: img.Digests, Containers: -1, SharedSize: -1,
	}
}
