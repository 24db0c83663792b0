package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
)

// ImportOptions are what docker import is told.
type ImportOptions struct {
	Changes  []string // Dockerfile instructions that set the config
	Message  string   // the comment of the only line of history
	Platform string   // "" for this machine's
	Created  time.Time
}

// Import makes an image of one layer from a tar of a root filesystem, plain or compressed. The caller holds store.Use.
func (a *Archives) Import(ctx context.Context, r io.Reader, o ImportOptions) (*image.Image, error) {
	config := dockerspec.DockerOCIImage{}
	config.Platform = platforms.Normalize(platforms.DefaultSpec())
	if o.Platform != "" {
		p, err := platforms.Parse(o.Platform)
		if err != nil {
			return nil, fmt.Errorf("invalid platform %q: %w", o.Platform, err)
		}
		config.Platform = platforms.Normalize(p)
	}
	if err := applyChanges(&config.Config, o.Changes); err != nil {
		return nil, err
	}
	l, pack, err := a.Layers.Ingest(ctx, r, "", "")
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
	return a.Images.Create(ctx, image.Draft{Config: raw, Packs: []ocispec.Descriptor{pack}})
}

// applyChanges sets what Dockerfile instructions say, with the instructions that docker import and commit allow.
func applyChanges(c *dockerspec.DockerOCIImageConfig, changes []string) error {
	for _, line := range changes {
		parsed, err := parser.Parse(strings.NewReader(line))
		if err != nil {
			return fmt.Errorf("invalid change %q: %w", line, err)
		}
		for _, node := range parsed.AST.Children {
			instruction, err := instructions.ParseInstruction(node)
			if err != nil {
				return fmt.Errorf("invalid change %q: %w", line, err)
			}
			if err := applyChange(c, instruction); err != nil {
				return fmt.Errorf("invalid change %q: %w", line, err)
			}
		}
	}
	return nil
}

func applyChange(c *dockerspec.DockerOCIImageConfig, instruction any) error {
	switch i := instruction.(type) {
	case *instructions.CmdCommand:
		c.Cmd = commandLine(i.ShellDependantCmdLine)
	case *instructions.EntrypointCommand:
		c.Entrypoint = commandLine(i.ShellDependantCmdLine)
	case *instructions.EnvCommand:
		for _, kv := range i.Env {
			c.Env = setEnv(c.Env, kv.Key, kv.Value)
		}
	case *instructions.LabelCommand:
		for _, kv := range i.Labels {
			set(&c.Labels, kv.Key, kv.Value)
		}
	case *instructions.ExposeCommand:
		for _, p := range i.Ports {
			if !strings.Contains(p, "/") {
				p += "/tcp"
			}
			set(&c.ExposedPorts, p, struct{}{})
		}
	case *instructions.VolumeCommand:
		for _, v := range i.Volumes {
			set(&c.Volumes, v, struct{}{})
		}
	case *instructions.UserCommand:
		c.User = i.User
	case *instructions.WorkdirCommand:
		c.WorkingDir = i.Path
	case *instructions.StopSignalCommand:
		c.StopSignal = i.Signal
	case *instructions.OnbuildCommand:
		c.OnBuild = append(c.OnBuild, i.Expression)
	case *instructions.HealthCheckCommand:
		c.Healthcheck = i.Health
	default:
		return fmt.Errorf("only CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR can be set")
	}
	return nil
}

// commandLine puts the shell form under a shell.
func commandLine(c instructions.ShellDependantCmdLine) []string {
	if c.PrependShell {
		return append([]string{"/bin/sh", "-c"}, strings.Join(c.CmdLine, " "))
	}
	return slices.Clone(c.CmdLine)
}

func setEnv(env []string, key, value string) []string {
	env = slices.DeleteFunc(env, func(e string) bool { return strings.HasPrefix(e, key+"=") })
	return append(env, key+"="+value)
}

func set[V any](m *map[string]V, key string, value V) {
	if *m == nil {
		*m = map[string]V{}
	}
	*m = maps.Clone(*m)
	(*m)[key] = value
}
