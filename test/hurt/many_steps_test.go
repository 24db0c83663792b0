//go:build e2e

package hurt

import (
	"fmt"
	"strings"
	"testing"
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
