//go:build e2e

package guide

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// byDocker looks with docker at what mica has made: it sees the same images, and builds nothing again.
func (g *guide) byDocker(t *testing.T, m *rig.Mica) {
	dir := rig.TempDir(t)
	docker := rig.NewClient(t, rig.Serve(t, m, dir), dir)
	id := g.inspect(t, "hello", "{{.Id}}")
	before := imageNames(g.by)
	out := docker.Try(nil, "build", "--progress", "plain", "-t", "hello", filepath.Join(rig.Top(), "demo", "python"))
	if out.Code != 0 || strings.Count(out.Stderr, " CACHED") != 4 {
		t.Errorf("docker build -t hello: exit code %d\n%s", out.Code, out.Stderr)
	}
	if got := (&guide{docker}).inspect(t, "hello", "{{.Id}}"); got != id {
		t.Errorf("docker built %s, want %s", got, id)
	}
	if got := imageNames(docker); !slices.Equal(got, before) {
		t.Errorf("docker images has %s, want %s", got, before)
	}
	(&guide{docker}).look(t)
}
