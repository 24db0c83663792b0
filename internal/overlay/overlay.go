// Package overlay mounts root filesystems of layer chains with overlayfs.
package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/erofs"
)

// Options are the options of a mount.
type Options struct {
	// Lowers are the trees of the chain's layers, bottom first: directories, or files with EROFS filesystems.
	Lowers []string
	// Upper receives the changes. Work is overlayfs's work directory, on the same filesystem. Without Upper the mount is
	// read-only. Overlayfs does not sync Upper, even if a process does: a power cut may lose changes. Both may be mounted again
	// after an unmount.
	Upper, Work string
}

// maxLowers is the number of layers that an overlay mount can have (OVL_MAX_STACK, fs/overlayfs).
const maxLowers = 500

// Mount mounts a chain at target, in the mount namespace of the calling thread. scratch is a directory that Mount makes and
// uses during the call; the caller removes it. userNamespace is set if the process is root only in a user namespace:
// overlayfs then keeps its marks in user.* attributes (kernel 5.11).
//
// Mount changes the working directory of the thread, which must not share it (unshare CLONE_FS).
func Mount(target, scratch string, o Options, userNamespace bool) error {
	o.Lowers = uniqueLowers(o.Lowers)
	if len(o.Lowers) > maxLowers {
		return fmt.Errorf("mount root filesystem: %d layers are more than the %d that Linux can stack", len(o.Lowers), maxLowers)
	}
	if len(o.Lowers) == 1 && o.Upper == "" {
		return mountOne(o.Lowers[0], target)
	}
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return fmt.Errorf("mount root filesystem: %w", err)
	}
	// Overlayfs has clones of the mounts in scratch.
	defer func() {
		for i := range o.Lowers {
			_ = unix.Unmount(filepath.Join(scratch, strconv.Itoa(i)), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
	}()
	data, flags, err := o.link(scratch)
	if err != nil {
		return fmt.Errorf("mount root filesystem: %w", err)
	}
	// An upper directory becomes a layer's tree. It must not refer to the layers below it by redirects or metadata-only copies.
	// With userxattr there are none, and the kernel refuses the options.
	// With xino all files have one device number, even if the trees are on several filesystems.
	data = "xino=on," + data
	if userNamespace {
		data = "userxattr," + data
	} else {
		data = "index=off,redirect_dir=off,metacopy=off," + data
	}
	if err := unix.Chdir(scratch); err != nil {
		return fmt.Errorf("mount root filesystem: %w", err)
	}
	if o.Upper != "" {
		// Overlayfs refuses what was mounted with volatile before, in case the system has crashed since.
		if err := os.RemoveAll(filepath.Join(o.Work, "work", "incompat", "volatile")); err != nil {
			return fmt.Errorf("mount root filesystem: %w", err)
		}
		// Without volatile, an unmount and every fsync in the root filesystem sync the whole filesystem of the upper directory.
		// Kernels before 5.10 do not have the option.
		if err := unix.Mount("overlay", target, "overlay", flags, data+",volatile"); !errors.Is(err, unix.EINVAL) {
			return mountError(err)
		}
	}
	return mountError(unix.Mount("overlay", target, "overlay", flags, data))
}

func mountError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("mount root filesystem: overlayfs: %w%s", err, advice(err))
}

// uniqueLowers removes all but the highest occurrence of every tree: overlayfs refuses duplicates (ELOOP), and a chain has
// them if two steps change nothing. The highest occurrence repeats the changes of the lower ones.
func uniqueLowers(lowers []string) []string {
	seen := map[string]bool{}
	var kept []string
	for _, dir := range slices.Backward(lowers) {
		if !seen[dir] {
			seen[dir] = true
			kept = append(kept, dir)
		}
	}
	slices.Reverse(kept)
	return kept
}

// link makes a symlink in scratch to every directory of the mount, mounts filesystems in files there, and returns mount options
// with names relative to scratch. The options of mount(2) are limited to a page, which is too short for the paths of a long
// chain, and paths may have characters that are special to overlayfs (: , \).
func (o Options) link(scratch string) (data string, flags uintptr, err error) {
	lowers := o.Lowers
	if len(lowers) == 0 {
		// Overlayfs needs at least one lower directory, and two without an upper one.
		lowers = []string{filepath.Join(scratch, "empty")}
		if o.Upper == "" {
			lowers = append(lowers, filepath.Join(scratch, "empty too"))
		}
		for _, empty := range lowers {
			if err := os.Mkdir(empty, 0o755); err != nil {
				return "", 0, err
			}
		}
	}
	names := make([]string, len(lowers))
	for i, dir := range lowers {
		name := strconv.Itoa(i)
		if err := place(dir, filepath.Join(scratch, name)); err != nil {
			return "", 0, err
		}
		names[len(lowers)-1-i] = name // the top is first in the option
	}
	opts := []string{"lowerdir=" + strings.Join(names, ":")}
	if o.Upper == "" {
		return strings.Join(opts, ","), unix.MS_RDONLY, nil
	}
	for name, dir := range map[string]string{"upper": o.Upper, "work": o.Work} {
		if err := os.Symlink(dir, filepath.Join(scratch, name)); err != nil {
			return "", 0, err
		}
		opts = append(opts, name+"dir="+name)
	}
	return strings.Join(opts, ","), 0, nil
}

// advice returns what the user can do if the kernel refuses a mount.
func advice(err error) string {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EPERM) {
		return ": the kernel or the store's filesystem does not support overlayfs here; try --root on another filesystem"
	}
	return ""
}

// isFilesystem reports whether a tree is a filesystem in a file. Otherwise it is a directory.
func isFilesystem(tree string) bool {
	info, err := os.Lstat(tree)
	return err == nil && info.Mode().IsRegular()
}

// place makes a tree available at a path that does not exist: a directory by a symlink, a filesystem by a mount.
func place(tree, at string) error {
	if !isFilesystem(tree) {
		return os.Symlink(tree, at)
	}
	if err := os.Mkdir(at, 0o700); err != nil {
		return err
	}
	return erofs.Mount(tree, at)
}

// mountOne mounts a single tree, read-only.
func mountOne(source, target string) error {
	if isFilesystem(source) {
		if err := erofs.Mount(source, target); err != nil {
			return fmt.Errorf("mount root filesystem: %w", err)
		}
		return nil
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount root filesystem: %w", err)
	}
	if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount root filesystem read-only: %w", err)
	}
	return nil
}
