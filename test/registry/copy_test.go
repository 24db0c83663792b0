//go:build e2e

package registry

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/test/rig"
)

// copies copies, which makes no store, and expects the digest.
func (c *client) copies(digest string, args ...string) {
	c.t.Helper()
	got := c.Run(append([]string{"copy"}, args...)...)
	if !strings.Contains(got, digest) {
		c.t.Errorf("copy %v says %q, want %s", args, got, digest)
	}
	if _, err := os.Stat(c.Root); !os.IsNotExist(err) {
		c.t.Errorf("copy %v made a store", args)
	}
}

// TestCopyKeepsEveryByte from place to place to place.
func TestCopyKeepsEveryByte(t *testing.T) {
	m, other := registrytest.New(t), registrytest.New(t)
	index, _, _ := m.PutPlatforms("app", "1")
	c := newClient(t)
	dir := rig.TempDir(t)
	c.copies(index.Digest, m.Name("app:1"), "docker://"+other.Name("team/app:2"))
	if got := registrytest.Digest(other.Manifest("team/app", "2").Data); got != index.Digest {
		t.Errorf("the other registry has %s", got)
	}
	c.copies(index.Digest, other.Name("team/app:2"), "oci:"+dir+"/layout:v1")
	c.copies(index.Digest, "oci:"+dir+"/layout:v1", "oci-archive:"+dir+"/a.tar:v2")
	c.copies(index.Digest, "oci-archive:"+dir+"/a.tar:v2", other.Name("back:1"))
	crane(t, "validate", "--remote", other.Name("back:1"))
	c.copies(index.Digest, "oci-archive:"+dir+"/a.tar", "oci:"+dir+"/second")
	c.copies(index.Digest, m.Name("app@"+index.Digest), "oci:"+dir+"/layout:v2")
	// The peers read what came of it.
	for _, from := range []string{"oci:" + dir + "/layout:v1", "oci:" + dir + "/layout:v2", "oci-archive:" + dir + "/a.tar:v2"} {
		if got := registrytest.Digest([]byte(rig.Must(t, "skopeo", "inspect", "--raw", from))); got != index.Digest {
			t.Errorf("skopeo reads %s in %s, want %s", got, from, index.Digest)
		}
	}
	if got := rig.Must(t, "umoci", "ls", "--layout", dir+"/layout"); got != "v1\nv2\n" {
		t.Errorf("umoci lists %q", got)
	}
}

func TestCopyOfOnePlatform(t *testing.T) {
	m := registrytest.New(t)
	_, ours, theirs := m.PutPlatforms("app", "1")
	c := newClient(t)
	dir := rig.TempDir(t)
	c.copies(theirs.Digest, "--platform", "linux/"+registrytest.OtherArch(), m.Name("app:1"), m.Name("one:1"))
	if got := registrytest.Digest(m.Manifest("one", "1").Data); got != theirs.Digest {
		t.Errorf("the registry has %s, want %s", got, theirs.Digest)
	}
	c.refuses(`no matching manifest`, "copy", "--platform", "linux/s390x", m.Name("app:1"), m.Name("one:2"))

	// Docker's archives have no manifests: the config is what stays.
	fresh := newClient(t)
	fresh.copies("sha256:", "--platform", "linux/"+runtime.GOARCH, m.Name("app:1"), "docker-archive:"+dir+"/d.tar:there/app:1")
	reader := newClient(t)
	reader.Run("load", "-i", dir+"/d.tar")
	if got := reader.content("there/app:1", "made"); got != runtime.GOARCH {
		t.Errorf("it has %q", got)
	}
	reader.Run("pull", "-q", m.Name("app@"+ours.Digest))
	if got, want := reader.inspect("there/app:1", "{{.Id}}"), reader.inspect(m.Name("app@"+ours.Digest), "{{.Id}}"); got != want {
		t.Errorf("through Docker's archive it became %s, not %s", got, want)
	}
	rig.Must(t, "skopeo", "inspect", "docker-archive:"+dir+"/d.tar")
	fresh.copies("sha256:", "docker-archive:"+dir+"/d.tar:there/app:1", m.Name("back:1"))
	crane(t, "validate", "--remote", m.Name("back:1"))
}

// TestCopyReadsWhatPeersWrote.
func TestCopyReadsWhatPeersWrote(t *testing.T) {
	m := registrytest.New(t)
	d := m.PutImage("app", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", registrytest.Noise(100_000)))
	dir := rig.TempDir(t)
	from := "docker://" + m.Name("app:1")
	for _, to := range []string{"oci:" + dir + "/l:x", "oci-archive:" + dir + "/l.tar:x", "docker-archive:" + dir + "/d.tar:name/app:x"} {
		rig.Must(t, "skopeo", "copy", "-q", "--src-tls-verify=false", from, to)
	}
	crane(t, "pull", "--format", "oci", m.Name("app:1"), dir+"/crane")
	c := newClient(t)
	c.copies(d.Digest, "oci:"+dir+"/l:x", m.Name("a:1"))
	c.copies(d.Digest, "oci:"+dir+"/l", m.Name("b:1"))
	c.copies(d.Digest, "oci-archive:"+dir+"/l.tar:x", m.Name("c:1"))
	c.copies(d.Digest, "oci:"+dir+"/crane", m.Name("d:1"))
	c.copies("sha256:", "docker-archive:"+dir+"/d.tar", m.Name("e:1"))
	for _, repo := range []string{"a", "b", "c", "d", "e"} {
		// crane validates only what is compressed.
		rig.Must(t, "skopeo", "copy", "-q", "--src-tls-verify=false", "docker://"+m.Name(repo+":1"), "oci:"+dir+"/checked:"+repo)
	}
}

// TestCopyFails with one line, and leaves nothing half done.
func TestCopyFails(t *testing.T) {
	m := registrytest.New(t)
	m.PutImage("app", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", registrytest.Noise(100_000)))
	dir := rig.TempDir(t)
	c := newClient(t)
	m.Misbehave(registrytest.On("GET", registrytest.Blob, 1, 0, registrytest.Flip()))
	for _, to := range []string{"oci:" + dir + "/l:x", "oci-archive:" + dir + "/l.tar:x", "docker-archive:" + dir + "/d.tar:x"} {
		c.refuses(`digest|something else|damaged`, "copy", m.Name("app:1"), to)
	}
	for _, path := range []string{"l.tar", "d.tar"} {
		if _, err := os.Stat(filepath.Join(dir, path)); !os.IsNotExist(err) {
			t.Errorf("%s is left half done", path)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return e.Name() != "l" }) {
		t.Errorf("left are %v, %v", left, err)
	}
	other := registrytest.New(t)
	c.refuses(`digest|something else|damaged`, "copy", m.Name("app:1"), other.Name("app:1"))
	if other.Manifest("app", "1").Data != nil {
		t.Error("there is a tag")
	}
	m.Behave()
	c.refuses(`not found`, "copy", m.Name("app:2"), "oci:"+dir+"/x")
	c.refuses(`no such file`, "copy", "oci:"+dir+"/missing", m.Name("app:3"))
	c.refuses(`no such file`, "copy", "docker-archive:"+dir+"/missing", m.Name("app:3"))
	c.refuses(`v9`, "copy", "oci:"+goodLayout(t, m)+":v9", m.Name("app:3"))
}

func goodLayout(t *testing.T, m *registrytest.Server) string {
	t.Helper()
	dir := filepath.Join(rig.TempDir(t), "l")
	rig.Must(t, "skopeo", "copy", "-q", "--src-tls-verify=false", "docker://"+m.Name("app:1"), "oci:"+dir+":v1")
	return dir
}
