// Package inroot opens and makes files inside a directory as a process does whose root it is.
//
// Other processes may change the directory meanwhile, such as those of a step with the same cache mount: a path that was checked
// may refer to another file when it is used (CVE-2024-23651). Files are therefore opened once, and used by their descriptor.
package inroot

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// OpenDir opens a directory (O_PATH) as the root for the other functions.
func OpenDir(name string) (int, error) {
	return unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// maxResolutions bounds how often a path is resolved again that the kernel could not resolve safely because of a concurrent
// rename or mount (EAGAIN, see openat2(2)).
const maxResolutions = 10000

// Open opens a path (O_PATH) as a process does whose root is the directory root: symlinks and ".." stay inside.
func Open(root int, name string) (int, error) { return open(root, name, 0) }

// OpenLink is Open, but for a symlink at the end of the path, which it opens itself.
func OpenLink(root int, name string) (int, error) { return open(root, name, unix.O_NOFOLLOW) }

func open(root int, name string, flags uint64) (int, error) {
	return resolve(root, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | flags, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
}

// resolve is openat2(2), again when the kernel asks for it.
func resolve(root int, name string, how *unix.OpenHow) (int, error) {
	for n := 0; ; n++ {
		fd, err := unix.Openat2(root, name, how)
		if again := errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR); !again || n == maxResolutions {
			return fd, err
		}
	}
}

// maxLinks bounds how many dangling symlinks Make follows, as the kernel does for others.
const maxLinks = 40

// Make opens a path inside the directory root. It makes missing directories, and at the end of the path a directory or an
// empty file. For a dangling symlink, it makes the target.
func Make(root int, name string, dir bool) (int, error) {
	for n := 0; ; n++ {
		fd, err := makeAt(root, name, dir, maxLinks)
		if !errors.Is(err, unix.EAGAIN) || n == maxResolutions {
			return fd, err
		}
	}
}

func makeAt(root int, name string, dir bool, links int) (int, error) {
	name = path.Join("/", name)
	fd, err := Open(root, name)
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
	fd, err = Open(root, name)
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

// Path is the absolute path, inside the directory root, of a file of which there is a descriptor: without symlinks, as it is at the moment.
func Path(root, fd int) (string, error) {
	top, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", root))
	if err != nil {
		return "", err
	}
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return "", err
	}
	rest, ok := strings.CutPrefix(name, strings.TrimSuffix(top, "/"))
	if !ok || rest != "" && rest[0] != '/' {
		return "", &os.PathError{Op: "find", Path: name, Err: os.ErrNotExist} // it was moved
	}
	return path.Join("/", rest), nil
}

// IsDir reports whether a descriptor refers to a directory.
func IsDir(fd int) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// ErrNotRegular is returned for files that OpenRegular does not open.
var ErrNotRegular = errors.New("it is not a regular file")

// OpenRegular opens a regular file inside the directory root for reading. It does not open devices and pipes, which may block or
// have no end: ErrNotRegular.
func OpenRegular(root int, name string) (*os.File, error) {
	return openRegular(root, name, unix.O_RDONLY)
}

// OpenWritable opens a regular file inside the directory root for reading and writing. It does not open devices and pipes: ErrNotRegular.
func OpenWritable(root int, name string) (*os.File, error) {
	return openRegular(root, name, unix.O_RDWR)
}

// openRegular looks at the type of a file, and then opens it by its path: in the namespaces of a step, /proc has no descriptors of this process.
func openRegular(root int, name string, flags uint64) (*os.File, error) {
	at, err := Open(root, name)
	if err != nil {
		return nil, err
	}
	err = checkRegular(at)
	_ = unix.Close(at)
	if err != nil {
		return nil, err
	}
	f, err := openFile(root, name, flags|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if err := checkRegular(int(f.Fd())); err != nil { // another file is in its place now
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func checkRegular(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return ErrNotRegular
	}
	return nil
}

// OpenList opens a directory inside the directory root, to list what is in it.
func OpenList(root int, name string) (*os.File, error) {
	return openFile(root, name, unix.O_RDONLY|unix.O_DIRECTORY)
}

func openFile(root int, name string, flags uint64) (*os.File, error) {
	fd, err := resolve(root, name, &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// RemoveEmpty removes an empty file or directory below root. It leaves other files, and follows no symlinks on
// the way to the parent. The parent keeps its times.
func RemoveEmpty(root int, name string) {
	how := unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	parent, err := resolve(root, path.Dir(name), &how)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(parent) }()
	var dir, st unix.Stat_t
	name = path.Base(name)
	if unix.Fstat(parent, &dir) != nil || unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return
	}
	flags := 0
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFDIR:
		flags = unix.AT_REMOVEDIR
	case kind != unix.S_IFREG || st.Size > 0:
		return
	}
	if unix.Unlinkat(parent, name, flags) == nil {
		_ = unix.UtimesNanoAt(parent, "", []unix.Timespec{dir.Atim, dir.Mtim}, unix.AT_EMPTY_PATH)
	}
}
