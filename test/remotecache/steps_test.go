//go:build e2e

package remotecache

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/micabuild/mica/test/rig"
)

// steps are the options for a cache of single steps in a repository of the real registry.
func steps(repo string) []string {
	at := "type=registry,mode=steps,ref=" + peer.registry.Addr + "/" + repo
	return []string{"--cache-from", at, "--cache-to", at}
}

// TestSteps: another store finds every step, and a changed file runs only what depends on it.
func TestSteps(t *testing.T) {
	c := unpack(t, txtar.Parse([]byte(commandCase)))
	if _, out := c.mica(t, steps("steps")...); len(ran(t, out)) != 6 {
		t.Errorf("with an empty cache mica ran %q", ran(t, out))
	}
	m, out := c.mica(t, append(steps("steps"), "-t", "found")...)
	if list := ran(t, out); len(list) > 0 {
		t.Errorf("mica ran %q", list)
	}
	if got := m.Run("run", "--rm", "found", "sh", "-c", "cat /app/out /app/final"); got != "a\nfinal\n" {
		t.Errorf("what was found holds %q", got)
	}

	must(t, os.WriteFile(filepath.Join(c.dir, "src", "b"), []byte("c\n"), 0o644))
	_, out = c.mica(t, steps("steps")...)
	want := []string{"[build 2/4] COPY src /src", "[build 3/4] RUN --mount=type=bind,source=src,target=/bound date >/stamp; cat /bound/a >/out"}
	if list := ran(t, out); !slices.Equal(list, want) {
		t.Errorf("with another file that the image does not have, mica ran %q, want %q", list, want)
	}
	must(t, os.WriteFile(filepath.Join(c.dir, "src", "a"), []byte("d\n"), 0o644))
	m, out = c.mica(t, append(steps("steps"), "-t", "changed")...)
	want = append(want, "[stage-1 2/4] COPY --from=build /out ./", "[stage-1 3/4] RUN echo final >final")
	if list := ran(t, out); !slices.Equal(list, want) {
		t.Errorf("with another file of the image, mica ran %q, want %q", list, want)
	}
	if got := m.Run("run", "--rm", "changed", "cat", "/app/out"); got != "d\n" {
		t.Errorf("with a changed file, the image holds %q", got)
	}
}

// TestStepsOfManyBuilds: of 8 builds that write one cache at the same time, each finds its steps afterwards.
func TestStepsOfManyBuilds(t *testing.T) {
	contexts := make([]*dockerfile, 8)
	for i := range contexts {
		contexts[i] = unpack(t, txtar.Parse([]byte(oneStage)))
		must(t, os.WriteFile(filepath.Join(contexts[i].dir, "src", "a"), []byte(fmt.Sprint(i)), 0o644))
	}
	var all sync.WaitGroup
	for _, c := range contexts {
		all.Go(func() {
			if _, out := c.mica(t, steps("steps-many")...); out.Code != 0 {
				t.Error(out.Stderr)
			}
		})
	}
	all.Wait()
	for i, c := range contexts {
		m, out := c.mica(t, append(steps("steps-many"), "-t", "found")...)
		if list := ranOf(t, out, 3); len(list) > 0 {
			t.Errorf("build %d ran %q", i, list)
		}
		if got := m.Run("run", "--rm", "found", "cat", "/app/out"); got != fmt.Sprint(i) {
			t.Errorf("build %d has %q", i, got)
		}
	}
}

// TestStepsAndOtherCaches: what was found step by step is exported in BuildKit's format, with the layers of base images.
func TestStepsAndOtherCaches(t *testing.T) {
	c := unpack(t, txtar.Parse([]byte(commandCase)))
	if _, out := c.mica(t, steps("steps-other")...); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	ref := "type=registry,registry.insecure=true,ref=" + peer.registry.Addr + "/steps-other-max:cache"
	if _, out := c.mica(t, append(steps("steps-other"), "--cache-to", ref+",mode=max", "-o", "type=cacheonly")...); len(ran(t, out)) > 0 {
		t.Errorf("mica ran %q", ran(t, out))
	}
	prune(t)
	if list := c.uncached(t, "--import-cache", ref); len(list) > 0 {
		t.Errorf("BuildKit ran %q", list)
	}
	m := rig.NewMica(t)
	out := m.Try(nil, "build", "--progress", "plain", "--build-context", "base=docker-image://"+peer.registry.Addr+"/base:latest", "--cache-from", ref,
		"--cache-to", "type=registry,mode=steps,ref="+peer.registry.Addr+"/steps-third", c.dir)
	if list := ran(t, out); len(list) > 0 {
		t.Errorf("mica ran %q, with BuildKit's format", list)
	}
	if _, out := c.mica(t, steps("steps-third")...); len(ran(t, out)) > 0 {
		t.Errorf("mica ran %q, with the steps of a cache in BuildKit's format", ran(t, out))
	}
}
