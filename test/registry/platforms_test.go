//go:build e2e

package registry

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

func TestOnePlatformOfSeveralIsPulled(t *testing.T) {
	m := newMemory(t)
	index, ours, theirs := m.twoPlatforms("app", "1")
	c := newClient(t)
	c.mustSay(`Digest: `+index.Digest, "pull", m.name("app:1"))
	if got := c.content(m.name("app:1"), "made"); got != here() {
		t.Errorf("without --platform it is for %s", got)
	}
	for _, r := range m.Seen(rig.Manifest) {
		if r.Ref == theirs.Digest {
			t.Errorf("the other platform is fetched: %+v", r)
		}
	}
	tree := c.Run("images", "--tree")
	if !strings.Contains(tree, "linux/"+here()) || !strings.Contains(tree, "linux/"+there()) {
		t.Errorf("images --tree shows\n%s", tree)
	}
	other := newClient(t)
	other.Run("pull", "-q", "--platform", "linux/"+there(), m.name("app:1"))
	if got := other.content(m.name("app:1"), "made"); got != there() {
		t.Errorf("--platform linux/%s gives one for %s", there(), got)
	}
	byDigest := newClient(t)
	byDigest.Run("pull", "-q", m.name("app@"+ours.Digest))
	if got := byDigest.content(m.name("app@"+ours.Digest), "made"); got != here() {
		t.Errorf("by the digest of a manifest it is for %s", got)
	}
	c.refuses(`no matching manifest for linux/s390x`, "pull", "--platform", "linux/s390x", m.name("app:1"))
	c.refuses(`platform`, "pull", "--platform", "what/is/this/thing", m.name("app:1"))
}

// TestAllPlatformsKeepTheirDigest: what is pulled whole is pushed whole.
func TestAllPlatformsKeepTheirDigest(t *testing.T) {
	m := newMemory(t)
	index, _, _ := m.twoPlatforms("app", "1")
	addr := open(t)
	crane(t, "copy", m.name("app:1"), addr+"/app:1")
	for name, platforms := range map[string]string{"listed": "linux/" + here() + ",linux/" + there(), "all": "all"} {
		c := newClient(t)
		c.mustSay(`Digest: `+index.Digest, "pull", "--platform", platforms, addr+"/app:1")
		c.Run("tag", addr+"/app:1", addr+"/"+name+":2")
		if got := digestIn(t, c.says("push", addr+"/"+name+":2")); got != index.Digest {
			t.Errorf("%s: pulled %s, pushed %s", name, index.Digest, got)
		}
		crane(t, "validate", "--remote", addr+"/"+name+":2")
		// To a registry that has nothing of it.
		c.Run("tag", addr+"/app:1", m.name(name+":3"))
		if got := digestIn(t, c.says("push", m.name(name+":3"))); got != index.Digest {
			t.Errorf("%s: pulled %s, pushed %s to another registry", name, index.Digest, got)
		}
	}
}

// TestSecondPlatformJoinsTheFirst: pulled one after the other, the index is whole.
func TestSecondPlatformJoinsTheFirst(t *testing.T) {
	m, other := newMemory(t), newMemory(t)
	index, _, _ := m.twoPlatforms("app", "1")
	c := newClient(t)
	c.Run("pull", "-q", m.name("app:1"))
	c.Run("tag", m.name("app:1"), other.name("app:1"))
	c.mustSay(`digest: sha256:`, "push", other.name("app:1"))
	if raw := other.Manifest("app", "1").Data; rig.Digest(raw) == index.Digest {
		t.Error("an index was pushed of which a platform is missing")
	}
	c.Run("pull", "-q", "--platform", "linux/"+there(), m.name("app:1"))
	c.Run("tag", m.name("app:1"), other.name("app:2"))
	if got := digestIn(t, c.says("push", other.name("app:2"))); got != index.Digest {
		t.Errorf("pulled in two steps %s, pushed %s", index.Digest, got)
	}
}

// TestTagMoves: the store follows, and keeps the old image by its digest.
func TestTagMoves(t *testing.T) {
	m := newMemory(t)
	old := m.image("app", "1", here(), nil, layer(t, "made", []byte("old")))
	c := newClient(t)
	c.Run("pull", "-q", m.name("app:1"))
	m.image("app", "1", here(), nil, layer(t, "made", []byte("new")))
	c.mustSay(`Status: Downloaded newer image`, "pull", m.name("app:1"))
	if got := c.content(m.name("app:1"), "made"); got != "new" {
		t.Errorf("the tag has %q", got)
	}
	if got := c.content(m.name("app@"+old.Digest), "made"); got != "old" {
		t.Errorf("the old digest has %q", got)
	}
	m.Misbehave(always(rig.Hangup))
	c.refuses(`EOF|reset|reached`, "pull", m.name("app:1"))
	if got := c.content(m.name("app:1"), "made"); got != "new" {
		t.Errorf("after a pull that failed the tag has %q", got)
	}
}

