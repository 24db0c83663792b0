//go:build e2e

package remotecache

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/micabuild/mica/test/rig"
)

// TestPruneSteps: a prune of a shared cache keeps what was used since a time, removes all else, and needs a registry that allows it.
func TestPruneSteps(t *testing.T) {
	t.Setenv("REGISTRY_STORAGE_DELETE_ENABLED", "true")
	reg, err := rig.StartRegistry(rig.TempDir(t))
	must(t, err)
	t.Cleanup(func() { must(t, reg.Stop()) })
	c := unpack(t, txtar.Parse([]byte(commandCase)))
	ref := reg.Addr + "/pruned"
	at := "type=registry,mode=steps,ref=" + ref
	cache := []string{"--cache-from", at, "--cache-to", at}
	if _, out := c.mica(t, cache...); len(ran(t, out)) != 6 {
		t.Errorf("with an empty cache mica ran %q", ran(t, out))
	}
	m := rig.NewMica(t)
	if out := m.Run("builder", "prune", "-f", "--remote", ref, "--filter", "until=24h"); !strings.HasPrefix(out, "Total: 0 of ") {
		t.Errorf("a prune of what is older than a day: %s", out)
	}
	if _, out := c.mica(t, cache...); len(ran(t, out)) > 0 {
		t.Errorf("after that mica ran %q", ran(t, out))
	}
	if out := m.Run("builder", "prune", "-f", "--remote", ref, "--all"); !strings.Contains(out, "Deleted step records:\nstep-") {
		t.Errorf("a prune of everything: %s", out)
	}
	if _, out := c.mica(t, cache...); len(ran(t, out)) != 6 {
		t.Errorf("after that mica ran %q", ran(t, out))
	}

	for want, args := range map[string][]string{
		"needs --filter until=DURATION": {"--remote", ref},
		"--keep-storage cannot be used": {"--remote", ref, "--all", "--keep-storage", "1GB"},
		"without a tag or digest":       {"--remote", ref + ":1", "--all"},
		"the registry does not allow":   {"--remote", peer.registry.Addr + "/unpruned", "--all"},
	} {
		if strings.Contains(args[1], "unpruned") {
			if _, out := c.mica(t, steps("unpruned")...); out.Code != 0 {
				t.Fatal(out.Stderr)
			}
		}
		if out := m.Try(nil, append([]string{"builder", "prune", "-f"}, args...)...); out.Code == 0 || !strings.Contains(out.Stderr, want) {
			t.Errorf("%q: %s", args, out.Stderr)
		}
	}

	var builds sync.WaitGroup
	var ended atomic.Bool
	for range 3 {
		builds.Go(func() {
			for range 2 {
				if _, out := c.mica(t, append(cache, "-o", "type=cacheonly")...); out.Code != 0 {
					t.Errorf("beside prunes: %s", out.Stderr)
				}
			}
		})
	}
	var prunes sync.WaitGroup
	prunes.Go(func() {
		for !ended.Load() {
			if out := m.Try(nil, "builder", "prune", "-f", "--remote", ref, "--all"); out.Code != 0 {
				t.Errorf("beside builds: %s", out.Stderr)
			}
		}
	})
	builds.Wait()
	ended.Store(true)
	prunes.Wait()
}
