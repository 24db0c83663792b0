//go:build e2e

package serve

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// TestActivation: a socket that another process listens on, as systemd does, reaches mica through its user namespace. The server ends when
// nobody uses it, and leaves the socket.
func TestActivation(t *testing.T) {
	for name, m := range map[string]*rig.Mica{"root": rig.NewMica(t), "user": rig.AsUser(t, "micaactivate", true)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(rig.TempDir(t), "s")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			file, err := l.(*net.UnixListener).File()
			if err != nil {
				t.Fatal(err)
			}
			m.Prefix = append(m.Prefix, "sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"`)
			for range 2 {
				cmd := m.Command("serve", "--idle-timeout", "300ms")
				cmd.ExtraFiles, cmd.Stderr = []*os.File{file}, os.Stderr
				var out strings.Builder
				cmd.Stdout = &out
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				ping(t, path)
				if err := cmd.Wait(); err != nil || out.String() != "unix://"+path+"\n" {
					t.Errorf("mica serve says %q, %v", out.String(), err)
				}
			}
		})
	}
}

func ping(t *testing.T, path string) {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	resp, err := (&http.Client{Transport: tr}).Get("http://mica/_ping")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("ping: %s", resp.Status)
	}
}
