package runcmd

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/moby/moby/api/types/mount"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/container"
	"github.com/micabuild/mica/internal/containers"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/sandbox"
)

// addMounts adds --volume and --tmpfs, and the image's own volumes where nothing else is mounted.
func (f *runFlags) addMounts(ctx context.Context, app *command.App, img *image.Image, p *sandbox.Process, dir string) error {
	for _, v := range f.volumes {
		m, anonymous, err := container.ParseVolume(v)
		if err != nil {
			return err
		}
		if anonymous {
			if m.Source, err = anonymousVolume(ctx, app, img, m.Target, dir); err != nil {
				return err
			}
		}
		p.Mounts = append(p.Mounts, m)
	}
	for _, t := range f.tmpfs {
		m, err := container.Tmpfs(t)
		if err != nil {
			return err
		}
		p.Mounts = append(p.Mounts, m)
	}
	for _, given := range f.mounts.Value() {
		m, err := container.Mount(given)
		if err != nil {
			return err
		}
		if given.Type == mount.TypeVolume {
			if m.Source, err = volumeOf(ctx, app, img, given, dir); err != nil {
				return err
			}
		}
		p.Mounts = append(p.Mounts, m)
	}
	if err := container.CheckDuplicates(p.Mounts); err != nil {
		return err
	}
	for target := range img.Config.Config.Volumes {
		target = path.Clean("/" + target)
		if slices.ContainsFunc(p.Mounts, func(m sandbox.Mount) bool { return path.Clean(m.Target) == target }) {
			continue
		}
		source, err := anonymousVolume(ctx, app, img, target, dir)
		if err != nil {
			return err
		}
		p.Mounts = append(p.Mounts, sandbox.Mount{Type: sandbox.MountBind, Target: target, Source: source})
	}
	container.SortMounts(p.Mounts)
	return nil
}

// volumeOf is the directory of an anonymous volume: what the image has at its place, or nothing.
func volumeOf(ctx context.Context, app *command.App, img *image.Image, m mount.Mount, dir string) (string, error) {
	if m.VolumeOptions == nil || !m.VolumeOptions.NoCopy {
		return anonymousVolume(ctx, app, img, m.Target, dir)
	}
	empty, err := os.MkdirTemp(dir, "volume-")
	if err == nil {
		err = os.Chmod(empty, 0o755)
	}
	if err != nil {
		return "", fmt.Errorf("make volume %s: %w", m.Target, err)
	}
	return empty, nil
}

// anonymousVolume makes a directory that exists as long as the container, with a copy of the image's files at target.
func anonymousVolume(ctx context.Context, app *command.App, img *image.Image, target, dir string) (string, error) {
	parent, err := os.MkdirTemp(dir, "volume-")
	if err != nil {
		return "", fmt.Errorf("make volume %s: %w", target, err)
	}
	volume := filepath.Join(parent, "data")
	return volume, containers.Fill(ctx, app.Layers, img.Chain(), target, volume)
}
