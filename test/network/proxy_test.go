//go:build e2e

package network

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/test/rig"
)

// TestProxyNetwork: with the proxy network a step fetches over http and reaches nothing else, its log lists what it has requested, and
// provenance what it has fetched.
func TestProxyNetwork(t *testing.T) {
	host, port := hostAddress(t), serve(t, "0.0.0.0:0")
	url := serveFile(t, host) + "/file"
	as(t, func(t *testing.T, m *rig.Mica) {
		dir := rig.TempDir(t)
		rig.Must(t, "chmod", "a+rwx", dir)
		dockerfile := fmt.Sprintf("FROM base\nRUN wget -q -O /file %s; echo \"fetched: $(cat /file)\"; echo \"address: $(%s 2>/dev/null)\"\n", url, listen(host, port))
		for name, text := range map[string]string{"Dockerfile": dockerfile, "docker-bake.hcl": "target \"default\" {}\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		meta := filepath.Join(dir, "meta")
		for _, args := range [][]string{
			{"build", "--provenance", "mode=max", "--metadata-file", meta, dir},
			{"bake", "--file", filepath.Join(dir, "docker-bake.hcl"), "--allow", "fs.read=" + dir, "--set", "*.context=" + dir},
		} {
			args = append([]string{args[0], "--no-cache", "--progress", "plain", "--proxy-network"}, args[1:]...)
			out := m.Try(nil, args...)
			for _, want := range []string{"fetched: of the host", "address: ", "- GET " + url + " -> 200"} {
				if out.Code != 0 || !hasLine(out.Stderr, want) {
					t.Errorf("%s: no %q in\n%s", args[0], want, out.Stderr)
				}
			}
		}
		data, err := os.ReadFile(meta)
		if sum := digest.FromString("of the host").Encoded(); err != nil || !strings.Contains(string(data), url) || !strings.Contains(string(data), sum) {
			t.Errorf("provenance without %s: %s, %v", url, data, err)
		}
	})
}

// serveFile serves one file at all addresses of the host, and returns the URL at one of them.
func serveFile(t *testing.T, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "of the host") }))
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return fmt.Sprintf("http://%s:%d", host, l.Addr().(*net.TCPAddr).Port)
}
