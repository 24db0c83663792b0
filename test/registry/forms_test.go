//go:build e2e

package registry

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// A layer that came in one form is had in any other: by whatever way it arrived, and whatever was pushed, removed and pulled
// since, all that reads it finds it.
func TestEveryReaderFindsEveryForm(t *testing.T) {
	first, second := open(t), open(t)
	const file = "made"
	arrivals := map[string]func(c *client, name string){
		"import": func(c *client, name string) {
			tar := filepath.Join(rig.TempDir(t), "root.tar")
			rig.Must(t, "tar", "-C", directoryWith(t, file), "-cf", tar, ".")
			c.Run("import", tar, name)
		},
		"import of gzip": func(c *client, name string) {
			tar := filepath.Join(rig.TempDir(t), "root.tar.gz")
			rig.Must(t, "tar", "-C", directoryWith(t, file), "-czf", tar, ".")
			c.Run("import", tar, name)
		},
		"load": func(c *client, name string) {
			archive := filepath.Join(rig.TempDir(t), "a.tar")
			c.build("text", "loaded")
			c.Run("save", "-o", archive, "loaded")
			c.Run("rmi", "loaded")
			c.Run("builder", "prune", "-af")
			c.Run("load", "-q", "-i", archive)
			c.Run("tag", "loaded", name)
			c.Run("rmi", "loaded")
		},
		"build": func(c *client, name string) { c.build("text", name) },
		"build of zstd": func(c *client, name string) {
			c.build("text", "plain")
			c.Run("build", "-q", "-o", "type=image,name="+name+",compression=zstd,force-compression=true", dockerfile(t, "FROM plain\n"))
			c.Run("rmi", "plain")
		},
	}
	// What is moved is read by the name that is returned.
	moves := map[string]func(c *client, name, at string) string{
		"nothing": func(_ *client, name, _ string) string { return name },
		"push, remove, pull by digest": func(c *client, name, at string) string {
			c.Run("tag", name, at)
			pushed := at + "@" + digestIn(t, c.Run("push", at))
			c.Run("rmi", at)
			c.Run("pull", "-q", pushed)
			return pushed
		},
		"push, remove, pull": func(c *client, name, at string) string {
			c.Run("tag", name, at)
			c.Run("push", "-q", at)
			c.Run("rmi", at)
			c.Run("pull", "-q", at)
			return at
		},
		"push of zstd, remove, pull": func(c *client, name, at string) string {
			c.Run("tag", name, at)
			c.Run("push", "-q", "--compression", "zstd", "--force-compression", at)
			c.Run("rmi", at)
			c.Run("pull", "-q", at)
			return at
		},
		"push, remove all, pull": func(c *client, name, at string) string {
			c.Run("tag", name, at)
			c.Run("push", "-q", at)
			c.Run("rmi", "-f", at, name)
			c.Run("builder", "prune", "-af")
			c.Run("pull", "-q", at)
			return at
		},
		"push of gzip by a peer's digests": func(c *client, name, at string) string {
			archive := filepath.Join(rig.TempDir(t), "a.tar")
			c.Run("save", "-o", archive, name)
			rig.Must(t, "skopeo", "copy", "--dest-tls-verify=false", "--dest-compress-format", "gzip", "docker-archive:"+archive, "docker://"+at)
			c.Run("pull", "-q", at)
			return at
		},
	}
	readers := map[string]func(c *client, name, at string){
		"save": func(c *client, name, _ string) {
			archive := filepath.Join(rig.TempDir(t), "a.tar")
			c.Run("save", "-o", archive, name)
			other := newClient(t)
			other.Run("load", "-q", "-i", archive)
			other.content(strings.TrimSpace(other.Run("images", "-aq")), file)
		},
		"push elsewhere": func(c *client, name, at string) {
			name, _, _ = strings.Cut(name, "@") // a digest is not pushed
			if name == at && c.Try(nil, "tag", name, "again").Code != 0 {
				c.Run("pull", "-q", at)
			}
			to := strings.Replace(at, first, second, 1) + "-copy"
			c.Run("tag", name, to)
			c.Run("push", "-q", to)
			other := newClient(t)
			other.Run("pull", "-q", to)
			other.content(to, file)
		},
		"oci output": func(c *client, name, _ string) {
			c.Run("build", "-q", "-o", "type=oci,dest="+filepath.Join(rig.TempDir(t), "o.tar"), dockerfile(t, "FROM "+name+"\nLABEL a=b\n"))
		},
		"docker output": func(c *client, name, _ string) {
			c.Run("build", "-q", "-o", "type=docker,dest="+filepath.Join(rig.TempDir(t), "o.tar"), dockerfile(t, "FROM "+name+"\nLABEL a=b\n"))
		},
		"export": func(c *client, name, _ string) { c.content(name, file) },
		"cache": func(c *client, name, _ string) {
			c.Run("build", "-q", "--cache-to", "type=local,mode=max,dest="+filepath.Join(rig.TempDir(t), "cache"), dockerfile(t, "FROM "+name+"\nCOPY Dockerfile /d\n"))
		},
		"build from it": func(c *client, name, _ string) {
			c.Run("build", "-q", "-t", "from", dockerfile(t, "FROM scratch\nCOPY --from="+name+" /"+file+" /"+file+"\n"))
			c.content("from", file)
		},
	}
	n := 0
	for arrival, arrive := range arrivals {
		for move, moves := range moves {
			n++
			t.Run(arrival+"; "+move, func(t *testing.T) {
				for reader, read := range readers {
					t.Run(reader, func(t *testing.T) {
						c := newClient(t)
						name, at := "base", fmt.Sprintf("%s/forms-%d", first, n)
						arrive(c, name)
						read(c, moves(c, name, at), at)
					})
				}
			})
		}
	}
}

func directoryWith(t *testing.T, file string) string {
	t.Helper()
	dir := rig.TempDir(t)
	if err := os.WriteFile(filepath.Join(dir, file), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
