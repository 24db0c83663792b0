//go:build e2e

package hurt

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// TestManySteps: a RUN, and a container, on more layers than Linux can stack see all of them.
func TestManySteps(t *testing.T) {
	const steps = 900
	p := newPatient(t)
	var file strings.Builder
	file.WriteString("FROM app\n")
	for i := range steps {
		fmt.Fprintf(&file, "COPY f /many/%d\n", i)
	}
	file.WriteString("RUN ls /many | wc -l > /count && rm /many/0\nCOPY f /many/last\nRUN ls /many | wc -l >> /count\n")
	dir := context(t, file.String())
	p.Run("build", "-q", "-t", "many", dir)
	if got := p.Run("run", "--rm", "many", "sh", "-c", "cat /count; ls /many | wc -l; stat -c %a /many"); got != "900\n900\n900\n755\n" {
		t.Errorf("the steps and a container see %q", got)
	}
	before := p.Run("images", "-q", "--no-trunc", "many")
	p.Run("build", "-q", "-t", "many", dir)
	p.Run("builder", "prune", "-f")
	p.Run("build", "-q", "-t", "many", dir)
	if after := p.Run("images", "-q", "--no-trunc", "many"); after != before {
		t.Errorf("from the cache the image is %s, want %s", after, before)
	}
	p.healthy()
}

// TestPruneBesideARunOfManyLayers: a container keeps the layer that stands for those that Linux cannot stack, though no image has
// it.
func TestPruneBesideARunOfManyLayers(t *testing.T) {
	const steps = 410
	p := newPatient(t)
	var file strings.Builder
	file.WriteString("FROM app\n")
	for i := range steps {
		fmt.Fprintf(&file, "COPY f /many/%d\n", i)
	}
	p.Run("build", "-q", "-t", "many", context(t, file.String()))
	p.Run("builder", "prune", "-af")
	dir := rig.TempDir(t)
	cmd, end := p.running("is-2", nil, "run", "--rm", "-v", dir+":/c", "many", "sh", "-c",
		"mkfifo /c/go; echo is-$((1+1)) >&2; cat /c/go; cat /many/* | wc -l >&2")
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // of a test that failed
	p.Run("builder", "prune", "-af")
	p.write(filepath.Join(dir, "go"), nil)
	if last := end(); last != fmt.Sprint(steps) {
		t.Errorf("after a prune the container reads %s files, want %d", last, steps)
	}
	layers := p.count("layers")
	p.Run("builder", "prune", "-af")
	if left := p.count("layers"); left >= layers {
		t.Errorf("the layer is still there when the container has ended")
	}
	p.healthy()
}
