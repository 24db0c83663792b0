//go:build e2e

package guide

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// TestGuideByDocker goes through the walk-through with docker, as an ordinary user who serves mica: the same script, and the same looks at what
// it made.
func TestGuideByDocker(t *testing.T) {
	m := rig.AsUser(t, "mica-docker", true)
	home := filepath.Dir(m.Path)
	docker := rig.NewClient(t, rig.Serve(t, m, home), home)
	docker.As(m)
	demo := rig.Run(t, docker.Program("env", "DEMO_COMMAND=docker", filepath.Join(walk(t, home), "scripts", "demo")))
	if demo.Code != 0 {
		t.Fatalf("demo: exit code %d\n%s%s", demo.Code, demo.Stdout, demo.Stderr)
	}
	answers(t, demo)
	g := &guide{docker}
	g.look(t)
	g.run(t)
	t.Run("rebuild", g.rebuild)
}

// walk copies what the walk-through needs to a directory. Where Docker has no option for it, pip's certificates are in the image.
func walk(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(dir, "walk")
	tar := filepath.Join(rig.Top(), "bin", "demo", "debian.tar")
	rig.Must(t, filepath.Join(rig.Top(), "scripts", "debian-base"), tar)
	rig.Must(t, "mkdir", "-p", filepath.Join(to, "bin"))
	rig.Must(t, "cp", "-r", filepath.Join(rig.Top(), "scripts"), filepath.Join(rig.Top(), "demo"), to)
	rig.Must(t, "cp", "-r", filepath.Dir(tar), filepath.Join(to, "bin"))
	base := filepath.Join(to, "demo", "python-base")
	rig.Must(t, "cp", "/etc/ssl/certs/ca-certificates.crt", base)
	f, err := os.OpenFile(filepath.Join(base, "Dockerfile"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, "COPY ca-certificates.crt /etc/ssl/certs/\nENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return to
}

// byDocker looks with docker at what mica has made: it sees the same images, and builds nothing again.
func (g *guide) byDocker(t *testing.T, m *rig.Mica) {
	dir := rig.TempDir(t)
	docker := rig.NewClient(t, rig.Serve(t, m, dir), dir)
	id := g.inspect(t, "hello", "{{.Id}}")
	before := imageNames(g.by)
	d := &guide{docker}
	out := docker.Try(nil, "build", "--progress", "plain", "-t", "hello", filepath.Join(rig.Top(), "demo", "python"))
	if out.Code != 0 || strings.Count(out.Stderr, " CACHED") != 4 {
		t.Errorf("docker build -t hello: exit code %d\n%s", out.Code, out.Stderr)
	}
	if got := d.inspect(t, "hello", "{{.Id}}"); got != id {
		t.Errorf("docker built %s, want %s", got, id)
	}
	if got := imageNames(docker); !slices.Equal(got, before) {
		t.Errorf("docker images has %s, want %s", got, before)
	}
	d.look(t)
	d.run(t)
}
