package containers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	grammar "github.com/micabuild/mica/internal/container"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/store"
)

// mountPoint is a mount of a container, and the volume that it holds.
type mountPoint struct {
	container.MountPoint
	anonymous bool
	hold      *store.Lock
}

func (p *mountPoint) release() error {
	if p.hold == nil {
		return nil
	}
	err := p.hold.Unlock()
	p.hold = nil
	return err
}

// addMounts adds binds, mounts, tmpfs and volumes, and those of the image where nothing else is mounted.
func (c *Container) addMounts(ctx context.Context) error {
	for _, b := range c.host.Binds {
		if err := c.addBind(ctx, b); err != nil {
			return err
		}
	}
	for _, target := range slices.Sorted(maps.Keys(c.host.Tmpfs)) {
		m, err := grammar.Tmpfs(target + ":" + c.host.Tmpfs[target])
		if err != nil {
			return invalid(err)
		}
		c.process.Mounts = append(c.process.Mounts, m)
	}
	for _, given := range c.host.Mounts {
		if err := c.addMount(ctx, given); err != nil {
			return err
		}
	}
	if err := grammar.CheckDuplicates(c.process.Mounts); err != nil {
		return invalid(err)
	}
	for _, target := range slices.Sorted(maps.Keys(c.config.Volumes)) {
		target = path.Clean("/" + target)
		if target == "/" {
			return fail(Invalid, "invalid volume: destination can't be '/'")
		}
		if slices.ContainsFunc(c.process.Mounts, func(m sandbox.Mount) bool { return path.Clean(m.Target) == target }) {
			continue
		}
		m := sandbox.Mount{Type: sandbox.MountBind, Target: target}
		if err := c.addVolume(ctx, m, "", false, nil, ""); err != nil {
			return err
		}
	}
	grammar.SortMounts(c.process.Mounts)
	return nil
}

func (c *Container) addBind(ctx context.Context, text string) error {
	m, name, noCopy, err := grammar.ParseBind(text)
	if err != nil {
		return invalid(err)
	}
	mode := ""
	if m.ReadOnly {
		mode = "ro"
	}
	if name != "" {
		mode = cmp.Or(mode, "z") // Docker's default for volumes with names
		return c.addVolume(ctx, m, name, noCopy, nil, mode)
	}
	c.add(m, container.MountPoint{Type: mount.TypeBind, Source: m.Source, Mode: mode, Propagation: mount.PropagationRPrivate})
	return nil
}

func (c *Container) addMount(ctx context.Context, given mount.Mount) error {
	m, err := grammar.MountNamed(given)
	if err != nil {
		return invalid(err)
	}
	switch given.Type {
	case mount.TypeVolume:
		o := given.VolumeOptions
		if o == nil {
			o = &mount.VolumeOptions{}
		}
		m.Selector = o.Subpath
		return c.addVolume(ctx, m, given.Source, o.NoCopy, o.Labels, "z")
	case mount.TypeBind:
		c.add(m, container.MountPoint{Type: mount.TypeBind, Source: m.Source, Propagation: mount.PropagationRPrivate})
	default:
		c.add(m, container.MountPoint{Type: mount.TypeTmpfs})
	}
	return nil
}

// addVolume mounts a volume, which it makes if it does not exist: one without a name for this container. An empty volume gets the files of the
// image.
func (c *Container) addVolume(ctx context.Context, m sandbox.Mount, name string, noCopy bool, labels map[string]string, mode string) error {
	anonymous := name == ""
	if anonymous {
		name = newID()
		labels = maps.Clone(labels)
		if labels == nil {
			labels = map[string]string{}
		}
		labels[anonymousLabel] = ""
	}
	v, err := c.m.volumes.make(c.store, name, labels)
	if err != nil {
		return err
	}
	hold, err := c.m.volumes.hold(ctx, c.store, name)
	if err != nil {
		return err
	}
	p := mountPoint{anonymous: anonymous, hold: hold}
	p.MountPoint = container.MountPoint{
		Type: mount.TypeVolume, Name: name, Source: v.Mountpoint, Destination: path.Clean(m.Target), Driver: "local", Mode: mode, RW: !m.ReadOnly,
	}
	c.mounts = append(c.mounts, p)
	if !noCopy {
		if err := c.fill(ctx, v.Mountpoint, m.Target); err != nil {
			return err
		}
	}
	m.Source = v.Mountpoint
	c.process.Mounts = append(c.process.Mounts, m)
	return nil
}

// fill copies the image's files into an empty volume.
func (c *Container) fill(ctx context.Context, volume, target string) error {
	entries, err := os.ReadDir(volume)
	if err != nil || len(entries) > 0 {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(volume), "fill-")
	if err != nil {
		return fmt.Errorf("make volume: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	data := filepath.Join(dir, "data")
	if err := Fill(ctx, c.layers, c.image.Chain(), target, data); err != nil {
		return err
	}
	if _, err := os.Lstat(data); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	// It replaces the empty directory; another container that has filled it in the meantime wins.
	// os.Rename would not replace it.
	if err := unix.Rename(data, volume); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make volume: %w", err)
	}
	return nil
}

func (c *Container) add(m sandbox.Mount, p container.MountPoint) {
	p.Destination, p.RW = path.Clean(m.Target), !m.ReadOnly
	c.process.Mounts = append(c.process.Mounts, m)
	c.mounts = append(c.mounts, mountPoint{MountPoint: p})
}
