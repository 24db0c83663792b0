package sandbox

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/inroot"
	"github.com/micabuild/mica/internal/overlay"
)

// source mounts the source of a mount in the bundle's directory, where no other process can change it, and returns its path, or
// "" for a tmpfs. It runs on the sandbox's own thread: its mounts are visible there only.
func (b *bundle) source(i int, m Mount) (string, error) {
	switch m.Type {
	case MountTmpfs:
		return "", nil
	case MountBind:
		return b.selected(i, m, m.Source)
	case mountInit:
		return b.initProgram(i)
	}
	dir := b.unionDir(i)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	switch m.Type {
	case MountSecret:
		return b.secret(i, m, dir)
	case MountSocket:
		return b.socket(m, dir)
	}
	if err := overlay.Mount(dir, dir+"-links", m.Union, b.host.Nested()); err != nil {
		return "", err
	}
	b.mounted = append(b.mounted, dir)
	return b.selected(i, m, dir)
}

// mountDir returns the path in the bundle's directory of a mount's source.
func (b *bundle) mountDir(i int) string { return filepath.Join(b.dir, fmt.Sprintf("mount-%d", i)) }

// unionDir returns the path at which the whole source is mounted, of which a mount may show a part.
func (b *bundle) unionDir(i int) string { return b.mountDir(i) + "-source" }

// selected mounts the part of dir that the mount selects, or all of it. The selector is resolved inside dir and opened once: a
// process that writes to dir may put a symlink there at any time.
func (b *bundle) selected(i int, m Mount, dir string) (string, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(fd) }()
	if m.Selector != "" && m.Selector != "/" {
		selected, err := inroot.Open(fd, m.Selector)
		if err != nil {
			return "", fmt.Errorf("%s: %w", m.Selector, err)
		}
		defer func() { _ = unix.Close(selected) }()
		fd = selected
	}
	return b.showAs(m, fd, b.mountDir(i))
}

// showAs mounts the file or directory of a descriptor at a new path, with the options of a mount.
func (b *bundle) showAs(m Mount, fd int, at string) (string, error) {
	flags, set := uint(unix.AT_RECURSIVE), uint64(0)
	if m.TopOnly {
		flags = 0
	}
	if m.ReadOnly && !m.TopReadOnly {
		set = unix.MOUNT_ATTR_RDONLY
	}
	at, err := b.showTree(fd, at, set, flags)
	if err != nil || !m.ReadOnly || !m.TopReadOnly {
		return at, err
	}
	return at, unix.MountSetattr(unix.AT_FDCWD, at, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

// show mounts the file or directory of a descriptor at a new path, with additional attributes.
func (b *bundle) show(fd int, at string, set uint64) (string, error) {
	return b.showTree(fd, at, set, unix.AT_RECURSIVE)
}

// showTree is show with flags of open_tree(2), which may leave out mounts below the top.
func (b *bundle) showTree(fd int, at string, set uint64, flags uint) (string, error) {
	dir, err := inroot.IsDir(fd)
	if err != nil {
		return "", err
	}
	if dir {
		err = os.Mkdir(at, 0o755)
	} else {
		err = os.WriteFile(at, nil, 0o600)
	}
	if err != nil {
		return "", err
	}
	return at, bindAt(fd, at, set, flags)
}

// secret makes a file in memory.
func (b *bundle) secret(i int, m Mount, dir string) (string, error) {
	// The memory is not swapped out if the kernel has the option (Linux 6.4).
	const flags, options = unix.MS_NODEV | unix.MS_NOSUID, "mode=0711"
	err := unix.Mount("tmpfs", dir, "tmpfs", flags, options+",noswap")
	if err != nil {
		err = unix.Mount("tmpfs", dir, "tmpfs", flags, options)
	}
	if err != nil {
		return "", fmt.Errorf("keep a secret in memory: %w", err)
	}
	b.mounted = append(b.mounted, dir)
	path := filepath.Join(dir, "secret")
	if err := os.WriteFile(path, m.Data, 0o600); err != nil {
		return "", err
	}
	if err := own(path, m); err != nil {
		return "", err
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(fd) }()
	set := uint64(unix.MOUNT_ATTR_RDONLY)
	if m.Mode&0o111 == 0 {
		set |= unix.MOUNT_ATTR_NOEXEC
	}
	return b.show(fd, b.mountDir(i), set)
}

// own sets the owner and then the mode of a file.
func own(path string, m Mount) error {
	if err := os.Lchown(path, m.UID, m.GID); err != nil {
		return err
	}
	return os.Chmod(path, m.Mode&os.ModePerm)
}

// socket listens for connections of the process to Serve. The thread changes to the directory, because the path of a socket
// must be short.
func (b *bundle) socket(m Mount, dir string) (string, error) {
	if err := unix.Chdir(dir); err != nil {
		return "", err
	}
	defer func() { _ = unix.Chdir("/") }()
	l, err := net.Listen("unix", "socket")
	if err != nil {
		return "", err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	b.listeners = append(b.listeners, l)
	if err := own("socket", m); err != nil {
		return "", err
	}
	go serve(l, m.Serve)
	return filepath.Join(dir, "socket"), nil
}

// serve handles connections until the listener is closed, and then closes those that are open.
func serve(l net.Listener, handle func(net.Conn)) {
	var open sync.Map
	for {
		c, err := l.Accept()
		if err != nil {
			open.Range(func(c, _ any) bool {
				_ = c.(net.Conn).Close()
				return true
			})
			return
		}
		open.Store(c, nil)
		go func() {
			defer open.Delete(c)
			handle(c)
		}()
	}
}
