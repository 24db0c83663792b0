package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/inroot"
)

// mountPoint is a mount point in the root filesystem.
type mountPoint struct {
	target string
	dir    bool
	open   bool // for everyone, like /tmp: a tmpfs gets the mode of its mount point
}

// mountPoints lists all of them.
func (b *bundle) mountPoints() []mountPoint {
	points := []mountPoint{
		{target: "/proc", dir: true}, {target: "/dev", dir: true}, {target: "/sys", dir: true},
		{target: "/etc/resolv.conf"}, {target: "/etc/hosts"},
	}
	if b.p.WritableHosts {
		points = append(points, mountPoint{target: "/etc/hostname"})
	}
	for i, m := range b.p.Mounts {
		dir := true
		if b.sources[i] != "" {
			info, err := os.Stat(b.sources[i])
			dir = err != nil || info.IsDir()
		}
		points = append(points, mountPoint{path.Clean("/" + m.Target), dir, m.Type == MountTmpfs})
	}
	return points
}

// makeStubs makes a tree that consists of mount points.
func (b *bundle) makeStubs(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("prepare mount points: %w", err)
	}
	for _, p := range b.mountPoints() {
		if err := p.makeStub(filepath.Join(dir, p.target)); err != nil {
			return fmt.Errorf("mount target %s: %w", p.target, cause(err))
		}
	}
	return nil
}

func (p mountPoint) makeStub(full string) error {
	if p.dir {
		err := os.MkdirAll(full, 0o755)
		if err == nil && p.open {
			err = os.Chmod(full, 0o777|os.ModeSticky)
		}
		return err
	}
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		return err
	}
	err := os.WriteFile(full, nil, 0o644)
	if errors.Is(err, syscall.EISDIR) {
		return nil
	}
	return err
}

// checkTargets rejects mounts of a directory on a file of the image, of a file on a directory, and of anything below a file. The
// runtime's error would be the kernel's, with paths outside the image. Targets below another mount are not checked.
func (b *bundle) checkTargets() error {
	points := b.mountPoints()
	places := make([]string, len(points))
	for i, p := range points {
		full, err := securejoin.SecureJoin(b.rootfs, p.target)
		if err != nil {
			return fmt.Errorf("mount target %s: %w", p.target, err)
		}
		places[i] = full
	}
	for i := len(points) - len(b.p.Mounts); i < len(points); i++ {
		below := func(other string) bool { return strings.HasPrefix(places[i], other+"/") && other != b.rootfs }
		if slices.ContainsFunc(places, below) {
			continue
		}
		info, err := os.Lstat(places[i])
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err == nil && points[i].dir && !info.IsDir():
			err = syscall.ENOTDIR
		case err == nil && !points[i].dir && info.IsDir():
			err = syscall.EISDIR
		}
		if err != nil {
			return fmt.Errorf("mount target %s: %w", points[i].target, cause(err))
		}
	}
	return nil
}

// stubCleaner records which mount points are missing in the root filesystem in spite of the stubs, because a layer removed them
// or a symlink leads elsewhere. The runtime will make these. The function that it returns removes those that are empty and
// restores the times of their directories. The process may have made symlinks, and another process to which it passed a
// descriptor may still do so.
func (b *bundle) stubCleaner() func() {
	var missing []string
	for _, p := range b.mountPoints() {
		full, err := securejoin.SecureJoin(b.rootfs, p.target)
		if err != nil {
			continue
		}
		for full != b.rootfs {
			if _, err := os.Lstat(full); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
				break
			}
			missing = append(missing, full)
			full = filepath.Dir(full)
		}
	}
	return func() {
		root, err := inroot.OpenDir(b.rootfs)
		if err != nil {
			return
		}
		defer func() { _ = unix.Close(root) }()
		for _, full := range missing {
			inroot.RemoveEmpty(root, strings.TrimPrefix(full, b.rootfs+"/"))
		}
	}
}
