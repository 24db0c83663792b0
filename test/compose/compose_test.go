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

// TestCompose builds, starts and removes a service with a published port, a volume and the project's network, as root and as an ordinary user.
func TestCompose(t *testing.T) {
	for _, who := range []string{"root", "user"} {
		t.Run(who, func(t *testing.T) {
			m, dir := rig.NewMica(t), rig.TempDir(t)
			if who == "user" {
				m = rig.AsUser(t, "mica-compose", true)
				dir = filepath.Dir(m.Path)
			}
			rig.ImportBusybox(t, m, "base")
			c := rig.NewClient(t, rig.Serve(t, m, dir), dir)
			if who == "user" {
				c.As(m)
			}
			s := newShop(t, c)
			s.build(t)
			s.serve(t)
			s.end(t)
		})
	}
}

// shop is a project of one service.
type shop struct {
	docker           *rig.Client
	project, address string
}

func newShop(t *testing.T, docker *rig.Client) *shop {
	t.Helper()
	s := &shop{docker, rig.TempDir(t), freeAddress(t)}
	for name, text := range map[string]string{
		"Dockerfile": "FROM base\nSTOPSIGNAL SIGKILL\nARG V\nCOPY index.html /www/\nRUN echo $V >/v\nCMD [\"busybox\", \"httpd\", \"-f\", \"-p\", \"80\", \"-h\", \"/www\"]\n",
		"index.html": "served\n",
		"compose.yaml": "services:\n  web:\n    image: shop-web\n    build: {context: ., args: {V: \"3\"}}\n    ports: [\"" + s.address + ":80\"]\n" +
			"    environment: {WORD: said}\n    volumes: [\"data:/data\"]\nvolumes: {data: {}}\n",
	} {
		if err := os.WriteFile(filepath.Join(s.project, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	rig.Must(t, "chmod", "-R", "a+rX", s.project)
	return s
}

func (s *shop) compose(args ...string) string {
	return s.docker.Run(append([]string{"compose", "--progress", "plain", "--project-name", "shop", "--project-directory", s.project}, args...)...)
}

// build builds the service with compose, and bake builds none of its steps again.
func (s *shop) build(t *testing.T) {
	s.compose("build")
	out := s.docker.Try(nil, "buildx", "bake", "--progress", "plain", "--allow", "fs.read="+s.project, "--set", "*.context="+s.project, "--file", filepath.Join(s.project, "compose.yaml"))
	if out.Code != 0 || strings.Count(out.Stderr, " CACHED") < 2 {
		t.Errorf("docker buildx bake: exit code %d\n%s", out.Code, out.Stderr)
	}
}

// serve starts the service, asks it, and starts it again with its volume.
func (s *shop) serve(t *testing.T) {
	s.compose("up", "--detach")
	if got := get(t, "http://"+s.address+"/"); got != "served\n" {
		t.Errorf("the service answers %q", got)
	}
	if got := s.compose("ps"); !strings.Contains(got, "shop-web-1") || !strings.Contains(got, s.address+"->80/tcp") {
		t.Errorf("ps:\n%s", got)
	}
	if got := s.compose("exec", "-T", "web", "sh", "-c", "echo $WORD; cat /v; echo kept >/data/f"); got != "said\n3\n" {
		t.Errorf("exec says %q", got)
	}
	s.compose("down")
	s.compose("up", "--detach", "web")
	if got := s.compose("exec", "-T", "web", "cat", "/data/f"); got != "kept\n" {
		t.Errorf("the volume has %q", got)
	}
}

// end removes the service with all that it has made.
func (s *shop) end(t *testing.T) {
	s.compose("down", "--volumes", "--rmi", "all")
	for _, args := range [][]string{{"ps", "-aq"}, {"volume", "ls", "-q"}, {"images", "-q", "shop-web"}, {"network", "ls", "-q", "-f", "name=shop"}} {
		if list := s.docker.Run(args...); list != "" {
			t.Errorf("docker %s: left: %s", strings.Join(args, " "), list)
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
