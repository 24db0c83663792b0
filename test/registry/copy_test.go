//go:build e2e

package registry

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
	m, other := newMemory(t), newMemory(t)
	index, _, _ := m.twoPlatforms("app", "1")
	c := newClient(t)
	dir := rig.TempDir(t)
	c.copies(index.Digest, m.name("app:1"), "docker://"+other.name("team/app:2"))
	if got := rig.Digest(other.Manifest("team/app", "2").Data); got != index.Digest {
		t.Errorf("the other registry has %s", got)
	}
	c.copies(index.Digest, other.name("team/app:2"), "oci:"+dir+"/layout:v1")
	c.copies(index.Digest, "oci:"+dir+"/layout:v1", "oci-archive:"+dir+"/a.tar:v2")
	c.copies(index.Digest, "oci-archive:"+dir+"/a.tar:v2", other.name("back:1"))
	crane(t, "validate", "--remote", other.name("back:1"))
	c.copies(index.Digest, "oci-archive:"+dir+"/a.tar", "oci:"+dir+"/second")
	c.copies(index.Digest, m.name("app@"+index.Digest), "oci:"+dir+"/layout:v2")
	// The peers read what came of it.
	for _, from := range []string{"oci:" + dir + "/layout:v1", "oci:" + dir + "/layout:v2", "oci-archive:" + dir + "/a.tar:v2"} {
		if got := rig.Digest([]byte(rig.Must(t, "skopeo", "inspect", "--raw", from))); got != index.Digest {
			t.Errorf("skopeo reads %s in %s, want %s", got, from, index.Digest)
		}
	}
	if got := rig.Must(t, "umoci", "ls", "--layout", dir+"/layout"); got != "v1\nv2\n" {
		t.Errorf("umoci lists %q", got)
	}
}

func TestCopyOfOnePlatform(t *testing.T) {
	m := newMemory(t)
	_, ours, theirs := m.twoPlatforms("app", "1")
	c := newClient(t)
	dir := rig.TempDir(t)
	c.copies(theirs.Digest, "--platform", "linux/"+there(), m.name("app:1"), m.name("one:1"))
	if got := rig.Digest(m.Manifest("one", "1").Data); got != theirs.Digest {
		t.Errorf("the registry has %s, want %s", got, theirs.Digest)
	}
	c.refuses(`no matching manifest`, "copy", "--platform", "linux/s390x", m.name("app:1"), m.name("one:2"))

	// Docker's archives have no manifests: the config is what stays.
	fresh := newClient(t)
	fresh.copies("sha256:", "--platform", "linux/"+here(), m.name("app:1"), "docker-archive:"+dir+"/d.tar:there/app:1")
	reader := newClient(t)
	reader.Run("load", "-i", dir+"/d.tar")
	if got := reader.content("there/app:1", "made"); got != here() {
		t.Errorf("it has %q", got)
	}
	reader.Run("pull", "-q", m.name("app@"+ours.Digest))
	if got, want := reader.inspect("there/app:1", "{{.Id}}"), reader.inspect(m.name("app@"+ours.Digest), "{{.Id}}"); got != want {
		t.Errorf("through Docker's archive it became %s, not %s", got, want)
	}
	rig.Must(t, "skopeo", "inspect", "docker-archive:"+dir+"/d.tar")
	fresh.copies("sha256:", "docker-archive:"+dir+"/d.tar:there/app:1", m.name("back:1"))
	crane(t, "validate", "--remote", m.name("back:1"))
}

// TestCopyReadsWhatPeersWrote.
func TestCopyReadsWhatPeersWrote(t *testing.T) {
	m := newMemory(t)
	d := m.image("app", "1", here(), nil, layer(t, "made", noise(100_000)))
	dir := rig.TempDir(t)
	from := "docker://" + m.name("app:1")
	for _, to := range []string{"oci:" + dir + "/l:x", "oci-archive:" + dir + "/l.tar:x", "docker-archive:" + dir + "/d.tar:name/app:x"} {
		rig.Must(t, "skopeo", "copy", "-q", "--src-tls-verify=false", from, to)
	}
	crane(t, "pull", "--format", "oci", m.name("app:1"), dir+"/crane")
	c := newClient(t)
	c.copies(d.Digest, "oci:"+dir+"/l:x", m.name("a:1"))
	c.copies(d.Digest, "oci:"+dir+"/l", m.name("b:1"))
	c.copies(d.Digest, "oci-archive:"+dir+"/l.tar:x", m.name("c:1"))
	c.copies(d.Digest, "oci:"+dir+"/crane", m.name("d:1"))
	c.copies("sha256:", "docker-archive:"+dir+"/d.tar", m.name("e:1"))
	for _, repo := range []string{"a", "b", "c", "d", "e"} {
		// crane validates only what is compressed.
		rig.Must(t, "skopeo", "copy", "-q", "--src-tls-verify=false", "docker://"+m.name(repo+":1"), "oci:"+dir+"/checked:"+repo)
	}
}

