//go:build e2e

// Package compose runs a project with docker compose on mica's socket.
package compose

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// TestCompose builds, starts and removes a service with a published port, a volume and the project's network.
func TestCompose(t *testing.T) {
	m, dir, project := rig.NewMica(t), rig.TempDir(t), rig.TempDir(t)
	rig.ImportBusybox(t, m, "base")
	c := rig.NewClient(t, rig.Serve(t, m, dir), dir)
	address := freeAddress(t)
	for name, text := range map[string]string{
		"Dockerfile": "FROM base\nSTOPSIGNAL SIGKILL\nARG V\nCOPY index.html /www/\nRUN echo $V >/v\nCMD [\"busybox\", \"httpd\", \"-f\", \"-p\", \"80\", \"-h\", \"/www\"]\n",
		"index.html": "served\n",
		"compose.yaml": "services:\n  web:\n    build: {context: ., args: {V: \"3\"}}\n    ports: [\"" + address + ":80\"]\n" +
			"    environment: {WORD: said}\n    volumes: [\"data:/data\"]\nvolumes: {data: {}}\n",
	} {
		if err := os.WriteFile(filepath.Join(project, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	compose := func(args ...string) string {
		return c.Run(append([]string{"compose", "--progress", "plain", "--project-name", "shop", "--project-directory", project}, args...)...)
	}
	compose("build")
	compose("up", "--detach")
	if got := get(t, "http://"+address+"/"); got != "served\n" {
		t.Errorf("the service answers %q", got)
	}
	if got := compose("ps"); !strings.Contains(got, "shop-web-1") || !strings.Contains(got, address+"->80/tcp") {
		t.Errorf("ps:\n%s", got)
	}
	if got := compose("exec", "-T", "web", "sh", "-c", "echo $WORD; cat /v; echo kept >/data/f"); got != "said\n3\n" {
		t.Errorf("exec says %q", got)
	}
	compose("down")
	compose("up", "--detach")
	if got := compose("exec", "-T", "web", "cat", "/data/f"); got != "kept\n" {
		t.Errorf("the volume has %q", got)
	}
	compose("down", "--volumes", "--rmi", "all")
	for _, list := range []string{c.Run("ps", "-aq"), c.Run("volume", "ls", "-q"), c.Run("images", "-q", "shop-web"), c.Run("network", "ls", "-q", "-f", "name=shop")} {
		if list != "" {
			t.Errorf("left: %s", list)
		}
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	var body string
	rig.Eventually(t, "the service answers", func() bool {
		resp, err := http.Get(url)
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		data, err := io.ReadAll(resp.Body)
		body = string(data)
		return err == nil
	})
	return body
}

// freeAddress is an address of loopback that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
