//go:build e2e

package registry

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
)

func TestOnePlatformOfSeveralIsPulled(t *testing.T) {
	m := registrytest.New(t)
	index, ours, theirs := m.PutPlatforms("app", "1")
	c := newClient(t)
	c.mustSay(`Digest: `+index.Digest, "pull", m.Name("app:1"))
	if got := c.content(m.Name("app:1"), "made"); got != runtime.GOARCH {
		t.Errorf("without --platform it is for %s", got)
	}
	for _, r := range m.Seen(registrytest.Manifest) {
		if r.Ref == theirs.Digest {
			t.Errorf("the other platform is fetched: %+v", r)
		}
	}
	tree := c.Run("images", "--tree")
	if !strings.Contains(tree, "linux/"+runtime.GOARCH) || !strings.Contains(tree, "linux/"+registrytest.OtherArch()) {
		t.Errorf("images --tree shows\n%s", tree)
	}
	other := newClient(t)
	other.Run("pull", "-q", "--platform", "linux/"+registrytest.OtherArch(), m.Name("app:1"))
	if got := other.content(m.Name("app:1"), "made"); got != registrytest.OtherArch() {
		t.Errorf("--platform linux/%s gives one for %s", registrytest.OtherArch(), got)
	}
	byDigest := newClient(t)
	byDigest.Run("pull", "-q", m.Name("app@"+ours.Digest))
	if got := byDigest.content(m.Name("app@"+ours.Digest), "made"); got != runtime.GOARCH {
		t.Errorf("by the digest of a manifest it is for %s", got)
	}
	c.refuses(`no matching manifest for linux/s390x`, "pull", "--platform", "linux/s390x", m.Name("app:1"))
	c.refuses(`platform`, "pull", "--platform", "what/is/this/thing", m.Name("app:1"))
}

// TestAllPlatformsKeepTheirDigest: what is pulled whole is pushed whole.
func TestAllPlatformsKeepTheirDigest(t *testing.T) {
	m := registrytest.New(t)
	index, _, _ := m.PutPlatforms("app", "1")
	addr := open(t)
	crane(t, "copy", m.Name("app:1"), addr+"/app:1")
	for name, platforms := range map[string]string{"listed": "linux/" + runtime.GOARCH + ",linux/" + registrytest.OtherArch(), "all": "all"} {
		c := newClient(t)
		c.mustSay(`Digest: `+index.Digest, "pull", "--platform", platforms, addr+"/app:1")
		c.Run("tag", addr+"/app:1", addr+"/"+name+":2")
		if got := digestIn(t, c.says("push", addr+"/"+name+":2")); got != index.Digest {
			t.Errorf("%s: pulled %s, pushed %s", name, index.Digest, got)
		}
		crane(t, "validate", "--remote", addr+"/"+name+":2")
		// To a registry that has nothing of it.
		c.Run("tag", addr+"/app:1", m.Name(name+":3"))
		if got := digestIn(t, c.says("push", m.Name(name+":3"))); got != index.Digest {
			t.Errorf("%s: pulled %s, pushed %s to another registry", name, index.Digest, got)
		}
	}
}

func TestManifestListIsMadeAndPushed(t *testing.T) {
	m := registrytest.New(t)
	ours := m.PutImage("app", "ours", runtime.GOARCH, nil, registrytest.Layer(t, "made", []byte("ours")))
	theirs := m.PutImage("app", "theirs", runtime.GOARCH, nil, registrytest.Layer(t, "made", []byte("theirs")))
	c := newClient(t)
	list := m.Name("app:both")
	c.Run("manifest", "create", list, m.Name("app:ours"), m.Name("app:theirs"))
	c.Run("manifest", "annotate", "--arch", registrytest.OtherArch(), "--os", "linux", "--variant", "v8", list, m.Name("app:theirs"))
	c.refuses(`exist|amend`, "manifest", "create", list, m.Name("app:ours"))
	c.refuses(`not|no`, "manifest", "annotate", "--arch", "s390x", list, m.Name("app:other"))
	c.refuses(`not found|unknown`, "manifest", "create", m.Name("app:none"), m.Name("app:missing"))
	if m.Manifest("app", "both").Data != nil {
		t.Error("it is pushed before anybody said so")
	}
	d := digestIn(t, c.says("manifest", "push", "--purge", list))
	raw := m.Manifest("app", "both").Data
	if registrytest.Digest(raw) != d {
		t.Errorf("says it pushed %s, the registry has %s", d, registrytest.Digest(raw))
	}
	var index registrytest.Contents
	if err := json.Unmarshal(raw, &index); err != nil || len(index.Manifests) != 2 {
		t.Fatalf("%v: %s", err, raw)
	}
	if e := index.Manifests[0]; e.Digest != ours.Digest || e.Platform["architecture"] != runtime.GOARCH || e.Platform["os"] != "linux" {
		t.Errorf("first is %+v", e)
	}
	if e := index.Manifests[1]; e.Digest != theirs.Digest || e.Platform["architecture"] != registrytest.OtherArch() || e.Platform["variant"] != "v8" {
		t.Errorf("second is %+v", e)
	}
	if got := crane(t, "digest", list); got != d {
		t.Errorf("crane sees %s", got)
	}
	if got := registrytest.Digest([]byte(c.Run("manifest", "inspect", "--raw", list))); got != d {
		t.Errorf("manifest inspect --raw gives %s, want %s", got, d)
	}
	var shown registrytest.Contents
	if err := json.Unmarshal([]byte(c.Run("manifest", "inspect", list)), &shown); err != nil || len(shown.Manifests) != 2 {
		t.Errorf("manifest inspect: %v, %+v", err, shown)
	}
	c.Run("pull", "-q", "--platform", "linux/"+registrytest.OtherArch(), list)
	if got := c.content(list, "made"); got != "theirs" {
		t.Errorf("for %s it has %q", registrytest.OtherArch(), got)
	}
	// Purged, it can be made anew.
	c.Run("manifest", "create", list, m.Name("app:ours"))
}

func TestRemoteImageIsInspectedWithoutPulling(t *testing.T) {
	m := registrytest.New(t)
	m.PutPlatforms("app", "1")
	c := newClient(t)
	if got := strings.TrimSpace(c.Run("image", "inspect", "--remote", "-f", "{{.Architecture}}", m.Name("app:1"))); got != runtime.GOARCH {
		t.Errorf("it is for %s", got)
	}
	remote := c.Run("image", "inspect", "--remote", "--platform", "linux/"+registrytest.OtherArch(), "-f", "{{.Architecture}} {{.Id}} {{json .RootFS}}", m.Name("app:1"))
	for _, r := range m.SeenBy("GET", registrytest.Blob) {
		if data := m.Blob("app", r.Ref); !json.Valid(data) {
			t.Errorf("a layer is fetched: %+v", r)
		}
	}
	if got := c.images(); got != "" {
		t.Errorf("the store has %s", got)
	}
	c.Run("pull", "-q", "--platform", "linux/"+registrytest.OtherArch(), m.Name("app:1"))
	if got := c.Run("image", "inspect", "-f", "{{.Architecture}} {{.Id}} {{json .RootFS}}", m.Name("app:1")); got != remote {
		t.Errorf("remote it is %s, pulled %s", remote, got)
	}
	c.refuses(`not found|[Nn]o such`, "image", "inspect", "--remote", m.Name("app:2"))
}
