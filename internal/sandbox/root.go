package sandbox

import (
	"errors"
	"path"

	"golang.org/x/sys/unix"
)

// Other processes may change the source of a mount while it is mounted, such as those of a step with the same cache. A path
// that was checked may refer to another file when it is used (CVE-2024-23651). Files in a directory that others write to are
// therefore opened once, inside it, and used by their descriptor.

// maxResolutions bounds how often a path is resolved again that the kernel could not resolve safely because of a concurrent
// rename or mount (EAGAIN, see openat2(2)).
const maxResolutions = 10000

// openIn opens a path (O_PATH) as a process does whose root is the directory root: symlinks and ".." stay inside.
func openIn(root int, name string) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for n := 0; ; n++ {
		fd, err := unix.Openat2(root, name, &how)
		if again := errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR); !again || n == maxResolutions {
			return fd, err
		}
	}
}

// maxLinks bounds how many dangling symlinks makeIn follows, as the kernel does for others.
const maxLinks = 40

// makeIn opens a path inside the directory root. It makes missing directories, and at the end of the path a directory or an
// empty file. For a dangling symlink, it makes the target.
func makeIn(root int, name string, dir bool) (int, error) {
	for n := 0; ; n++ {
		fd, err := makeAt(root, name, dir, maxLinks)
		if !errors.Is(err, unix.EAGAIN) || n == maxResolutions {
			return fd, err
		}
	}
}

func makeAt(root int, name string, dir bool, links int) (int, error) {
	name = path.Join("/", name)
	fd, err := openIn(root, name)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	parent, err := makeAt(root, path.Dir(name), true, links)
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(parent) }()
	if err := makeEntry(parent, path.Base(name), dir); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, err
	}
	fd, err = openIn(root, name)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	if links == 0 {
		return -1, unix.ELOOP
	}
	to, err := readLink(parent, path.Base(name))
	if err != nil {
		return -1, err
	}
	if !path.IsAbs(to) {
		to = path.Join(path.Dir(name), to)
	}
	return makeAt(root, to, dir, links-1)
}

// makeEntry makes a directory or an empty file in the directory parent.
func makeEntry(parent int, name string, dir bool) error {
	if dir {
		return unix.Mkdirat(parent, name, 0o755)
	}
	fd, err := unix.Openat(parent, name, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func readLink(parent int, name string) (string, error) {
	to := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(parent, name, to)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return "", unix.EAGAIN // it was a link a moment ago
	}
	return string(to[:max(n, 0)]), err
}

// isDir reports whether a descriptor refers to a directory.
func isDir(fd int) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}
