//go:build e2e

package commands

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// What docker does with files and words that is easy to overlook.
func TestArchivesAsDockers(t *testing.T) {
	m := newMica(t)
	file := filepath.Join(rig.TempDir(t), "base.tar")
	for _, command := range []string{"export", "save"} {
		m.Run(command, "-o", file, "base")
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", command, info.Mode(), err)
		}
	}
	if got := m.Run("load", "-q", "-i", file); got != "Loaded image: base:latest\n" {
		t.Errorf("load -q: %q", got)
	}
	if got := m.Run("inspect", "-f", "{{.Config.Labels.nosuch}}", "base"); got != "<no value>\n" {
		t.Errorf("a missing key: %q", got)
	}
	if out := m.Try(nil, "inspect", "-f", "{{.Config.NoSuch}}", "base"); out.Code != 1 || !strings.Contains(out.Stderr, "template parsing error") {
		t.Errorf("a missing field: %+v", out)
	}
	dir := directory(t, map[string]string{"Dockerfile": "FROM base\nRUN yes | head -c 5000000; echo the end\n"})
	out := m.Try(nil, "build", "--progress", "plain", dir)
	if out.Code != 0 || strings.Count(out.Stderr, "[output clipped, log limit ") != 1 || !strings.Contains(out.Stderr, "the end") || len(out.Stderr) > 4<<20 {
		t.Errorf("exit code %d, %d bytes shown", out.Code, len(out.Stderr))
	}
}
