package sandbox

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/union"
)

// source is the path on the host that a mount shows. It is called on the sandbox's own thread: what it mounts, nobody
// else sees.
func (b *bundle) source(i int, m Mount) (string, error) {
	switch m.Type {
	case MountTmpfs:
		return "", nil
	case MountBind:
		if m.Selector != "" {
			return b.selected(m, m.Source)
		}
		_, err := os.Stat(m.Source)
		return m.Source, err
	}
	dir := filepath.Join(b.dir, fmt.Sprintf("mount-%d", i))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	switch m.Type {
	case MountSecret:
		return b.secret(m, dir)
	case MountSocket:
		return b.socket(m, dir)
	}
	if err := union.Mount(dir, dir+"-links", m.Union, b.host.Nested()); err != nil {
		return "", err
	}
	b.mounted = append(b.mounted, dir)
	return b.selected(m, dir)
}

// selected is the mount's selector, found inside dir.
func (b *bundle) selected(m Mount, dir string) (string, error) {
	path, err := securejoin.SecureJoin(dir, m.Selector)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", m.Selector, cause(err))
	}
	return path, nil
}

// secret is a file in memory.
func (b *bundle) secret(m Mount, dir string) (string, error) {
	// Memory that goes to no swap device, where the kernel can say so (Linux 6.4).
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
	return path, own(path, m)
}

// own gives a file its owner and then its mode.
func own(path string, m Mount) error {
	if err := os.Lchown(path, m.UID, m.GID); err != nil {
		return err
	}
	return os.Chmod(path, m.Mode&os.ModePerm)
}

// socket listens for what the process has to say to Serve. The thread goes to the folder, for the path of a socket may
// not be long.
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

// serve answers connections until the listener is closed, and closes those that are left then.
func serve(l net.Listener, answer func(net.Conn)) {
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
			answer(c)
		}()
	}
}
