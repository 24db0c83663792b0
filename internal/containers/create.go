package containers

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	apinetwork "github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/store"
)

// CreateOptions describe a container.
type CreateOptions struct {
	Name     string
	Config   *container.Config
	Host     *container.HostConfig
	Platform *ocispec.Platform
	Networks map[string]*apinetwork.EndpointSettings // beside that of Host, or with aliases for it
}

// Create makes a container, and returns warnings of what is not as it was asked for.
func (m *Manager) Create(ctx context.Context, o CreateOptions) (_ *Container, warnings []string, err error) {
	c := &Container{
		ID: newID(), m: m, created: time.Now(), config: o.Config, host: o.Host, state: container.StateCreated,
		removed: make(chan struct{}), exit: make(chan struct{}),
	}
	if c.host == nil {
		c.host = &container.HostConfig{}
	}
	defer func() {
		if err != nil {
			m.forget(c)
			err = errors.Join(err, c.release(), c.removeVolumes())
		}
	}()
	if err := c.check(); err != nil {
		return nil, nil, err
	}
	if c.endpoints, err = m.join(c.host.NetworkMode, o.Networks); err != nil {
		return nil, nil, err
	}
	if err := c.open(ctx, o.Platform); err != nil {
		return nil, nil, err
	}
	merge(c.config, c.image.Config.Config)
	if c.config.Hostname == "" && c.host.NetworkMode != "host" && c.host.UTSMode != "host" {
		c.config.Hostname = c.ID[:shortID]
	}
	if c.process, warnings, err = c.settings(); err != nil {
		return nil, nil, err
	}
	if err := m.reserve(c, strings.TrimPrefix(o.Name, "/")); err != nil {
		return nil, nil, err
	}
	if err := c.prepare(ctx); err != nil {
		return nil, nil, err
	}
	if err := m.add(c); err != nil {
		return nil, nil, err
	}
	c.event(events.ActionCreate)
	return c, warnings, nil
}

const shortID = 12

// open finds the image, and keeps it and what is made of it until the container is removed.
func (c *Container) open(ctx context.Context, platform *ocispec.Platform) (err error) {
	if c.store, err = store.Open(c.m.o.Root); err != nil {
		return err
	}
	c.layers = layer.New(c.store)
	if c.use, err = c.store.Use(ctx); err != nil {
		return err
	}
	images := image.New(c.store, c.layers)
	if c.image, err = images.FindFor(ctx, c.config.Image, platform); err != nil {
		return err
	}
	if c.hold, err = images.Hold(ctx, c.image); err != nil {
		return err
	}
	if c.tmp, err = c.store.TempDir("container"); err != nil {
		return err
	}
	c.log = NewLog(c.tmp.Path)
	c.streams = newStreams(c.log)
	return nil
}

// release gives back what the container has.
func (c *Container) release() error {
	var errs []error
	if c.log != nil {
		c.streams.stop() // clients may be attached to a container that was never started
		c.log.Close()
	}
	for i := range c.mounts {
		errs = append(errs, c.mounts[i].release())
	}
	if c.tmp != nil {
		errs = append(errs, c.tmp.Remove())
	}
	if c.hold != nil {
		errs = append(errs, c.hold.Unlock())
	}
	if c.use != nil {
		errs = append(errs, c.use.End())
	}
	return errors.Join(errs...)
}

// prepare makes the root filesystem, the volumes and the devices of the container.
func (c *Container) prepare(ctx context.Context) (err error) {
	if c.root, err = Root(ctx, c.layers, c.image.Chain(), c.tmp.Path); err != nil {
		return err
	}
	c.process.Root = c.root
	if err := c.addMounts(ctx); err != nil {
		return err
	}
	devices := c.devices()
	if err := devices.Check(); err != nil {
		return invalid(err)
	}
	return invalid(devices.Apply(c.process))
}

// merge completes a config by that of the image, as Docker does.
func merge(c *container.Config, from dockerspec.DockerOCIImageConfig) {
	c.User, c.WorkingDir, c.StopSignal = cmp.Or(c.User, from.User), cmp.Or(c.WorkingDir, from.WorkingDir), cmp.Or(c.StopSignal, from.StopSignal)
	for port := range from.ExposedPorts {
		if p, err := apinetwork.ParsePort(port); err == nil {
			c.ExposedPorts = with(c.ExposedPorts, p, struct{}{})
		}
	}
	for volume := range from.Volumes {
		c.Volumes = with(c.Volumes, volume, struct{}{})
	}
	set := map[string]bool{}
	for _, kv := range c.Env {
		name, _, _ := strings.Cut(kv, "=")
		set[name] = true
	}
	for _, kv := range from.Env {
		if name, _, _ := strings.Cut(kv, "="); !set[name] {
			c.Env = append(c.Env, kv)
		}
	}
	labels := maps.Clone(from.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, c.Labels)
	c.Labels = labels
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = from.Cmd
		}
		if c.Entrypoint == nil {
			c.Entrypoint = from.Entrypoint
		}
	}
	if slices.Equal(c.Entrypoint, []string{""}) {
		c.Entrypoint = nil
	}
	if c.Healthcheck == nil {
		c.Healthcheck = from.Healthcheck
	}
	c.Shell = slices.Clone(from.Shell)
	if len(from.OnBuild) > 0 {
		c.OnBuild = from.OnBuild
	}
}

func with[K comparable, V any](m map[K]V, key K, value V) map[K]V {
	if m == nil {
		m = map[K]V{}
	}
	if _, ok := m[key]; !ok {
		m[key] = value
	}
	return m
}

// hostname is what the process finds as its hostname.
func (c *Container) hostname() string {
	if c.config.Hostname == "" {
		if name, err := os.Hostname(); err == nil {
			return name
		}
	}
	return cmp.Or(c.config.Hostname, c.ID[:shortID])
}
