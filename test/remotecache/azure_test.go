//go:build e2e

package remotecache

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/micabuild/mica/internal/azurecache/azurecachetest"
	"github.com/micabuild/mica/test/rig"
)

// TestAzure exchanges caches through a container of Azure Blob Storage, in both directions.
func TestAzure(t *testing.T) {
	c := unpack(t, txtar.Parse([]byte(strings.Replace(commandCase, "head -c 300000 ", "head -c 70000000 ", 1))))
	s := azurecachetest.New(t)
	at := "type=azblob,account_url=" + s.URL + ",account_name=" + azurecachetest.Account + ",secret_access_key=" + s.Key
	m, out := c.mica(t, "--cache-from", at+",name=mica", "--cache-to", at+",mode=max,name=mica;other")
	if list := ran(t, out); len(list) != 6 {
		t.Errorf("in an empty store mica ran %q", list)
	}
	if strings.Contains(out.Stderr, s.Key) || hasText(t, m.Root, s.Key) {
		t.Error("the key is in the progress or in the store")
	}
	if !slices.Contains(s.Blobs(), "buildkit-cache/manifests/other") {
		t.Errorf("blobs %q", s.Blobs())
	}
	prune(t)
	if list := c.uncached(t, "--import-cache", at+",name=mica"); len(list) > 0 {
		t.Errorf("BuildKit ran %q, with mica's cache", list)
	}

	prune(t)
	c.buildkit(t, "--export-cache", at+",name=buildkit,mode=max,prefix=other/,container=second")
	signed := "type=azblob,account_url=" + s.URL + "?" + s.SAS + ",name=buildkit,prefix=other/,container=second"
	m, out = c.mica(t, "--cache-from", signed, "-t", "found")
	if list := ran(t, out); len(list) > 0 {
		t.Errorf("mica ran %q, with BuildKit's cache", list)
	}
	if got := m.Run("run", "--rm", "found", "sh", "-c", "cat /app/out /app/final"); got != "a\nfinal\n" {
		t.Errorf("what was found holds %q", got)
	}
	if strings.Contains(out.Stderr, "verysecret") || hasText(t, m.Root, "verysecret") {
		t.Error("the signature is in the progress or in the store")
	}

	n := s.Damage("second/other/blobs/")
	if _, out = c.mica(t, "--cache-from", signed, "-t", "found"); n == 0 || out.Code == 0 || strings.Contains(out.Stderr, "verysecret") {
		t.Errorf("with %d damaged layers: %s", n, out.Stderr)
	}
}

// TestAzureOfEnvironment: the environment says where the cache is, as for BuildKit.
func TestAzureOfEnvironment(t *testing.T) {
	c := unpack(t, txtar.Parse([]byte(oneStage)))
	s := azurecachetest.New(t)
	build := func(env ...string) rig.Output {
		cmd := rig.NewMica(t).Command("build", "--progress", "plain", "--build-context", "base=docker-image://"+peer.registry.Addr+"/base:latest",
			"--cache-from", "type=azblob", "--cache-to", "type=azblob,mode=max", c.dir)
		cmd.Env = append(cmd.Environ(), env...)
		return rig.Run(t, cmd)
	}
	if out := build(); out.Code == 0 || !strings.Contains(out.Stderr, "BUILDKIT_AZURE_STORAGE_ACCOUNT_URL") {
		t.Errorf("without an account: %s", out.Stderr)
	}
	env := []string{
		"BUILDKIT_AZURE_STORAGE_ACCOUNT_URL=" + s.URL + "?" + s.SAS, "BUILDKIT_AZURE_STORAGE_CONTAINER=own", "BUILDKIT_AZURE_STORAGE_PREFIX=p",
	}
	if list := ranOf(t, build(env...), 3); len(list) == 0 {
		t.Error("an empty cache has steps")
	}
	if list := ranOf(t, build(env...), 3); len(list) > 0 {
		t.Errorf("mica ran %q", list)
	}
	if !slices.Contains(s.Blobs(), "own/p/manifests/buildkit") {
		t.Errorf("blobs %q", s.Blobs())
	}
}
