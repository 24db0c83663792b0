// Package union mounts root filesystems of layer chains with overlayfs.
package union

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Options of one overlay mount.
type Options struct {
	// Lowers are the trees of the chain's layers, bottom first.
	Lowers []string
	// Upper takes what is written, Work is overlayfs's own, on the same filesystem. With no Upper the mount is read-only.
	Upper, Work string
}

// maxLowers is how many layers Linux stacks in one overlay mount (OVL_MAX_STACK, fs/overlayfs).
const maxLowers = 500

// Mount mounts a chain at target, in the calling thread's mount namespace. userNamespace says that the process is root in
// a user namespace only: then overlayfs keeps its marks in user.* attributes (kernel 5.11).
func Mount(target string, o Options, userNamespace bool) error {
	if len(o.Lowers) > maxLowers {
		return fmt.Errorf("mount root filesystem: %d layers are more than the %d that Linux can stack", len(o.Lowers), maxLowers)
	}
	if len(o.Lowers) == 1 && o.Upper == "" {
		return bindReadOnly(o.Lowers[0], target)
	}
	lowers, cleanup, err := o.lowerPaths()
	if err != nil {
		return err
	}
	defer cleanup()
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("mount root filesystem: overlayfs: %w", err)
	}
	defer func() { _ = unix.Close(fs) }()
	if err := configure(fs, o, lowers, userNamespace); err != nil {
		return fmt.Errorf("mount root filesystem: overlayfs: %w%s", err, kernelLog(fs))
	}
	attrs := 0
	if o.Upper == "" {
		attrs = unix.MOUNT_ATTR_RDONLY
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attrs)
	if err != nil {
		return fmt.Errorf("mount root filesystem: %w%s", err, kernelLog(fs))
	}
	defer func() { _ = unix.Close(mnt) }()
	if err := unix.MoveMount(mnt, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount root filesystem: %w", err)
	}
	return nil
}

// lowerPaths opens the lower directories and names them by their descriptors. That is short, so that a long chain fits
// in one option, and holds none of the characters that overlayfs gives a meaning (: , \).
func (o Options) lowerPaths() (paths []string, cleanup func(), err error) {
	var fds []int
	cleanup = func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}
	dirs := o.Lowers
	if len(dirs) == 0 {
		// A filesystem of nothing: overlayfs wants at least one lower directory.
		empty, err := os.MkdirTemp(parent(o.Work), "empty-")
		if err != nil {
			return nil, nil, fmt.Errorf("mount root filesystem: %w", err)
		}
		dirs = []string{empty}
	}
	for i := len(dirs) - 1; i >= 0; i-- { // overlayfs lists the top first
		fd, err := unix.Open(dirs[i], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			cleanup()
			return nil, nil, fmt.Errorf("mount root filesystem: open layer %s: %w", dirs[i], err)
		}
		fds = append(fds, fd)
		paths = append(paths, fmt.Sprintf("/proc/thread-self/fd/%d", fd))
	}
	return paths, cleanup, nil
}

func parent(dir string) string {
	if i := strings.LastIndexByte(dir, '/'); i > 0 {
		return dir[:i]
	}
	return os.TempDir()
}

func configure(fs int, o Options, lowers []string, userNamespace bool) error {
	type option struct{ key, value string }
	opts := []option{{"source", "overlay"}}
	for _, l := range lowers {
		opts = append(opts, option{"lowerdir+", l}) // kernel 6.5
	}
	if err := unix.FsconfigSetString(fs, "lowerdir+", lowers[0]); err != nil {
		// Before 6.5 all lower directories are one option.
		opts = []option{{"source", "overlay"}, {"lowerdir", strings.Join(lowers, ":")}}
	} else {
		opts = append(opts[:1], opts[2:]...)
	}
	if o.Upper != "" {
		opts = append(opts, option{"upperdir", o.Upper}, option{"workdir", o.Work})
	}
	// A tree must mean the same on its own as in the mount it was written in: no redirects, no metadata-only copies.
	opts = append(opts, option{"index", "off"}, option{"redirect_dir", "off"}, option{"metacopy", "off"})
	for _, op := range opts {
		if err := unix.FsconfigSetString(fs, op.key, op.value); err != nil {
			return fmt.Errorf("option %s=%s: %w", op.key, op.value, err)
		}
	}
	if userNamespace {
		if err := unix.FsconfigSetFlag(fs, "userxattr"); err != nil {
			return fmt.Errorf("option userxattr: %w", err)
		}
	}
	return unix.FsconfigCreate(fs)
}

// kernelLog is what the kernel says of a failed mount.
func kernelLog(fs int) string {
	buf := make([]byte, 512)
	n, err := unix.Read(fs, buf)
	if err != nil || n == 0 {
		return ""
	}
	return " (" + strings.TrimSpace(string(buf[:n])) + ")"
}

func bindReadOnly(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount root filesystem: %w", err)
	}
	if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount root filesystem read-only: %w", err)
	}
	return nil
}
