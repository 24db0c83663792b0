package sandbox

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// inMounts calls do on a thread with a mount namespace of its own, which ends with the thread.
func inMounts(t *testing.T, do func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// expect compares what a file of the process's root has, and the error of writing to it.
func expect(path, content string, mode os.FileMode, write error) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	f, writeErr := os.OpenFile(path, os.O_WRONLY, 0)
	if writeErr == nil {
		_ = f.Close()
	}
	if string(data) != content || info.Mode() != mode || !errors.Is(writeErr, write) {
		return fmt.Errorf("%s has %q, mode %v; written: %w", path, data, info.Mode(), writeErr)
	}
	return nil
}

// TestRootMounts mounts what a process asks for, in a root and of a source whose links lead out of both.
func TestRootMounts(t *testing.T) {
	source := t.TempDir()
	for name, text := range map[string]string{"real/sub/f": "selected", "one": "one"} {
		path := filepath.Join(source, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/../../real", filepath.Join(source, "link")); err != nil {
		t.Fatal(err)
	}
	p := &Process{WritableHosts: true, Mounts: []Mount{
		{Type: MountSecret, Target: "/run/secret", Data: []byte("hidden"), Mode: 0o400},
		{Type: MountBind, Source: source, Selector: "link/sub", Target: "/data", ReadOnly: true},
		{Type: MountBind, Source: source, Selector: "/one", Target: "/out/one"},
		{Type: MountTmpfs, Target: "/t", Size: 1 << 20},
		{Type: MountTmpfs, Target: "/t2", Options: "mode=1750,noexec"},
		{Type: MountSocket, Target: "/run/agent", Mode: 0o600, Serve: func(c net.Conn) {
			_, _ = io.WriteString(c, "agent")
			_ = c.Close()
		}},
	}}
	b := newBundle(t, p, map[string]string{"t/": "", "out": "->../../../outside", "etc/hosts": "the image's"})
	if err := os.Chmod(filepath.Join(b.rootfs, "t"), 0o711); err != nil {
		t.Fatal(err)
	}
	inMounts(t, func() (err error) {
		defer b.unmount()
		for i, m := range p.Mounts {
			if b.sources[i], err = b.source(i, m); err != nil {
				return fmt.Errorf("%s: %w", m.Target, err)
			}
		}
		if err := errors.Join(b.makeNetworkFiles(), b.writeNetworkFiles(), b.attach()); err != nil {
			return err
		}
		at := func(name string) string { return filepath.Join(b.root, name) }
		err = errors.Join(
			expect(at("run/secret"), "hidden", 0o400, unix.EROFS),
			expect(at("data/f"), "selected", 0o644, unix.EROFS),
			expect(at("outside/one"), "one", 0o644, nil),
			expect(at("etc/hostname"), "buildkitsandbox\n", 0o644, nil),
			expect(at("etc/hosts"), "127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n", 0o644, nil),
			checkTmpfs(at("t"), os.ModeDir|0o711), checkTmpfs(at("t2"), os.ModeDir|os.ModeSticky|0o750), checkAgent(at("run/agent")),
			expect(filepath.Join(b.rootfs, "etc/hosts"), "the image's", 0o755, nil), // only the process sees the mounts
		)
		b.detach()
		if _, gone := os.Stat(at("data/f")); !errors.Is(gone, unix.ENOENT) {
			err = errors.Join(err, fmt.Errorf("after the end, data/f: %w", gone))
		}
		return err
	})
	if got, want := fileTree(t, b.rootfs), "data/ etc/ etc/hostname etc/hosts etc/resolv.conf out-> outside/ outside/one run/ run/agent run/secret t/ t2/"; got != want {
		t.Errorf("mount points in the root are %s, want %s", got, want)
	}
}

func checkTmpfs(path string, mode os.FileMode) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return err
	}
	if info, err := os.Stat(path); err != nil || st.Type != unix.TMPFS_MAGIC || info.Mode() != mode {
		return fmt.Errorf("%s: filesystem %#x, mode %v, %w", path, st.Type, info.Mode(), err)
	}
	return nil
}

// checkAgent connects to a socket through its directory: the path in the bundle may be too long.
func checkAgent(path string) error {
	if err := unix.Chdir(filepath.Dir(path)); err != nil {
		return err
	}
	c, err := net.Dial("unix", filepath.Base(path))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if said, err := io.ReadAll(c); err != nil || string(said) != "agent" {
		return fmt.Errorf("the socket says %q, %w", said, err)
	}
	return nil
}
