package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
)

// CommitOptions describe the image of a container.
type CommitOptions struct {
	Name            string // "" for none
	Author, Comment string
	Config          *container.Config               // replaces parts of the container's; nil for nothing
	Changes         dockerspec.DockerOCIImageConfig // of Dockerfile instructions, which replace parts of both
}

// Commit makes an image of the container's files. A process that runs is not paused meanwhile.
func (c *Container) Commit(ctx context.Context, o CommitOptions) (_ *image.Image, err error) {
	release, err := c.holdFiles()
	if err != nil {
		return nil, err
	}
	defer release()
	tmp, err := c.store.TempDir("commit")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tmp.Remove()) }()
	upper := filepath.Join(tmp.Path, "upper")
	if err := copyUpper(ctx, c.root.Upper, upper); err != nil {
		return nil, err
	}
	l, err := c.layers.Commit(ctx, upper, nil)
	if err != nil {
		return nil, err
	}
	raw, err := c.committedConfig(o, l.DiffID)
	if err != nil {
		return nil, err
	}
	images := image.New(c.store, c.layers)
	img, err := images.Create(ctx, image.Draft{Config: raw})
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	if o.Name != "" {
		if err := images.Tag(ctx, img, o.Name); err != nil {
			return nil, err
		}
	}
	c.event(events.ActionCommit, "comment", o.Comment, "imageID", img.ID.String(), "imageRef", o.Name)
	return img, nil
}

// committedConfig is the config of the image of a container.
func (c *Container) committedConfig(o CommitOptions, added digest.Digest) ([]byte, error) {
	config := fromImage(o.Changes)
	if o.Config != nil {
		merge(&config, toImage(o.Config))
	}
	merge(&config, toImage(c.config))
	made := c.image.Config
	created := time.Now().UTC()
	made.Created, made.Author, made.Config = &created, o.Author, toImage(&config)
	made.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: append(append([]digest.Digest(nil), c.image.Chain()...), added)}
	made.History = append(append([]ocispec.History(nil), made.History...), ocispec.History{
		Created: &created, CreatedBy: strings.Join(c.process.Args, " "), Author: o.Author, Comment: o.Comment,
	})
	return json.Marshal(made)
}

// fromImage is the config of an image as that of a container.
func fromImage(from dockerspec.DockerOCIImageConfig) container.Config {
	var c container.Config
	c.Entrypoint, c.Cmd, c.Env = from.Entrypoint, from.Cmd, from.Env
	merge(&c, from)
	return c
}

// toImage is the config of a container as that of an image.
func toImage(c *container.Config) dockerspec.DockerOCIImageConfig {
	var to dockerspec.DockerOCIImageConfig
	to.User, to.Env, to.Entrypoint, to.Cmd, to.Volumes = c.User, c.Env, c.Entrypoint, c.Cmd, c.Volumes
	to.WorkingDir, to.Labels, to.StopSignal, to.ArgsEscaped = c.WorkingDir, c.Labels, c.StopSignal, c.ArgsEscaped //nolint:staticcheck // Docker has it
	to.Healthcheck, to.OnBuild, to.Shell = c.Healthcheck, c.OnBuild, c.Shell
	for port := range c.ExposedPorts {
		to.ExposedPorts = with(to.ExposedPorts, port.String(), struct{}{})
	}
	return to
}
