package chroot

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/ociruntime"
)

func TestMain(m *testing.M) {
	Init(os.Args)
	os.Exit(m.Run())
}

// newRoot is a root filesystem with busybox.
func newRoot(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal("no busybox: install busybox-static")
	}
	for at := dir; at != "/"; at = filepath.Dir(at) {
		if strings.HasPrefix(at, os.TempDir()+"/") {
			if err := os.Chmod(at, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := exec.Command("sh", "-ec", `mkdir bin tmp dev; mknod -m 666 dev/null c 1 3; chmod 1777 tmp; cp "$1" bin/busybox; for n in sh id cat sleep grep mkdir chroot pwd kill setsid mknod touch; do ln -s busybox bin/$n; done`, "sh", busybox)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

func runIn(ctx context.Context, root string, uid uint32, args ...string) (string, error) {
	var out bytes.Buffer
	err := Run(ctx, &Command{
		Root: root, Args: args, Env: []string{"PATH=/bin"}, Cwd: "/made/here", UID: uid, GID: uid, Groups: []uint32{uid, 7},
		Capabilities: []uint{unix.CAP_CHOWN, unix.CAP_SETUID, unix.CAP_KILL}, Stdout: &out, Stderr: &out,
	})
	return out.String(), err
}

func TestRootRun(t *testing.T) {
	t.Parallel()
	root := newRoot(t)
	for _, c := range []struct {
		uid        uint32
		text, want string
		code       int
	}{
		{0, "pwd; id -u; exit 3", "/made/here\n0\n", 3},
		{1000, "id -u; id -g; id -G", "1000\n1000\n1000 7\n", 0},
		{0, "chroot / true 2>&1 | grep -c permitted", "1\n", 0}, // CAP_SYS_CHROOT is gone
		{0, "kill -9 $$", "", 137},
	} {
		out, err := runIn(t.Context(), root, c.uid, "sh", "-c", c.text)
		var exit *ociruntime.ExitError
		code := 0
		if errors.As(err, &exit) {
			code = exit.Code
		} else if err != nil {
			t.Errorf("%s: %v", c.text, err)
		}
		if out != c.want || code != c.code {
			t.Errorf("%s: %d %q, want %d %q", c.text, code, out, c.code, c.want)
		}
	}
	for name, code := range map[string]int{"nosuch": 127, "/no/such": 127, "/tmp": 126} {
		_, err := runIn(t.Context(), root, 0, name)
		var start *ociruntime.StartError
		if !errors.As(err, &start) || start.Code != code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Nothing of a command runs when Run has returned, whatever session it is in, and however it ends.
func TestRootNothingLeft(t *testing.T) {
	t.Parallel()
	root := newRoot(t)
	const left = "setsid sh -c '(sleep 987654 >/tmp/out 2>&1 & echo $! >/tmp/pid; sleep 987654)' >/tmp/out 2>&1 & while ! test -s /tmp/pid; do :; done; "
	for name, c := range map[string]struct {
		more   string
		cancel bool
	}{"exit": {"exit 0", false}, "kill": {"kill -9 $$", false}, "cancel": {"touch /tmp/ready; sleep 987654", true}} {
		_ = os.Remove(filepath.Join(root, "tmp/pid"))
		_ = os.WriteFile(filepath.Join(root, "tmp/out"), nil, 0o666)
		ctx, cancel := context.WithCancel(t.Context())
		if c.cancel {
			go func() {
				for ctx.Err() == nil {
					if _, err := os.Stat(filepath.Join(root, "tmp/ready")); err == nil {
						cancel()
					}
					time.Sleep(time.Millisecond)
				}
			}()
		}
		_, err := runIn(ctx, root, 0, "sh", "-c", left+c.more)
		cancel()
		if c.cancel != errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		pid, err := os.ReadFile(filepath.Join(root, "tmp/pid"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat("/proc/" + strings.TrimSpace(string(pid))); err == nil {
			t.Errorf("%s: process %s still runs", name, pid)
		}
	}
}
