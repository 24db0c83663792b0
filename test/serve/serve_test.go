//go:build e2e

// Package serve tests mica serve with the clients of others.
package serve

import (
	"bufio"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/test/rig"
)

// server is mica serve, and the address of its socket.
type server struct {
	mica    *rig.Mica
	address string
	tcp     string // the second address, if there is one
	cmd     *exec.Cmd
}

// start starts a server in a directory that its user may write.
func start(t *testing.T, m *rig.Mica, dir string, flags ...string) *server {
	t.Helper()
	s := &server{mica: m, address: "unix://" + filepath.Join(dir, "mica.sock")}
	s.cmd = m.Command(append([]string{"serve", "--addr", s.address}, flags...)...)
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || line != s.address+"\n" {
		t.Fatalf("mica serve says %q, %v", line, err)
	}
	if slices.Contains(flags, "--addr") {
		line, err := lines.ReadString('\n')
		if s.tcp = strings.TrimSpace(line); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		_ = s.cmd.Wait()
		if _, err := os.Lstat(filepath.Join(dir, "mica.sock")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is left: %v", err)
		}
	})
	return s
}

// buildctl builds a directory.
func (s *server) buildctl(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	all := []string{"--addr", s.address, "build", "--progress", "plain", "--frontend", "dockerfile.v0", "--local", "context=" + dir, "--local", "dockerfile=" + dir}
	return exec.Command(rig.Binary(t, "peers/buildctl"), append(all, args...)...)
}

func (s *server) build(t *testing.T, dir string, args ...string) rig.Output {
	t.Helper()
	out := rig.Run(t, s.buildctl(t, dir, args...))
	if out.Code != 0 {
		t.Fatalf("buildctl: %s", out.Stderr)
	}
	return out
}

func directory(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := rig.TempDir(t)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestBuildctl: what a build uses of its client, the outputs that the client gets, and what mica knows of it.
func TestBuildctl(t *testing.T) {
	m := rig.NewMica(t)
	rig.ImportBusybox(t, m, "base")
	s := start(t, m, rig.TempDir(t))
	dir := directory(t, map[string]string{
		"Dockerfile": "FROM base\nARG WORD\nCOPY a /\nRUN --mount=type=secret,id=s test \"$(cat /run/secrets/s)\" = hidden && echo $WORD >/b\n", "a": "1",
		"secret": "hidden",
	})
	registry := registrytest.New(t)
	out, name := filepath.Join(rig.TempDir(t), "out"), registry.Name("made:1")
	common := []string{"--secret", "id=s,src=" + filepath.Join(dir, "secret"), "--opt", "build-arg:WORD=said"}
	s.build(t, dir, append(common, "--output", "type=local,dest="+out, "--output", "type=image,name="+name+",push=true,registry.insecure=true")...)
	if data, err := os.ReadFile(filepath.Join(out, "b")); err != nil || string(data) != "said\n" {
		t.Errorf("%q, %v", data, err)
	}
	if got := m.Run("run", "--rm", name, "cat", "/b"); got != "said\n" {
		t.Errorf("the image has %q", got)
	}
	rig.NewMica(t).Run("pull", name)
	cached := s.build(t, dir, append(common, "--metadata-file", filepath.Join(out, "meta"), "--output", "type=oci,tar=false,dest="+filepath.Join(out, "layout"))...)
	if strings.Count(cached.Stderr, "CACHED") < 2 {
		t.Errorf("built again:\n%s", cached.Stderr)
	}
	layout := s.build(t, directory(t, map[string]string{"Dockerfile": "FROM lay\nRUN cat /b\n"}), "--no-cache", "--oci-layout", "lay="+filepath.Join(out, "layout"),
		"--opt", "context:lay=oci-layout://lay@"+digestIn(t, filepath.Join(out, "meta")))
	if !strings.Contains(layout.Stderr, " said\n") {
		t.Errorf("from a layout:\n%s", layout.Stderr)
	}
	if list := m.Run("builds", "ls"); strings.Count(list, "Completed") != 3 {
		t.Errorf("builds:\n%s", list)
	}
}

func digestIn(t *testing.T, metadata string) string {
	t.Helper()
	data, err := os.ReadFile(metadata)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]any{}
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	d, _ := m["containerimage.digest"].(string)
	return d
}

