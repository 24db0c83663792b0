//go:build e2e

package docker

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// socket is Docker's client of mica serve.
type socket struct {
	*pair
	docker *rig.Docker
}

// newSocket serves mica's store of a pair.
func newSocket(p *pair) *socket {
	p.t.Helper()
	s := &socket{p, engine.At("unix://" + filepath.Join(rig.TempDir(p.t), "mica.sock"))}
	cmd := p.mica.Command("serve", "--addr", s.docker.Host)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || strings.TrimSpace(line) != s.docker.Host {
		p.t.Fatalf("mica serve says %q, %v", line, err)
	}
	return s
}

// sizes are what a push or a prune counts: mica's blobs are other bytes than Docker's.
var sizes = regexp.MustCompile(`(?m)^(Total reclaimed space: ).*$`)

// both runs docker with the engine and with mica, and compares stdout, stderr and exit code.
func (s *socket) both(args ...string) string {
	s.t.Helper()
	want, got := engine.Try(s.t, args...), s.docker.Try(s.t, args...)
	name := strings.Join(args, " ")
	if want.Code != got.Code {
		s.t.Errorf("%s: exit code %d, want %d\n%s%s", name, got.Code, want.Code, got.Stdout, got.Stderr)
	}
	if w, g := groupByID(sizes.ReplaceAllString(want.Stdout, "$1")), groupByID(sizes.ReplaceAllString(got.Stdout, "$1")); w != g {
		s.t.Errorf("%s:\n%s\nwant:\n%s", name, g, w)
	}
	if want.Stderr != got.Stderr {
		s.t.Errorf("%s: stderr:\n%s\nwant:\n%s", name, got.Stderr, want.Stderr)
	}
	return got.Stdout
}

// TestServeEqualsDockers: docker says the same of mica serve as of its own engine.
func TestServeEqualsDockers(t *testing.T) {
	sameIDs(t)
	s := newSocket(newPair(t, gallery(t)...))
	for _, args := range []string{
		"images", "images -a", "images --no-trunc", "images --digests", "images nginx", "images -f dangling=true", "images -f label=tier=web",
		"images -f before=nginx:alpine", "images -f reference=*/*", "history nginx", "history --no-trunc hello-world", "image history nginx:alpine",
		"inspect nope", "image inspect nope", "history nope", "rmi nope", "rmi -f nope", "tag nope x", "save nope -o /dev/null", "push nope",
		"ps", "volume ls -q", "tag nginx:alpine second:v2", "tag second:v2 host.example/a/b", "images", "rmi host.example/a/b", "image prune -f",
		"tag hello-world nginx:alpine", "images", "rmi nginx:latest", "rmi hello-world nginx:1.27", "images -a", "images -aq",
	} {
		s.both(strings.Fields(args)...)
	}
}

func TestServeInspectEqualsDockers(t *testing.T) {
	sameIDs(t)
	s := newSocket(newPair(t, gallery(t)...))
	for _, format := range []string{
		"{{.Id}} {{.Os}}/{{.Architecture}} {{.Created}} {{.Size}}", "{{json .Config.Env}}", "{{.Config.Entrypoint}} {{.Config.Cmd}}",
		"{{json .RootFS}}", "{{json .RepoTags}}", "{{.Comment}}|{{.Author}}|{{.Parent}}", "{{json .Config.Healthcheck}}", "{{json .Config.Labels}}",
	} {
		for _, ref := range []string{"nginx", "hello-world"} {
			s.both("inspect", "-f", format, ref)
		}
	}
	if size := s.both("inspect", "-f", "{{.Size}}", "nginx"); current == "" { // later versions of the API do not have it
		if got := s.both("inspect", "-f", "{{.VirtualSize}}", "nginx"); got != size {
			t.Errorf("the virtual size is %s, want %s", got, size)
		}
	}
}

// TestServeExchanges: what docker pushes, pulls, saves, loads and builds through mica serve is what the engine takes and gives.
func TestServeExchanges(t *testing.T) {
	sameIDs(t)
	s := newSocket(newPair(t, gallery(t)...))
	reg, err := rig.StartRegistry(rig.TempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reg.Stop() }()
	name := reg.Addr + "/team/web:1"
	id := s.both("inspect", "-f", "{{.Id}}", "nginx")
	s.docker.Run(t, "tag", "nginx", name)
	if out := s.docker.Run(t, "push", name); !strings.Contains(out, "The push refers to repository ["+reg.Addr+"/team/web]\n") || !strings.Contains(out, "\n1: digest: sha256:") {
		t.Error(out)
	}
	tail := func(d *rig.Docker) string {
		lines := strings.Split(strings.TrimSpace(d.Run(t, "pull", name)), "\n")
		return strings.Join(lines[max(0, len(lines)-3):], "\n")
	}
	want := tail(engine)
	if got := engine.Run(t, "inspect", "-f", "{{.Id}}", name); got != id {
		t.Errorf("the engine pulls %s, want %s", got, id)
	}
	s.docker.Run(t, "rmi", name, "nginx:latest", "nginx:1.27")
	if got := tail(s.docker); got != want {
		t.Errorf("pull:\n%s\nwant:\n%s", got, want)
	}
	s.both("pull", "-q", name)
	s.both("inspect", "-f", "{{.Id}} {{json .RepoDigests}}", name)

	archive := filepath.Join(rig.TempDir(t), "saved.tar")
	s.docker.Run(t, "save", "-o", archive, name, "hello-world")
	engine.Run(t, "rmi", "hello-world")
	s.docker.Run(t, "rmi", "hello-world")
	s.both("load", "-q", "-i", archive)
	engine.Run(t, "save", "-o", archive, name, "hello-world")
	s.both("load", "-q", "-i", archive)

	dir := rig.TempDir(t)
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM hello-world\nARG V\nCOPY . /src/\nLABEL v=$V\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := s.docker.Run(t, "build", "-t", "built", "--build-arg", "V=3", dir)
	built := s.docker.Run(t, "images", "-q", "built")
	if !strings.HasSuffix(out, "Successfully built "+built+"Successfully tagged built:latest\n") {
		t.Error(out)
	}
	if got := s.docker.Run(t, "inspect", "-f", "{{.Config.Labels.v}}", "built"); got != "3\n" {
		t.Error(got)
	}
	if got := s.docker.Try(t, "build", "-q", "--target", "none", dir); got.Code != 1 || !strings.Contains(got.Stderr, "Error response from daemon: failed to solve: target stage \"none\" could not be found") {
		t.Errorf("%+v", got)
	}
}
