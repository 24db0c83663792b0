package erofs

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Mount mounts the filesystem in a file at target, read-only. It needs root in the initial user namespace, and Linux 6.12, which
// needs no loop device. Linux must read the file's own filesystem in pages: it does not do so with overlayfs and tmpfs.
func Mount(file, target string) error {
	if err := unix.Mount(file, target, "erofs", unix.MS_RDONLY, ""); err != nil {
		return &os.PathError{Op: "mount", Path: file, Err: err}
	}
	return nil
}

// Mountable reports whether filesystems in the files of a directory can be mounted with all their attributes. It makes a file in
// the directory and mounts it invisibly. It does not ask kernels that are too old, which would load a module.
func Mountable(dir string) bool {
	if !newEnough() {
		return false
	}
	fd, err := unix.Fsopen("erofs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	file, err := writeProbe(dir)
	if err != nil {
		return false
	}
	if unix.FsconfigSetString(fd, "source", file) != nil || unix.FsconfigCreate(fd) != nil {
		return false
	}
	mount, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(mount) }()
	root, err := unix.Openat(mount, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(root) }()
	for name, want := range probeXattrs {
		value := make([]byte, 256)
		if n, err := unix.Fgetxattr(root, name, value); err != nil || string(value[:n]) != want {
			return false
		}
	}
	return true
}

// newEnough reports whether Linux is 6.12 or newer.
func newEnough() bool {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return false
	}
	var major, minor int
	_, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor)
	return err == nil && (major > 6 || major == 6 && minor >= 12)
}

// probeXattrs are attributes of each kind, which a kernel may have been built without.
var probeXattrs = map[string]string{
	"trusted.overlay.opaque": "y",
	// u::rwx,g::rx,o::rx as in posix_acl_xattr.h.
	"system.posix_acl_default": "\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x04\x00\x05\x00\xff\xff\xff\xff\x20\x00\x05\x00\xff\xff\xff\xff",
	// No capabilities, as in struct vfs_cap_data.
	"security.capability": "\x00\x00\x00\x02" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
}

// probeLabel has a byte that is not NUL wherever a label may have one.
var probeLabel = Label(bytes.Repeat([]byte{0xff}, len(Label{})))

func writeProbe(dir string) (string, error) {
	f, err := os.CreateTemp(dir, "erofs-*")
	if err != nil {
		return "", err
	}
	root := Dir{Path: ".", Node: Node{Mode: unix.S_IFDIR | 0o755, Xattrs: probeXattrs}}
	err = NewWriter(f, probeLabel).Finish([]Dir{root}, nil)
	return f.Name(), errors.Join(err, f.Close())
}
