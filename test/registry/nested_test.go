//go:build e2e

package registry

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// nested adds an index that lists an index of two platforms and, beside it, what only other tools understand: a plugin, an
// image for WebAssembly, and a chart.
func (m *memory) nested(repo, tag string) (root, inner, ours rig.Descriptor) {
	m.t.Helper()
	inner, ours, _ = m.twoPlatforms(repo, "")
	plugin := m.document(repo, "", "application/vnd.docker.plugin.v1+json", map[string]string{"is": "a plugin"})
	plugin.Platform = ours.Platform
	wasm := m.image(repo, "", "wasm", func(c *rig.Contents) {
		c.Layers[0].MediaType = "application/vnd.wasm.content.layer.v1+wasm"
	}, []byte("wasm"))
	chart := m.image(repo, "", here(), func(c *rig.Contents) {
		c.Config.MediaType = "application/vnd.cncf.helm.config.v1+json"
	}, []byte("chart"))
	chart.Platform = nil
	return m.index(repo, tag, plugin, wasm, chart, inner), inner, ours
}

// TestIndexInAnIndex is pulled, built on, shown, saved and pushed; what is unknown in it is left alone.
func TestIndexInAnIndex(t *testing.T) {
	m := newMemory(t)
	root, inner, ours := m.nested("app", "1")
	c := newClient(t)
	c.mustSay(`Digest: `+root.Digest, "pull", m.name("app:1"))
	if got := c.content(m.name("app:1"), "made"); got != here() {
		t.Errorf("what came is for %q", got)
	}
	if n := len(m.SeenBy("GET", rig.Blob)); n != 3 {
		t.Errorf("%d blobs were asked for, want a config and two layers", n)
	}
	c.mustSay(`linux/`+there()+`\s+not pulled`, "images", "--tree")
	c.mustSay(here(), "inspect", "-f", "{{.Architecture}}", m.name("app:1"))
	c.mustSay(here(), "image", "inspect", "--remote", "-f", "{{.Architecture}}", m.name("app:1"))
	c.mustSay(inner.Digest, "manifest", "inspect", m.name("app:1"))
	c.mustSay(ours.Digest, "manifest", "inspect", "-v", m.name("app@"+inner.Digest))
	dir := rig.TempDir(t)
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM "+m.name("app:1")+"\nCOPY Dockerfile /\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	fresh := newClient(t)
	fresh.Run("build", "-q", "-t", "on:1", dir)
	if got := fresh.content("on:1", "made"); got != here() {
		t.Errorf("what is built is on one for %q", got)
	}
	// To the registry that it came from, all of it.
	if got := digestIn(t, c.says("push", m.name("app:1"))); got != root.Digest {
		t.Errorf("pulled %s, pushed %s", root.Digest, got)
	}
	// To another one, what is here.
	other := newMemory(t)
	c.Run("tag", m.name("app:1"), other.name("app:1"))
	c.Run("push", other.name("app:1"))
	again := newClient(t)
	again.Run("pull", "-q", other.name("app:1"))
	if got := again.content(other.name("app:1"), "made"); got != here() {
		t.Errorf("pushed elsewhere it is for %q", got)
	}
}

// TestAllOfAnIndexInAnIndex: --platform all keeps the images, and leaves at the registry what mica cannot unpack.
func TestAllOfAnIndexInAnIndex(t *testing.T) {
	m := newMemory(t)
	root, _, _ := m.nested("app", "1")
	c := newClient(t)
	c.mustSay(`Digest: `+root.Digest, "pull", "--platform", "all", m.name("app:1"))
	tree := c.Run("images", "--tree")
	if !strings.Contains(tree, "linux/"+here()) || !strings.Contains(tree, "linux/"+there()) || strings.Contains(tree, "linux/"+there()+"  not pulled") {
		t.Errorf("images --tree shows\n%s", tree)
	}
	archive := filepath.Join(rig.TempDir(t), "saved.tar")
	c.Run("save", "-o", archive, m.name("app:1"))
	loaded := newClient(t)
	loaded.Run("load", "-i", archive)
	if got := loaded.content(m.name("app:1"), "made"); got != here() {
		t.Errorf("what is loaded is for %q", got)
	}
	c.Run("rmi", m.name("app:1"))
	c.Run("image", "prune", "-f")
}

// TestCopyOfAnIndexInAnIndex copies every byte, of what is unknown, too; to a layout and back.
func TestCopyOfAnIndexInAnIndex(t *testing.T) {
	m, other, third := newMemory(t), newMemory(t), newMemory(t)
	root, _, ours := m.nested("app", "1")
	c := newClient(t)
	dir := rig.TempDir(t)
	c.copies(root.Digest, m.name("app:1"), other.name("copy:1"))
	crane(t, "digest", other.name("copy:1"))
	c.copies(root.Digest, other.name("copy:1"), "oci:"+dir+"/layout:1")
	c.copies(root.Digest, "oci:"+dir+"/layout:1", third.name("back:1"))
	for _, r := range []*memory{other, third} {
		repo := map[*memory]string{other: "copy", third: "back"}[r]
		if got := rig.Digest(r.Manifest(repo, "1").Data); got != root.Digest {
			t.Errorf("%s has %s, want %s", repo, got, root.Digest)
		}
		fresh := newClient(t)
		fresh.Run("pull", "-q", r.name(repo+":1"))
		if got := fresh.content(r.name(repo+":1"), "made"); got != here() {
			t.Errorf("what came from %s is for %q", repo, got)
		}
	}
	c.copies(ours.Digest, "--platform", "linux/"+here(), m.name("app:1"), "oci:"+dir+"/one:1")
}
