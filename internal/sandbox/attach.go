package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/inroot"
)

// attach mounts the process's mounts in b.root, a mount of the root filesystem that only the process uses. mica does this
// itself because a runtime resolves paths that other processes may change. Mounts in /proc, /dev and /sys are left to the
// runtime, which mounts these. b.rootfs does not change.
func (b *bundle) attach() error {
	b.root = filepath.Join(b.dir, "root")
	if err := os.Mkdir(b.root, 0o755); err != nil {
		return fmt.Errorf("prepare root filesystem: %w", err)
	}
	top, err := unix.Open(b.rootfs, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("prepare root filesystem: %w", err)
	}
	defer func() { _ = unix.Close(top) }()
	if err := bindAt(top, b.root, 0, 0); err != nil {
		return fmt.Errorf("prepare root filesystem: %w", err)
	}
	root, err := inroot.OpenDir(b.root)
	if err != nil {
		return fmt.Errorf("prepare root filesystem: %w", err)
	}
	defer func() { _ = unix.Close(root) }()
	return b.attachAll(root)
}

// attachAll mounts in the order of Docker and BuildKit: a volume on /etc covers the network files of a build step, but not
// those of a container.
func (b *bundle) attachAll(root int) error {
	if !b.p.WritableHosts {
		if err := b.attachNetworkFiles(root); err != nil {
			return err
		}
	}
	for i, m := range b.p.Mounts {
		if b.left[i] {
			continue
		}
		if err := b.attachMount(root, i, m); err != nil {
			return fmt.Errorf("mount target %s: %w", path.Clean("/"+m.Target), cause(err))
		}
	}
	if b.p.WritableHosts {
		return b.attachNetworkFiles(root)
	}
	return nil
}

func (b *bundle) attachNetworkFiles(root int) error {
	var set uint64
	if !b.p.WritableHosts {
		set = unix.MOUNT_ATTR_RDONLY
	}
	for _, name := range b.networkFiles() {
		target := "/etc/" + name
		if slices.ContainsFunc(b.p.Mounts, func(m Mount) bool { return path.Clean("/"+m.Target) == target }) {
			continue
		}
		err := attachPath(root, filepath.Join(b.dir, name), target, set)
		if err != nil && !errors.Is(err, unix.EROFS) { // no mount point can be made in a read-only mount
			return fmt.Errorf("mount %s: %w", target, cause(err))
		}
	}
	return nil
}

func (b *bundle) attachMount(root, i int, m Mount) error {
	if m.Type != MountTmpfs {
		return attachPath(root, b.sources[i], m.Target, 0)
	}
	target, err := inroot.Make(root, m.Target, true)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(target) }()
	source := b.mountDir(i)
	if err := os.Mkdir(source, 0o755); err != nil {
		return err
	}
	if err := mountTmpfs(source, target, m); err != nil {
		return err
	}
	return moveTo(source, target, 0)
}

// attachPath mounts a path of the bundle's directory, which no other process can change, on target. The mount gets the
// attributes set in addition to those of source.
func attachPath(root int, source, target string, set uint64) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	at, err := inroot.Make(root, target, info.IsDir())
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(at) }()
	return moveTo(source, at, set)
}

// bindAt mounts the file or directory of a descriptor on a path that only serves as a mount point.
func bindAt(fd int, at string, set uint64, flags uint) error {
	tree, err := unix.OpenTree(fd, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|flags)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(tree) }()
	if err := setAttributes(tree, set); err != nil {
		return err
	}
	return unix.MoveMount(tree, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// setAttributes makes a tree of mounts private and adds attributes to all of them.
func setAttributes(tree int, set uint64) error {
	err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: set, Propagation: unix.MS_PRIVATE})
	if errors.Is(err, unix.ENOSYS) {
		return errors.New("mount_setattr is missing: Linux 5.12 or newer is needed")
	}
	return err
}

// moveTo mounts a copy of the mounts at a path on the file or directory of a descriptor.
func moveTo(source string, target int, set uint64) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(tree) }()
	if err := setAttributes(tree, set); err != nil {
		return err
	}
	return unix.MoveMount(tree, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// detach ends the proxy, unmounts b.root and the mounts in it, and removes their mount points and the proxy's authority.
func (b *bundle) detach() {
	if b.endProxy != nil {
		b.endProxy()
	}
	if b.root != "" {
		_ = unix.Unmount(b.root, unix.MNT_DETACH)
	}
	if b.clean != nil {
		b.clean()
	}
	b.distrust()
}