func TestCopyMounts(t *testing.T) {
	m := newMemory(t)
	m.image("app", "1", here(), nil, layer(t, "made", noise(100_000)))
	newClient(t).Run("copy", m.name("app:1"), m.name("other:1"))
	for _, r := range m.SeenBy("PATCH", rig.Upload) {
		t.Errorf("bytes are sent that could be mounted: %+v", r)
	}
	if len(m.SeenBy("POST", rig.Upload)) == 0 || m.Manifest("other", "1").Data == nil {
		t.Errorf("nothing is mounted: %v", m.Seen())
	}
	m.Behave()
	newClient(t).Run("copy", m.name("app:1"), m.name("other:1"))
	if got := m.SeenBy("POST", rig.Upload); len(got) != 0 {
		t.Errorf("what is there is sent again: %v", got)
	}
}

// TestCopyFails with one line, and leaves nothing half done.
func TestCopyFails(t *testing.T) {
	m := newMemory(t)
	m.image("app", "1", here(), nil, layer(t, "made", noise(100_000)))
	dir := rig.TempDir(t)
	c := newClient(t)
	m.Misbehave(on("GET", rig.Blob, 1, 0, rig.Flip()))
	for _, to := range []string{"oci:" + dir + "/l:x", "oci-archive:" + dir + "/l.tar:x", "docker-archive:" + dir + "/d.tar:x"} {
		c.refuses(`digest|something else|damaged`, "copy", m.name("app:1"), to)
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
	other := newMemory(t)
	c.refuses(`digest|something else|damaged`, "copy", m.name("app:1"), other.name("app:1"))
	if other.Manifest("app", "1").Data != nil {
		t.Error("there is a tag")
	}
	m.Behave()
	c.refuses(`not found`, "copy", m.name("app:2"), "oci:"+dir+"/x")
	c.refuses(`no such file`, "copy", "oci:"+dir+"/missing", m.name("app:3"))
	c.refuses(`no such file`, "copy", "docker-archive:"+dir+"/missing", m.name("app:3"))
	c.refuses(`v9`, "copy", "oci:"+goodLayout(t, m)+":v9", m.name("app:3"))
}

func goodLayout(t *testing.T, m *memory) string {
	t.Helper()
	dir := filepath.Join(rig.TempDir(t), "l")
	rig.Must(t, "skopeo", "copy", "-q", "--src-tls-verify=false", "docker://"+m.name("app:1"), "oci:"+dir+":v1")
	return dir
}

// TestReferrersAreCopied where they are asked for: by the API of OCI 1.1, and by the tag that was before it.
func TestReferrersAreCopied(t *testing.T) {
	for name, api := range map[string][2]bool{"API to API": {true, true}, "API to tag": {true, false}, "tag to API": {false, true}, "tag to tag": {false, false}} {
		t.Run(name, func(t *testing.T) {
			from, to := newMemory(t), newMemory(t)
			from.Referrers, to.Referrers = api[0], api[1]
			image := from.image("app", "1", here(), nil, layer(t, "made", []byte("signed")))
			signature := from.signature("app", "", &image, "a signature")
			second := from.signature("app", "", &signature, "a signature of the signature")
			for subject, s := range map[string]rig.Descriptor{image.Digest: signature, signature.Digest: second} {
				if !api[0] {
					from.index("app", strings.Replace(subject, ":", "-", 1), s)
				}
			}
			c := newClient(t)
			c.copies(image.Digest, from.name("app:1"), to.name("plain:1"))
			if to.Manifest("plain", signature.Digest).Data != nil {
				t.Error("the signature is copied though nobody asked for it")
			}
			c.copies(image.Digest, "--referrers", from.name("app:1"), to.name("app:1"))
			dir := filepath.Join(rig.TempDir(t), "layout")
			c.copies(image.Digest, "--referrers", from.name("app:1"), "oci:"+dir+":1")
			c.copies(image.Digest, "--referrers", "oci:"+dir+":1", to.name("again:1"))
			for _, repo := range []string{"app", "again"} {
				for what, d := range map[string]rig.Descriptor{"the signature": signature, "the signature of the signature": second} {
					if to.Manifest(repo, d.Digest).Data == nil {
						t.Errorf("%s: %s is not copied", repo, what)
					}
				}
				tag := to.Manifest(repo, strings.Replace(image.Digest, ":", "-", 1)).Data
				if listed := strings.Contains(string(tag), signature.Digest); listed == api[1] {
					t.Errorf("%s: the tag of the referrers is %q", repo, tag)
				}
			}
		})
	}
}

// TestReferrersOfPlatformsAreCopied: what refers to one image of several.
func TestReferrersOfPlatformsAreCopied(t *testing.T) {
	from, to := newMemory(t), newMemory(t)
	index, ours, _ := from.twoPlatforms("app", "1")
	signed := []rig.Descriptor{from.signature("app", "", &index, "of the index"), from.signature("app", "", &ours, "of the image")}
	newClient(t).copies(index.Digest, "--referrers", from.name("app:1"), to.name("app:1"))
	for i, d := range signed {
		if to.Manifest("app", d.Digest).Data == nil {
			t.Errorf("signature %d is not copied", i)
		}
	}
}
