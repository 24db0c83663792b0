//go:build e2e

package registry

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/test/rig"
)

// TestIndexInAnIndex is pulled, built on, shown, saved and pushed; what is unknown in it is left alone.
func TestIndexInAnIndex(t *testing.T) {
	m := registrytest.New(t)
	root, inner, ours := m.PutNested("app", "1")
	c := newClient(t)
	c.mustSay(`Digest: `+root.Digest, "pull", m.Name("app:1"))
	if got := c.content(m.Name("app:1"), "made"); got != runtime.GOARCH {
		t.Errorf("what came is for %q", got)
	}
	if n := len(m.SeenBy("GET", registrytest.Blob)); n != 3 {
		t.Errorf("%d blobs were asked for, want a config and two layers", n)
	}
	c.mustSay(`linux/`+registrytest.OtherArch()+`\s+not pulled`, "images", "--tree")
	c.mustSay(runtime.GOARCH, "inspect", "-f", "{{.Architecture}}", m.Name("app:1"))
	c.mustSay(runtime.GOARCH, "image", "inspect", "--remote", "-f", "{{.Architecture}}", m.Name("app:1"))
	c.mustSay(inner.Digest, "manifest", "inspect", m.Name("app:1"))
	c.mustSay(ours.Digest, "manifest", "inspect", "-v", m.Name("app@"+inner.Digest))
	dir := rig.TempDir(t)
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM "+m.Name("app:1")+"\nCOPY Dockerfile /\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	fresh := newClient(t)
	fresh.Run("build", "-q", "-t", "on:1", dir)
	if got := fresh.content("on:1", "made"); got != runtime.GOARCH {
		t.Errorf("what is built is on one for %q", got)
	}
	// To the registry that it came from, all of it.
	if got := digestIn(t, c.says("push", m.Name("app:1"))); got != root.Digest {
		t.Errorf("pulled %s, pushed %s", root.Digest, got)
	}
	// To another one, what is here.
	other := registrytest.New(t)
	c.Run("tag", m.Name("app:1"), other.Name("app:1"))
	c.Run("push", other.Name("app:1"))
	again := newClient(t)
	again.Run("pull", "-q", other.Name("app:1"))
	if got := again.content(other.Name("app:1"), "made"); got != runtime.GOARCH {
		t.Errorf("pushed elsewhere it is for %q", got)
	}
}

// TestAllOfAnIndexInAnIndex: --platform all keeps the images, and leaves at the registry what mica cannot unpack.
func TestAllOfAnIndexInAnIndex(t *testing.T) {
	m := registrytest.New(t)
	root, _, _ := m.PutNested("app", "1")
	c := newClient(t)
	c.mustSay(`Digest: `+root.Digest, "pull", "--platform", "all", m.Name("app:1"))
	tree := c.Run("images", "--tree")
	if !strings.Contains(tree, "linux/"+runtime.GOARCH) || !strings.Contains(tree, "linux/"+registrytest.OtherArch()) || strings.Contains(tree, "linux/"+registrytest.OtherArch()+"  not pulled") {
		t.Errorf("images --tree shows\n%s", tree)
	}
	archive := filepath.Join(rig.TempDir(t), "saved.tar")
	c.Run("save", "-o", archive, m.Name("app:1"))
	loaded := newClient(t)
	loaded.Run("load", "-i", archive)
	if got := loaded.content(m.Name("app:1"), "made"); got != runtime.GOARCH {
		t.Errorf("what is loaded is for %q", got)
	}
	c.Run("rmi", m.Name("app:1"))
	c.Run("image", "prune", "-f")
}
