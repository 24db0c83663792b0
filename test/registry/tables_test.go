//go:build e2e

package registry

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/test/rig"
)

// TestTablesOfOthers: the tables of contents that mica and skopeo write are those of the layers, and are read in place of them.
func TestTablesOfOthers(t *testing.T) {
	m := registrytest.New(t)
	c := rig.NewMica(t)
	dir := rig.TempDir(t)
	for name, content := range map[string]string{
		"Dockerfile": "FROM scratch\nCOPY --chmod=640 files /\n", "files/noise": string(registrytest.Noise(400_000)), "files/etc/app.conf": "v=1\n",
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("app.conf", filepath.Join(dir, "files/etc/link")); err != nil {
		t.Fatal(err)
	}
	c.Run("build", "-q", "-t", "app:1", dir)
	c.Run("build", "-q", "-o", "type=registry,name="+m.Name("app:estargz")+",compression=estargz,force-compression=true", dir)
	c.Run("save", "-o", filepath.Join(dir, "app.tar"), "app:1")
	rig.Must(t, "skopeo", "copy", "-q", "--dest-decompress", "oci-archive:"+filepath.Join(dir, "app.tar"), "dir:"+filepath.Join(dir, "plain"))
	rig.Must(t, "skopeo", "copy", "-q", "--dest-tls-verify=false", "--dest-compress-format", "zstd:chunked", "dir:"+filepath.Join(dir, "plain"), "docker://"+m.Name("app:zstd"))
	if err := os.WriteFile(filepath.Join(dir, "files/etc/app.conf"), []byte("v=2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.Run("build", "-q", "-t", "app:2", dir)
	c.Run("save", "-o", filepath.Join(dir, "2.tar"), "app:2")
	for _, tag := range []string{"estargz", "zstd"} {
		other := rig.NewMica(t) // that has no layer of the first
		other.Run("load", "-q", "-i", filepath.Join(dir, "2.tar"))
		before := len(m.SeenBy("GET", registrytest.Blob))
		out := other.Try(nil, "diff", "--only", "files", "--ignore-times", "--text", "*.conf", "docker://"+m.Name("app:"+tag), "app:2")
		var changes []string
		for line := range strings.Lines(out.Stdout) {
			if strings.HasPrefix(line, "  ~ ") || strings.HasPrefix(line, "  + ") || strings.HasPrefix(line, "  - ") {
				changes = append(changes, line)
			}
		}
		if len(changes) != 1 || !strings.HasPrefix(changes[0], "  ~ /etc/app.conf  content") || !strings.Contains(out.Stdout, "-v=1\n") || out.Code != 1 {
			t.Errorf("%s: %q\n%s%s", tag, changes, out.Stdout, out.Stderr)
		}
		for _, r := range m.SeenBy("GET", registrytest.Blob)[before+1:] { // the first is the config
			if r.Range == "" {
				t.Errorf("%s: %+v", tag, r)
			}
		}
	}
}
