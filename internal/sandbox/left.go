package sandbox

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
)

// kernels are the directories on which the runtime mounts the kernel's filesystems after mica has mounted the rest.
var kernels = []string{"/proc", "/dev", "/sys"}

// inKernels are the mount points that the runtime makes in them.
var inKernels = []string{"/dev/pts", "/dev/shm", "/dev/mqueue", "/sys/fs/cgroup"}

// leftToRuntime reports for each mount whether it is in a filesystem that the runtime mounts. It resolves the targets before
// anything is mounted, so that only the image determines its symlinks.
func (b *bundle) leftToRuntime() ([]bool, error) {
	left := make([]bool, len(b.p.Mounts))
	for i, m := range b.p.Mounts {
		at, err := b.resolve(m.Target)
		if err != nil {
			return nil, err
		}
		left[i] = slices.ContainsFunc(kernels, func(dir string) bool { return within(at, dir) })
	}
	return left, b.checkLeft(left)
}

// checkLeft rejects mounts for which the runtime would resolve a path in a directory that other processes write to: runtimes
// make mount points and devices by name (CVE-2024-45310).
func (b *bundle) checkLeft(left []bool) error {
	made := slices.Clone(inKernels)
	shared := false
	for i, m := range b.p.Mounts {
		shared = shared || m.Shared
		if left[i] {
			made = append(made, m.Target)
		}
	}
	if !shared {
		return nil
	}
	for _, dir := range kernels {
		if at, err := b.resolve(dir); err != nil || at != dir {
			return errors.Join(err, fmt.Errorf("cache mount: the root filesystem's %s is a symlink, which no step with a cache mount can have", dir))
		}
	}
	for i, m := range b.p.Mounts {
		if !left[i] || !m.Shared {
			continue
		}
		for _, name := range made {
			if below := path.Clean("/" + name); below != path.Clean("/"+m.Target) && b.within(below, m.Target) {
				return fmt.Errorf("cache mount %s: %s lies in it and is mounted as well, which is not possible in %s", m.Target, below,
					strings.Join(kernels, ", "))
			}
		}
	}
	return nil
}

// resolve follows the links of the root filesystem.
func (b *bundle) resolve(name string) (string, error) {
	full, err := securejoin.SecureJoin(b.rootfs, name)
	if err != nil {
		return "", fmt.Errorf("mount target %s: %w", name, err)
	}
	return path.Join("/", strings.TrimPrefix(full, b.rootfs)), nil
}

// within reports whether one path of the root filesystem leads into another.
func (b *bundle) within(name, dir string) bool {
	from, err := b.resolve(name)
	to, toErr := b.resolve(dir)
	return err == nil && toErr == nil && within(from, to)
}

func within(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }
