//go:build e2e

package remotecache

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/micabuild/mica/test/rig"
)

const whyCase = `
-- Dockerfile --
FROM base AS build
ARG VERSION=1
WORKDIR /w
COPY src/ src/
RUN echo $VERSION; cat src/a > out
FROM base
COPY --from=build /w/out /out
RUN echo final > /final
-- src/a --
a
-- src/b --
b
`

// TestWhyNotInCache: for caches of mica and of BuildKit, each step that is not in the cache says why, and the cause at the beginning is
// the change that was made. Of BuildKit's, and of images, only digests are known.
func TestWhyNotInCache(t *testing.T) {
	const noSuch, files = "no-step  ", "other-input the build context files"
	changes := []struct {
		name       string
		make       func(dir string) []string // edits the context, and returns flags
		mica, keys []string                  // the causes by what mica's caches tell, and by keys alone
	}{
		{"nothing", func(string) []string { return nil }, nil, nil},
		{"a file", func(dir string) []string {
			must(t, os.WriteFile(filepath.Join(dir, "src", "a"), []byte("other\n"), 0o644))
			return nil
		}, []string{"file src/a content"}, []string{files}},
		{"an argument", func(string) []string { return []string{"--build-arg", "VERSION=2"} }, []string{"argument VERSION "}, []string{noSuch}},
		{"a command", func(dir string) []string {
			text, err := os.ReadFile(filepath.Join(dir, "Dockerfile"))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(strings.Replace(string(text), "echo final", "echo last", 1)), 0o644))
			return nil
		}, []string{"command  "}, []string{noSuch}},
	}
	for _, who := range []string{"mica", "buildkit", "inline of mica", "inline of buildkit", "local of mica", "local of buildkit"} {
		t.Run(who, func(t *testing.T) {
			ref, dir := peer.registry.Addr+"/why-"+strings.ReplaceAll(who, " ", "-")+":cache", rig.TempDir(t)
			to, from := "type=registry,mode=max,registry.insecure=true,ref="+ref, ref
			if strings.HasPrefix(who, "local") {
				to, from = "type=local,mode=max,dest="+dir, "type=local,src="+dir
			}
			c := unpack(t, txtar.Parse([]byte(whyCase)))
			prune(t)
			switch inline := strings.HasPrefix(who, "inline"); {
			case inline && strings.HasSuffix(who, "mica"):
				_, out := c.mica(t, "--cache-to", "type=inline", "--push", "-t", ref)
				ran(t, out)
			case inline:
				c.buildkit(t, "--export-cache", "type=inline", "--output", "type=image,push=true,registry.insecure=true,name="+ref)
			case strings.HasSuffix(who, "mica"):
				_, out := c.mica(t, "--cache-to", to)
				ran(t, out)
			default:
				c.buildkit(t, "--export-cache", to)
			}
			for _, change := range changes {
				c := unpack(t, txtar.Parse([]byte(whyCase)))
				m, out := c.mica(t, append([]string{"--cache-from", from}, change.make(c.dir)...)...)
				list := ran(t, out)
				want := change.keys
				if who == "mica" || who == "local of mica" {
					want = change.mica
				}
				checkMisses(t, change.name, m, len(list), want)
			}
		})
	}
}

// checkMisses compares the causes, at the beginning of each chain, why steps were not in the cache.
func checkMisses(t *testing.T, name string, m *rig.Mica, steps int, want []string) {
	t.Helper()
	var res struct {
		Steps []struct {
			Name        string
			CacheMisses []struct {
				Roots []struct{ Kind, Name, Change string }
			}
		}
	}
	out := m.Run("why", "--format", "json")
	must(t, json.Unmarshal([]byte(out), &res))
	if len(res.Steps) != steps {
		t.Errorf("%s: %d of %d steps say why", name, len(res.Steps), steps)
	}
	found := map[string]bool{}
	for _, s := range res.Steps {
		if len(s.CacheMisses) != 1 {
			t.Errorf("%s: %d caches do not have %s", name, len(s.CacheMisses), s.Name)
			continue
		}
		for _, c := range s.CacheMisses[0].Roots {
			found[c.Kind+" "+c.Name+" "+c.Change] = true
		}
	}
	for _, w := range want {
		if !found[w] {
			t.Errorf("%s: %q is not named: %s", name, w, out)
		}
		delete(found, w)
	}
	delete(found, "no-result  ") // of a stage whose layers are not in the image
	for f := range found {
		t.Errorf("%s: %q is named: %s", name, f, out)
	}
}
