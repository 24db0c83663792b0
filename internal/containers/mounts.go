package containers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/volume"
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
	return p.hold.Unlock()
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
	v, hold, err := c.m.volumes.acquire(ctx, c.store, name, labels)
	if err != nil {
		return err
	}
	p := mountPoint{anonymous: anonymous, hold: hold}
	p.MountPoint = container.MountPoint{
		Type: mount.TypeVolume, Name: name, Source: v.Mountpoint, Destination: path.Clean(m.Target), Driver: "local", Mode: mode, RW: !m.ReadOnly,
	}
	c.mounts = append(c.mounts, p)
	if !noCopy {
		if err := c.fill(ctx, v, m.Target); err != nil {
			return err
		}
	}
	m.Source = v.Mountpoint
	c.process.Mounts = append(c.process.Mounts, m)
	return nil
}

// removeVolumes removes the anonymous volumes of the container, unless others have them. It has released them.
func (c *Container) removeVolumes() error {
	var errs []error
	for _, p := range c.mounts {
		if !p.anonymous {
			continue
		}
		if err := c.m.volumes.Remove(p.Name, true); !isKind(err, Conflict) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// fill copies the image's files into an empty volume.
func (c *Container) fill(ctx context.Context, v *volume.Volume, target string) (err error) {
	if empty, err := isEmpty(v.Mountpoint); err != nil || !empty {
		return err
	}
	lock, err := c.store.Lock(ctx, fillLock(v.Name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if empty, err := isEmpty(v.Mountpoint); err != nil || !empty { // another container has filled it in the meantime
		return err
	}
	tmp, err := c.store.TempDir("volume")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tmp.Remove()) }()
	made := filepath.Join(tmp.Path, "data")
	if err := Fill(ctx, c.layers, c.image.Chain(), target, made); err != nil {
		return err
	}
	if err := moveInto(made, v.Mountpoint); err != nil {
		return fmt.Errorf("make volume %s: %w", v.Name, err)
	}
	return nil
}

func isEmpty(dir string) (bool, error) {
	d, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer func() { _ = d.Close() }()
	_, err = d.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}

// moveInto moves the files of a directory into another one, which gets its owner, mode and time. Containers that run may have the other one
// mounted: it is not replaced, and neither is what they have written in the meantime.
func moveInto(from, to string) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: from, Err: err}
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(from, e.Name()), unix.AT_FDCWD, filepath.Join(to, e.Name()), unix.RENAME_NOREPLACE)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return &os.LinkError{Op: "rename", Old: e.Name(), New: to, Err: err}
		}
	}
	if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
		return &os.PathError{Op: "chmod", Path: to, Err: err}
	}
	return setTimes(to, &st, unix.AT_SYMLINK_NOFOLLOW)
}

func (c *Container) add(m sandbox.Mount, p container.MountPoint) {
	p.Destination, p.RW = path.Clean(m.Target), !m.ReadOnly
	c.process.Mounts = append(c.process.Mounts, m)
	c.mounts = append(c.mounts, mountPoint{MountPoint: p})
}
