package runcmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/mount"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/localdir"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/view"
)

// addMounts adds --volume and --tmpfs, and the image's own volumes where nothing else is mounted.
func (f *runFlags) addMounts(ctx context.Context, app *command.App, img *image.Image, p *sandbox.Process, dir string) error {
	for _, v := range f.volumes {
		m, anonymous, err := parseVolume(v)
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
		target, options, _ := strings.Cut(t, ":")
		if !path.IsAbs(target) {
			return fmt.Errorf("invalid tmpfs %q: the path must be absolute", t)
		}
		p.Mounts = append(p.Mounts, tmpfs(target, options))
	}
	for _, given := range f.mounts.Value() {
		m, err := givenMount(given)
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
	if err := checkDuplicates(p.Mounts); err != nil {
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
	slices.SortStableFunc(p.Mounts, func(a, b sandbox.Mount) int {
		return strings.Count(path.Clean(a.Target), "/") - strings.Count(path.Clean(b.Target), "/")
	})
	return nil
}

// tmpfs is a --tmpfs mount; docker's options size and mode, and those of mount(8).
func tmpfs(target, options string) sandbox.Mount {
	m := sandbox.Mount{Type: sandbox.MountTmpfs, Target: target}
	rest := []string{"nodev", "noexec"} // docker's; options that are given come after
	for o := range strings.SplitSeq(options, ",") {
		if size, ok := strings.CutPrefix(o, "size="); ok {
			if n, err := units.RAMInBytes(size); err == nil {
				m.Size = n
				continue
			}
		}
		if o != "" {
			rest = append(rest, o)
		}
	}
	m.Options = strings.Join(rest, ",")
	return m
}

// parseVolume reads host-path:path[:options], or a path alone for an anonymous volume.
func parseVolume(v string) (m sandbox.Mount, anonymous bool, err error) {
	parts := strings.Split(v, ":")
	m.Type = sandbox.MountBind
	switch {
	case len(parts) == 1:
		m.Target, anonymous = parts[0], true
	case len(parts) <= 3:
		m.Source, m.Target = parts[0], parts[1]
	default:
		return m, false, fmt.Errorf("invalid volume specification: '%s'", v)
	}
	if len(parts) == 3 {
		for o := range strings.SplitSeq(parts[2], ",") {
			switch o {
			case "ro":
				m.ReadOnly = true
			case "rw", "z", "Z", "cached", "delegated", "consistent", "rprivate", "private":
			default:
				return m, false, fmt.Errorf("invalid volume specification: '%s': unknown option %q", v, o)
			}
		}
	}
	if !path.IsAbs(m.Target) || path.Clean(m.Target) == "/" {
		return m, false, fmt.Errorf("invalid volume specification: '%s': destination must be an absolute path other than /", v)
	}
	if anonymous {
		return m, true, nil
	}
	if !filepath.IsAbs(m.Source) {
		if !strings.HasPrefix(m.Source, ".") {
			return m, false, fmt.Errorf("invalid volume specification: '%s': named volumes are not supported: use a path", v)
		}
		if m.Source, err = filepath.Abs(m.Source); err != nil {
			return m, false, err
		}
	}
	if _, err := os.Stat(m.Source); errors.Is(err, fs.ErrNotExist) {
		// As docker does for -v.
		err = os.MkdirAll(m.Source, 0o755)
		if err != nil {
			return m, false, fmt.Errorf("invalid volume specification: '%s': %w", v, err)
		}
	}
	return m, false, nil
}

// anonymousVolume is a folder that lives as long as the container, filled with what the image has at its place.
func anonymousVolume(ctx context.Context, app *command.App, img *image.Image, target, dir string) (string, error) {
	parent, err := os.MkdirTemp(dir, "volume-")
	if err != nil {
		return "", fmt.Errorf("make volume %s: %w", target, err)
	}
	folder := filepath.Join(parent, "data")
	v, err := app.Layers.View(ctx, img.Chain())
	if err != nil {
		return "", err
	}
	at, err := view.Resolve(ctx, v, target, true)
	if err != nil {
		return "", fmt.Errorf("make volume %s: %w", target, err)
	}
	if err := localdir.Copy(ctx, v, at, folder); err != nil {
		return "", fmt.Errorf("make volume %s: %w", target, err)
	}
	return folder, nil
}
