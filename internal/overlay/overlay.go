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

// Options of one overlay mount.
type Options struct {
	// Lowers are the trees of the chain's layers, bottom first: folders, or files that are EROFS filesystems.
	Lowers []string
	// Upper takes what is written, Work is overlayfs's own, on the same filesystem. With no Upper the mount is read-only.
	// Nothing in Upper is sure to be on disk, whatever a process has synced: a power cut may lose it.
	Upper, Work string
}

// maxLowers is how many layers Linux stacks in one overlay mount (OVL_MAX_STACK, fs/overlayfs).
const maxLowers = 500

// Mount mounts a chain at target, in the calling thread's mount namespace. scratch is a folder that Mount makes
// for its own use during the call; the caller removes it. userNamespace says that the process is root in a user namespace
// only: then overlayfs keeps its marks in user.* attributes (kernel 5.11).
//
// Mount moves the thread's working directory: the thread must have one of its own (CLONE_FS unshared).
func Mount(target, scratch string, o Options, userNamespace bool) error {
	o.Lowers = once(o.Lowers)
	if len(o.Lowers) > maxLowers {
		return fmt.Errorf("mount root filesystem: %d layers are more than the %d that Linux can stack", len(o.Lowers), maxLowers)
	}
	if len(o.Lowers) == 1 && o.Upper == "" {
		return mountOne(o.Lowers[0], target)
	}
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return fmt.Errorf("mount root filesystem: %w", err)
	}
	// Overlayfs has its own clones of what is mounted in scratch.
	defer func() {
		for i := range o.Lowers {
			_ = unix.Unmount(filepath.Join(scratch, strconv.Itoa(i)), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
	}()
	data, flags, err := o.link(scratch)
	if err != nil {
		return fmt.Errorf("mount root filesystem: %w", err)
	}
	// A tree must mean the same on its own as in the mount it was written in: no redirects, no metadata-only copies.
	// With userxattr there are none, and the kernel refuses to be told so.
	// With xino, files and folders have one device number, also where the trees lie on several filesystems.
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
		// Without volatile, unmounting writes all that is dirty on the upper's whole filesystem to disk, and so does every fsync
		// in the root filesystem. Kernels before 5.10 do not know it.
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

// once leaves every folder in its highest place: overlayfs refuses to have one twice (ELOOP), and two steps that change
// nothing make the same layer. What the lower one does, the upper one does again.
func once(lowers []string) []string {
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

// link makes a symlink in scratch for every folder of the mount, mounts what are files there, and returns mount options that name
// those, relative to scratch: mount(2) takes one page of options, which a long chain's paths would not fit in, and paths may hold
// characters that overlayfs gives a meaning (: , \).
func (o Options) link(scratch string) (data string, flags uintptr, err error) {
	lowers := o.Lowers
	if len(lowers) == 0 {
		// A filesystem of nothing: overlayfs wants at least one lower directory.
		empty := filepath.Join(scratch, "empty")
		if err := os.Mkdir(empty, 0o755); err != nil {
			return "", 0, err
		}
		lowers = []string{empty}
	}
	names := make([]string, len(lowers))
	for i, dir := range lowers {
		name := strconv.Itoa(i)
		if err := place(dir, filepath.Join(scratch, name)); err != nil {
			return "", 0, err
		}
		names[len(lowers)-1-i] = name // overlayfs lists the top first
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

// advice says what a user can do about a mount that the kernel refuses.
func advice(err error) string {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EPERM) {
		return ": the kernel or the store's filesystem does not support overlayfs here; try --root on another filesystem"
	}
	return ""
}

// isFilesystem tells a filesystem in a file from a folder.
func isFilesystem(tree string) bool {
	info, err := os.Lstat(tree)
	return err == nil && info.Mode().IsRegular()
}

// place makes a tree appear at a path where nothing is: a folder by a symlink, a filesystem by mounting it.
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
