//go:build e2e

package commands

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// No command gives an image a name that reads like an ID.
func TestNamesThatReadLikeIDs(t *testing.T) {
	m := newMica(t)
	before := m.Run("images", "-a", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}")
	dir := directory(t, map[string]string{"Dockerfile": "FROM base\n"})
	tar := filepath.Join(rig.TempDir(t), "root.tar")
	rig.Must(t, "tar", "-C", dir, "-cf", tar, ".")
	var archive bytes.Buffer
	rig.WriteArchive(t, &archive, rig.Image{Names: []string{"sha256:abc"}, Config: map[string]any{"architecture": "amd64", "os": "linux"}})
	for _, name := range []string{"sha256", "sha256:abc", "docker.io/library/sha256:x", "sha256:" + strings.Repeat("0", 64)} {
		for _, args := range [][]string{
			{"tag", "base", name}, {"build", "-t", name, dir}, {"build", "-o", "type=image,name=" + name, dir}, {"import", tar, name}, {"pull", name},
			{"load"},
		} {
			out := m.Try(bytes.NewReader(archive.Bytes()), args...)
			if out.Code == 0 || !strings.Contains(out.Stderr, "refusing to create an ambiguous tag using digest algorithm as name") {
				t.Errorf("%v: exit code %d, %s", args, out.Code, out.Stderr)
			}
		}
	}
	if after := m.Run("images", "-a", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"); after != before {
		t.Errorf("there is now\n%s", after)
	}
}
