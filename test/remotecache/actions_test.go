//go:build e2e

package remotecache

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/micabuild/mica/internal/actionscache/actionscachetest"
	"github.com/micabuild/mica/test/rig"
)

// TestActions exchanges caches through the cache service of GitHub Actions, in both directions.
func TestActions(t *testing.T) {
	c := unpack(t, txtar.Parse([]byte(commandCase)))
	s := actionscachetest.New(t)
	at := func(scope string) string {
		return "type=gha,version=2,url_v2=" + s.URL + ",token=" + s.Token + ",scope=" + scope
	}
	_, out := c.mica(t, "--cache-to", at("mica")+",mode=max")
	if list := ran(t, out); len(list) != 6 {
		t.Errorf("in an empty store mica ran %q", list)
	}
	if strings.Contains(out.Stderr, s.Token) {
		t.Error("the token is in the progress")
	}
	prune(t)
	if list := c.uncached(t, "--import-cache", at("mica")); len(list) > 0 {
		t.Errorf("BuildKit ran %q, with mica's cache", list)
	}

	prune(t)
	c.buildkit(t, "--export-cache", at("buildkit")+",mode=max")
	m, out := c.mica(t, "--cache-from", at("buildkit"), "-t", "found")
	if list := ran(t, out); len(list) > 0 {
		t.Errorf("mica ran %q, with BuildKit's cache", list)
	}
	if got := m.Run("run", "--rm", "found", "sh", "-c", "cat /app/out /app/final"); got != "a\nfinal\n" {
		t.Errorf("what was found holds %q", got)
	}

	s.Damage("buildkit-blob-")
	if _, out = c.mica(t, "--cache-from", at("buildkit"), "-t", "found"); out.Code == 0 || strings.Contains(out.Stderr, s.Token) {
		t.Errorf("with damaged layers: %s", out.Stderr)
	}
}

// TestActionsOfAJob: a job's environment says where the cache is; elsewhere it is left out.
func TestActionsOfAJob(t *testing.T) {
	c := unpack(t, txtar.Parse([]byte(oneStage)))
	s := actionscachetest.New(t)
	build := func(env ...string) rig.Output {
		m := rig.NewMica(t)
		cmd := m.Command("build", "--progress", "plain", "--build-context", "base=docker-image://"+peer.registry.Addr+"/base:latest",
			"--cache-from", "type=gha", "--cache-to", "type=gha,mode=max", c.dir)
		cmd.Env = append(cmd.Environ(), env...)
		return rig.Run(t, cmd)
	}
	if out := build("ACTIONS_RUNTIME_TOKEN=", "ACTIONS_RESULTS_URL="); out.Code != 0 || len(s.Keys()) > 0 {
		t.Errorf("elsewhere: %s", out.Stderr)
	}
	job := []string{"ACTIONS_RUNTIME_TOKEN=" + s.Token, "ACTIONS_RESULTS_URL=" + s.URL}
	if list := ranOf(t, build(job...), 3); len(list) == 0 {
		t.Error("an empty cache has steps")
	}
	if list := ranOf(t, build(job...), 3); len(list) > 0 {
		t.Errorf("mica ran %q", list)
	}
	if !slices.ContainsFunc(s.Keys(), func(k string) bool { return strings.HasPrefix(k, "index-buildkit-1-") }) {
		t.Errorf("keys %q", s.Keys())
	}
}
