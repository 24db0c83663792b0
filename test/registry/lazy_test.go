//go:build e2e

package registry

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
)

// TestCachedBaseIsNotDownloaded: where a cache of others has every step, of base images that the result does not have in it
// manifest and config come, and no layer.
func TestCachedBaseIsNotDownloaded(t *testing.T) {
	for name, inIndex := range map[string]bool{"an image": false, "an index": true} {
		t.Run(name, func(t *testing.T) {
			m := registrytest.New(t)
			tag := map[bool]string{false: "1"}[inIndex]
			d := m.PutImage("base", tag, runtime.GOARCH, nil, registrytest.Layer(t, "made", registrytest.Noise(200_000)))
			other := m.PutImage("tools", tag, runtime.GOARCH, nil, registrytest.Layer(t, "tool", registrytest.Noise(100_000)))
			if inIndex {
				m.PutIndex("base", "1", m.PutIndex("base", "", d))
				m.PutIndex("tools", "1", other)
			}
			dir := dockerfile(t, "FROM "+m.Name("base:1")+" AS b\nCOPY Dockerfile /in\nWORKDIR /w\nCOPY --from="+m.Name("tools:1")+" tool /w/tool\n"+
				"FROM scratch\nCOPY --from=b made /copied\nCOPY --from=b /w/tool /\nCOPY own /own\n")
			if err := os.WriteFile(filepath.Join(dir, "own"), []byte("own"), 0o644); err != nil {
				t.Fatal(err)
			}
			cache := "type=registry,ref=" + m.Name("cache:1")
			first := newClient(t)
			first.Run("build", "-q", "-t", "app", "--cache-from", cache, "--cache-to", cache+",mode=max", dir)
			want := first.inspect("app", "{{.Id}}")

			m.Behave()
			fresh := newClient(t)
			fresh.Run("build", "-q", "-t", "app", "--cache-from", cache, dir)
			configs := map[string]int{}
			for _, r := range m.SeenBy("GET", registrytest.Blob) {
				configs[r.Repository]++
			}
			if configs["base"] > 1 || configs["tools"] > 1 {
				t.Errorf("of the bases more than a config was asked for: %v", configs)
			}
			if got := fresh.inspect("app", "{{.Id}}"); got != want {
				t.Errorf("with the cache %s was built, want %s", got, want)
			}
			if fresh.content("app", "copied") != string(registrytest.Noise(200_000)) || fresh.content("app", "own") != "own" {
				t.Error("what was built is another")
			}

			// A step that the cache does not have needs its base: it comes, and has its name.
			m.Behave()
			if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM "+m.Name("base:1")+"\nCOPY own /other\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			fresh.Run("build", "-q", "-t", "on", "--cache-from", cache, dir)
			if fresh.content("on", "made") != string(registrytest.Noise(200_000)) || fresh.content("on", "other") != "own" {
				t.Error("what is built on the base is another")
			}
			fresh.inspect(m.Name("base:1"), "{{.Id}}")
		})
	}
}