// TestFailures: an error has its place in the Dockerfile, a client that is killed ends its build, and a server that is killed leaves a
// store that works.
func TestFailures(t *testing.T) {
	m := rig.NewMica(t)
	rig.ImportBusybox(t, m, "base")
	s := start(t, m, rig.TempDir(t))
	failed := rig.Run(t, s.buildctl(t, directory(t, map[string]string{"Dockerfile": "FROM base\nRUN exit 3\n"})))
	if failed.Code == 0 || !strings.Contains(failed.Stderr, "   2 | >>> RUN exit 3\n") || !strings.Contains(failed.Stderr, "exit code: 3\n") {
		t.Errorf("exit code %d\n%s", failed.Code, failed.Stderr)
	}
	client := s.buildctl(t, directory(t, map[string]string{"Dockerfile": "FROM base\nRUN echo begun; sleep 1000\n"}))
	stderr, err := client.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(stderr); lines.Scan() && !strings.HasSuffix(lines.Text(), " begun"); {
		continue
	}
	_ = client.Process.Kill()
	_ = client.Wait()
	rig.Eventually(t, "the build is canceled", func() bool { return strings.Contains(m.Run("builds", "ls"), "Canceled") })
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	again := start(t, m, filepath.Dir(strings.TrimPrefix(s.address, "unix://")))
	again.build(t, directory(t, map[string]string{"Dockerfile": "FROM base\nRUN echo works\n"}))
}

// TestRootless: an ordinary user serves, and nobody else may use the socket.
func TestRootless(t *testing.T) {
	m := rig.AsUser(t, "micaserve", true)
	home := filepath.Dir(m.Path)
	s := start(t, m, home)
	dir := directory(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY --chown=5:6 a /\n", "a": "1"})
	s.build(t, dir, "--output", "type=tar,dest="+filepath.Join(dir, "out.tar"))
	if list := rig.Must(t, "tar", "-tvf", filepath.Join(dir, "out.tar")); !strings.Contains(list, "5/6") {
		t.Errorf("owners: %s", list)
	}
	other := exec.Command("setpriv", "--reuid", "nobody", "--clear-groups", rig.Binary(t, "peers/buildctl"), "--addr", s.address, "debug", "info")
	if out := rig.Run(t, other); out.Code == 0 {
		t.Errorf("another user: %s", out.Stdout)
	}
	c, err := net.DialTimeout("unix", strings.TrimPrefix(s.address, "unix://"), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

// TestRootlessCopy: files are copied into the volumes of an ordinary user's container, and out of them.
func TestRootlessCopy(t *testing.T) {
	m := rig.AsUser(t, "micacopy", true)
	dir := rig.TempDir(t)
	docker := rig.NewClient(t, start(t, m, filepath.Dir(m.Path)).address, dir)
	base, err := rig.BusyboxTar(dir)
	if err != nil {
		t.Fatal(err)
	}
	docker.Run("import", "-c", "ENV PATH=/usr/bin:/bin", base, "base")
	docker.Run("run", "-d", "--network", "none", "--name", "web", "-v", "data:/data", "base", "sh", "-c", "ln -s /data /link; touch /data/ready; exec sleep 1000")
	docker.Run("exec", "web", "sh", "-c", "while ! test -e /data/ready; do sleep 0.02; done")
	docker.Run("create", "--network", "none", "--name", "idle", "-v", "data:/data", "base", "true")
	file := filepath.Join(directory(t, map[string]string{"a": "text"}), "a")
	docker.Run("cp", file, "web:/link/running")
	docker.Run("cp", file, "idle:/data/created")
	if got := docker.Run("exec", "web", "sh", "-c", "cd /data; cat running created; stat -c %u running"); got != "texttext0\n" {
		t.Errorf("the process reads %q", got)
	}
	for _, name := range []string{"web:/link/created", "idle:/data/running"} {
		out := filepath.Join(dir, "out")
		docker.Run("cp", name, out)
		if data, err := os.ReadFile(out); string(data) != "text" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}
