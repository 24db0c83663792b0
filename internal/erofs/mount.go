package erofs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Mount mounts the filesystem in a file at target, read-only. It takes root in the initial user namespace, and Linux 6.12:
// from then on no loop device is needed. The file's own filesystem must be one that Linux reads in pages, which overlayfs and
// tmpfs are not.
func Mount(file, target string) error {
	if err := unix.Mount(file, target, "erofs", unix.MS_RDONLY, ""); err != nil {
		return &os.PathError{Op: "mount", Path: file, Err: err}
	}
	return nil
}

// Mountable reports whether filesystems in the files of a folder can be mounted, by doing it, nowhere that anybody sees.
func Mountable(folder string) bool {
	f, err := os.CreateTemp(folder, "erofs-*")
	if err != nil {
		return false
	}
	defer func() { _ = errors.Join(f.Close(), os.Remove(f.Name())) }()
	root := Dir{Path: ".", Node: Node{Mode: unix.S_IFDIR | 0o755}}
	if NewWriter(f).Finish([]Dir{root}, nil) != nil {
		return false
	}
	fd, err := unix.Fsopen("erofs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.FsconfigSetString(fd, "source", f.Name()) == nil && unix.FsconfigCreate(fd) == nil
}