func TestManifestListIsMadeAndPushed(t *testing.T) {
	m := newMemory(t)
	ours := m.image("app", "ours", here(), nil, layer(t, "made", []byte("ours")))
	theirs := m.image("app", "theirs", here(), nil, layer(t, "made", []byte("theirs")))
	c := newClient(t)
	list := m.name("app:both")
	c.Run("manifest", "create", list, m.name("app:ours"), m.name("app:theirs"))
	c.Run("manifest", "annotate", "--arch", there(), "--os", "linux", "--variant", "v8", list, m.name("app:theirs"))
	c.refuses(`exist|amend`, "manifest", "create", list, m.name("app:ours"))
	c.refuses(`not|no`, "manifest", "annotate", "--arch", "s390x", list, m.name("app:other"))
	c.refuses(`not found|unknown`, "manifest", "create", m.name("app:none"), m.name("app:missing"))
	if m.Manifest("app", "both").Data != nil {
		t.Error("it is pushed before anybody said so")
	}
	d := digestIn(t, c.says("manifest", "push", "--purge", list))
	raw := m.Manifest("app", "both").Data
	if rig.Digest(raw) != d {
		t.Errorf("says it pushed %s, the registry has %s", d, rig.Digest(raw))
	}
	var index rig.Contents
	if err := json.Unmarshal(raw, &index); err != nil || len(index.Manifests) != 2 {
		t.Fatalf("%v: %s", err, raw)
	}
	if e := index.Manifests[0]; e.Digest != ours.Digest || e.Platform["architecture"] != here() || e.Platform["os"] != "linux" {
		t.Errorf("first is %+v", e)
	}
	if e := index.Manifests[1]; e.Digest != theirs.Digest || e.Platform["architecture"] != there() || e.Platform["variant"] != "v8" {
		t.Errorf("second is %+v", e)
	}
	if got := crane(t, "digest", list); got != d {
		t.Errorf("crane sees %s", got)
	}
	if got := rig.Digest([]byte(c.Run("manifest", "inspect", "--raw", list))); got != d {
		t.Errorf("manifest inspect --raw gives %s, want %s", got, d)
	}
	var shown rig.Contents
	if err := json.Unmarshal([]byte(c.Run("manifest", "inspect", list)), &shown); err != nil || len(shown.Manifests) != 2 {
		t.Errorf("manifest inspect: %v, %+v", err, shown)
	}
	c.Run("pull", "-q", "--platform", "linux/"+there(), list)
	if got := c.content(list, "made"); got != "theirs" {
		t.Errorf("for %s it has %q", there(), got)
	}
	// Purged, it can be made anew.
	c.Run("manifest", "create", list, m.name("app:ours"))
}

// TestListAcrossRepositories: its images are copied to the list's repository.
func TestListAcrossRepositories(t *testing.T) {
	m := newMemory(t)
	m.image("one", "1", here(), nil, layer(t, "made", []byte("one")))
	m.image("two", "1", there(), nil, layer(t, "made", []byte("two")))
	c := newClient(t)
	c.Run("manifest", "create", m.name("list:1"), m.name("one:1"), m.name("two:1"))
	c.says("manifest", "push", m.name("list:1"))
	crane(t, "validate", "--remote", m.name("list:1"))
}

func TestRemoteImageIsInspectedWithoutPulling(t *testing.T) {
	m := newMemory(t)
	m.twoPlatforms("app", "1")
	c := newClient(t)
	if got := strings.TrimSpace(c.Run("image", "inspect", "--remote", "-f", "{{.Architecture}}", m.name("app:1"))); got != here() {
		t.Errorf("it is for %s", got)
	}
	remote := c.Run("image", "inspect", "--remote", "--platform", "linux/"+there(), "-f", "{{.Architecture}} {{.Id}} {{json .RootFS}}", m.name("app:1"))
	for _, r := range m.SeenBy("GET", rig.Blob) {
		if data := m.Blob("app", r.Ref); !json.Valid(data) {
			t.Errorf("a layer is fetched: %+v", r)
		}
	}
	if got := c.images(); got != "" {
		t.Errorf("the store has %s", got)
	}
	c.Run("pull", "-q", "--platform", "linux/"+there(), m.name("app:1"))
	if got := c.Run("image", "inspect", "-f", "{{.Architecture}} {{.Id}} {{json .RootFS}}", m.name("app:1")); got != remote {
		t.Errorf("remote it is %s, pulled %s", remote, got)
	}
	c.refuses(`not found|[Nn]o such`, "image", "inspect", "--remote", m.name("app:2"))
}
