//go:build e2e

package registry

import (
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/test/rig"
)

// What is saved is all that there is of a name, and load takes all of that: the index keeps its digest, and every platform its
// files, by mica's archives and by those of peers.
func TestArchivesKeepPlatforms(t *testing.T) {
	m := registrytest.New(t)
	index, _, theirs := m.PutPlatforms("app", "1")
	name := m.Name("app:1")
	whole, part := newClient(t), newClient(t)
	whole.Run("pull", "-q", "--platform", "all", name)
	part.Run("pull", "-q", name)
	dir := rig.TempDir(t)
	path := func(file string) string { return filepath.Join(dir, file) }
	save := func(c *client, file string, args ...string) string {
		c.Run(append([]string{"save", "-o", path(file)}, append(args, name)...)...)
		return path(file)
	}
	all, ours := save(whole, "all.tar"), save(part, "ours.tar")
	one := save(whole, "one.tar", "--platform", "linux/"+registrytest.OtherArch())
	rig.Must(t, "skopeo", "copy", "--all", "--src-tls-verify=false", "docker://"+name, "oci-archive:"+path("skopeo.tar"))

	c := newClient(t)
	c.mustSay(`Loaded image: `+name, "load", "-i", all)
	if got := c.inspect(name, "{{index .RepoTags 0}}"); got != name {
		t.Errorf("loaded as %q", got)
	}
	for _, platform := range []string{runtime.GOARCH, registrytest.OtherArch()} {
		if got := save(c, "again-"+platform+".tar", "--platform", "linux/"+platform); got == "" {
			t.Error("not saved")
		}
		again := newClient(t)
		again.Run("load", "-q", "-i", path("again-"+platform+".tar"))
		if got := again.content(name, "made"); got != platform {
			t.Errorf("of %s there is the image for %s", platform, got)
		}
	}
	addr := open(t)
	c.Run("tag", name, addr+"/again:1")
	if got := digestIn(t, c.says("push", addr+"/again:1")); got != index.Digest {
		t.Errorf("pulled %s, pushed %s after save and load", index.Digest, got)
	}
	crane(t, "validate", "--remote", addr+"/again:1")

	c = newClient(t)
	c.Run("load", "-q", "-i", ours)
	if got := c.content(name, "made"); got != runtime.GOARCH {
		t.Errorf("of a part there is the image for %s", got)
	}
	c.refuses(`no image for platform linux/`+registrytest.OtherArch(), "save", "-o", path("none.tar"), "--platform", "linux/"+registrytest.OtherArch(), name)

	// An archive without this host's platform is loaded all the same.
	c = newClient(t)
	c.Run("load", "-q", "-i", one)
	if got := c.content(name, "made"); got != registrytest.OtherArch() {
		t.Errorf("of the other platform there is the image for %s", got)
	}
	if got := c.Run("images", "--no-trunc", "--format", "{{.Digest}}", name); strings.TrimSpace(got) == "" || theirs.Digest == "" {
		t.Errorf("listed as %q", got)
	}

	c = newClient(t)
	c.Run("load", "-q", "--platform", "linux/"+registrytest.OtherArch(), "-i", all)
	if got := c.content(name, "made"); got != registrytest.OtherArch() {
		t.Errorf("load --platform linux/%s gives the image for %s", registrytest.OtherArch(), got)
	}
	c.refuses(`platform linux/s390x`, "load", "--platform", "linux/s390x", "-i", all)
	c.refuses(`platform linux/s390x`, "load", "--platform", "linux/s390x", "-i", one)
	c.refuses(`invalid platform`, "load", "--platform", "a/b/c/d", "-i", all)

	c = newClient(t)
	c.Run("load", "-q", "-i", path("skopeo.tar"))
	id := strings.Fields(c.Run("images", "-aq"))
	if len(id) != 2 {
		t.Errorf("skopeo's archive of two platforms has %v", id)
	}
}
