//go:build e2e

package remote

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// twoPlatforms is an index with images for amd64 and arm64, and what BuildKit attests of the first.
func (f *fake) twoPlatforms(t *testing.T, repo, tag string) string {
	t.Helper()
	list := []any{}
	for _, arch := range []string{"amd64", "arm64"} {
		d := f.image(repo, arch, map[string]any{"architecture": arch}, nil, rig.LayerOf(t, map[string][]byte{"arch": []byte(arch + "\n")}))
		d["platform"] = map[string]any{"architecture": arch, "os": "linux"}
		list = append(list, d)
	}
	att := f.manifest(repo, "att", ociManifest, map[string]any{
		"schemaVersion": 2, "mediaType": ociManifest, "config": f.blob(ociConfig, []byte(`{"architecture":"unknown","os":"unknown","rootfs":{"type":"layers","diff_ids":["`+sum([]byte("{}"))+`"]}}`)),
		"layers": []any{f.blob("application/vnd.in-toto+json", []byte("{}"))},
	})
	att["platform"] = map[string]any{"architecture": "unknown", "os": "unknown"}
	att["annotations"] = map[string]any{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": list[0].(map[string]any)["digest"]}
	d := f.manifest(repo, tag, ociIndex, map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": append(list, att)})
	return d["digest"].(string)
}

// TestPlatforms: an index is kept as one. What is asked for is pulled of it, and pushed again under the same digest.
func TestPlatforms(t *testing.T) {
	f := newFake(t)
	d := f.twoPlatforms(t, "app", "1")
	name := f.host() + "/app:1"
	m := rig.NewMica(t)
	if out := m.Run("pull", name); !strings.Contains(out, "Digest: "+d) {
		t.Errorf("pull says %q", out)
	}
	if tree := m.Run("images", "--tree"); !strings.Contains(tree, "linux/arm64") || !strings.Contains(tree, "not pulled") {
		t.Errorf("the tree after a pull for one platform:\n%s", tree)
	}
	if got := m.Run("export", name); !strings.Contains(got, "amd64\n") {
		t.Error("the image is not this host's")
	}
	if out := m.Try(nil, "run", "--pull", "never", "--platform", "linux/arm64", name, "x"); out.Code != 125 || !strings.Contains(out.Stderr, "linux/arm64") {
		t.Errorf("run for a platform that is not there: %d %s", out.Code, out.Stderr)
	}
	m.Run("pull", "-q", "--platform", "linux/arm64", name)
	tree := m.Run("images", "--tree")
	if strings.Contains(tree, "not pulled") {
		t.Errorf("the tree after the second:\n%s", tree)
	}
	if got := strings.Fields(m.Run("images", "-q")); len(got) != 1 {
		t.Errorf("one name of two platforms is listed as %v", got)
	}
	if a, b := m.Run("image", "inspect", "-f", "{{.Architecture}}", name), m.Run("image", "inspect", "--platform", "linux/arm64", "-f", "{{.Architecture}}", name); a != "amd64\n" || b != "arm64\n" {
		t.Errorf("inspect: %q, %q", a, b)
	}
	for _, to := range []string{f.host() + "/copy:1", newFake(t).host() + "/app:1"} {
		all := rig.NewMica(t)
		all.Run("pull", "-q", "--platform", "all", name)
		all.Run("tag", name, to)
		if got := digestOf(t, all.Run("push", to)); got != d {
			t.Errorf("the index is pushed as %s, it was %s", got, d)
		}
	}
	// Where not all of it is there, what is there is pushed, and it is said.
	g := newFake(t)
	one := rig.NewMica(t)
	one.Run("pull", "-q", name)
	one.Run("tag", name, g.host()+"/part:1")
	out := one.Try(nil, "push", g.host()+"/part:1")
	if out.Code != 0 || !strings.Contains(out.Stderr, "Not all of the platforms") {
		t.Errorf("a push of a part: %d %s", out.Code, out.Stderr)
	}
	if got := one.Run("manifest", "inspect", g.host()+"/part:1"); strings.Contains(got, "manifests") {
		t.Errorf("pushed as an index:\n%s", got)
	}
	// With the name goes all that came with it.
	m.Run("rmi", name)
	if left := m.Run("images", "-aq"); left != "" {
		t.Errorf("left: %s", left)
	}
	for _, dir := range []string{"blobs/sha256", "layers", "refs/images", "refs/names"} {
		if list, err := os.ReadDir(m.Root + "/" + dir); err != nil || len(list) != 0 {
			t.Errorf("%s has %d entries, %v", dir, len(list), err)
		}
	}
}

// TestByDigest: an image may be pulled by its digest, is found by it, and lives without a tag.
func TestByDigest(t *testing.T) {
	f := newFake(t)
	d := f.image("app", "1", nil, nil, noise(t, 1000))["digest"].(string)
	m := rig.NewMica(t)
	name := f.host() + "/app@" + d
	m.Run("pull", "-q", name)
	m.Run("inspect", name)
	if got := m.Run("images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}"); got != fmt.Sprintf("%s/app <none> %s\n", f.host(), d) {
		t.Errorf("listed as %q", got)
	}
	if out := m.Run("rmi", name); !strings.HasPrefix(out, "Untagged: "+name+"\nDeleted: sha256:") {
		t.Errorf("rmi says %q", out)
	}
	if out := m.Try(nil, "pull", f.host()+"/app@sha256:"+strings.Repeat("0", 64)); out.Code != 1 || !strings.Contains(out.Stderr, "not found") {
		t.Errorf("a digest that nobody has: %d %s", out.Code, out.Stderr)
	}
}

// TestTagMoves: when the tag moves at the registry, the image that had it stays, by its digest.
func TestTagMoves(t *testing.T) {
	f := newFake(t)
	f.image("app", "1", nil, nil, noise(t, 1000))
	m := rig.NewMica(t)
	name := f.host() + "/app:1"
	m.Run("pull", "-q", name)
	old := m.Run("inspect", "-f", "{{.Id}}", name)
	if out := m.Run("pull", name); !strings.Contains(out, "Status: Image is up to date for "+name) {
		t.Errorf("a second pull says %q", out)
	}
	f.image("app", "1", nil, nil, noise(t, 2000))
	if out := m.Run("pull", name); !strings.Contains(out, "Status: Downloaded newer image for "+name) {
		t.Errorf("a pull of what moved says %q", out)
	}
	if now := m.Run("inspect", "-f", "{{.Id}}", name); now == old {
		t.Error("the name did not move")
	}
	m.Run("inspect", strings.TrimSpace(old))
	if out := m.Run("image", "prune", "-f"); !strings.Contains(out, "deleted: "+strings.TrimSpace(old)) {
		t.Errorf("prune says %q", out)
	}
	m.Run("export", "-o", "/dev/null", name)
}

// TestManifestLists: create, annotate, inspect and push an index of images that were pushed one by one.
func TestManifestLists(t *testing.T) {
	addr := open(t)
	m := built(t, addr+"/app:amd")
	dir := rig.TempDir(t)
	m.Run("push", "-q", addr+"/app:amd")
	rig.Must(t, "sh", "-c", "cd "+dir+" && echo arm >arch && tar -cf layer.tar arch")
	m.Run("import", "--platform", "linux/arm64", dir+"/layer.tar", addr+"/other:arm")
	m.Run("push", "-q", addr+"/other:arm")
	list := addr + "/app:all"
	if out := m.Run("manifest", "create", list, addr+"/app:amd", addr+"/other:arm"); out != "Created manifest list "+list+"\n" {
		t.Errorf("create says %q", out)
	}
	if out := m.Try(nil, "manifest", "create", list, addr+"/app:amd"); out.Code != 1 || !strings.Contains(out.Stderr, "--amend") {
		t.Errorf("create again: %d %s", out.Code, out.Stderr)
	}
	m.Run("manifest", "annotate", "--variant", "v8", list, addr+"/other:arm")
	if got := m.Run("manifest", "inspect", list); !strings.Contains(got, `"variant": "v8"`) {
		t.Errorf("inspect:\n%s", got)
	}
	d := strings.TrimSpace(m.Run("manifest", "push", "--purge", list))
	if got := strings.TrimSpace(rig.Must(t, rig.Binary(t, "peers/crane"), "digest", list)); got != d {
		t.Errorf("crane sees %s, mica pushed %s", got, d)
	}
	if out := m.Try(nil, "manifest", "rm", list); out.Code != 1 {
		t.Errorf("the list is still there after --purge: %d", out.Code)
	}
	arm := rig.NewMica(t)
	arm.Run("pull", "-q", "--platform", "linux/arm64", list)
	if got := arm.Run("export", list); !strings.Contains(got, "arm\n") {
		t.Error("the image for arm64 is another")
	}
	if got := m.Run("image", "inspect", "--remote", "--platform", "linux/arm64/v8", "-f", "{{.Architecture}} {{.RepoDigests}}", list); got != "arm64 ["+addr+"/app@"+d+"]\n" {
		t.Errorf("inspect --remote: %q", got)
	}
}

// TestCopy: between registries, layouts and archives, digests stay; the store is not touched.
func TestCopy(t *testing.T) {
	f, addr, dir := newFake(t), open(t), rig.TempDir(t)
	d := f.twoPlatforms(t, "app", "1")
	from := f.host() + "/app:1"
	m := rig.NewMica(t)
	copied := func(want string, args ...string) {
		t.Helper()
		if got := strings.TrimSpace(m.Run(append([]string{"copy", "-q"}, args...)...)); got != want {
			t.Errorf("copy %v: %s, want %s", args, got, want)
		}
	}
	copied(d, from, addr+"/app:1")
	copied(d, from, "oci:"+dir+"/layout:one")
	copied(d, from, "oci:"+dir+"/layout:two")
	copied(d, "oci:"+dir+"/layout:two", "oci-archive:"+dir+"/a.tar:1")
	copied(d, "oci-archive:"+dir+"/a.tar", addr+"/back:1")
	copied(d, addr+"/app:1", addr+"/moved/app:2")
	one := strings.TrimSpace(m.Run("copy", "-q", "--platform", "linux/amd64", addr+"/back:1", "docker-archive:"+dir+"/d.tar:example/app:7"))
	copied(one, "docker-archive:"+dir+"/d.tar:example/app:7", addr+"/single:1")
	crane := rig.Binary(t, "peers/crane")
	for _, name := range []string{"/app:1", "/back:1", "/moved/app:2", "/single:1"} {
		rig.Must(t, crane, "digest", addr+name)
	}
	if got := rig.Must(t, "skopeo", "inspect", "--raw", "oci:"+dir+"/layout:one"); sum([]byte(got)) != d {
		t.Errorf("skopeo reads another index from the layout: %s", got)
	}
	rig.Must(t, "gzip", dir+"/a.tar")
	copied(d, "oci-archive:"+dir+"/a.tar.gz:1", addr+"/zipped:1")
	// What docker save of old, and skopeo, write.
	rig.Must(t, "skopeo", "copy", "--quiet", "--src-tls-verify=false", "docker://"+addr+"/single:1", "docker-archive:"+dir+"/old.tar:old:1")
	m.Run("copy", "-q", "docker-archive:"+dir+"/old.tar", addr+"/old:1")
	rig.Must(t, "skopeo", "copy", "--quiet", "--src-tls-verify=false", "docker://"+addr+"/old:1", "oci:"+dir+"/checked:1")
	if _, err := os.Stat(m.Root); !os.IsNotExist(err) {
		t.Errorf("copy made a store: %v", err)
	}
	other := rig.NewMica(t)
	other.Run("load", "-q", "-i", dir+"/d.tar")
	if got := other.Run("images", "--format", "{{.Repository}}:{{.Tag}}"); got != "example/app:7\n" {
		t.Errorf("load lists %q", got)
	}
	for args, want := range map[string]string{
		from + " docker-archive:" + dir + "/x.tar":                       "choose one with --platform",
		"oci:" + dir + "/nowhere " + addr + "/x":                         "no such file",
		"oci:" + dir + "/layout:none " + addr + "/x":                     "no image named none",
		"oci:" + dir + "/layout " + addr + "/x:1 --platform linux/s390x": "no matching manifest",
		"docker-archive:/etc/passwd " + addr + "/x":                      "not an image archive",
		from + " oci:/etc":                          "not empty",
		f.host() + "/nothing:1 oci:" + dir + "/new": "not found",
	} {
		if out := m.Try(nil, append([]string{"copy"}, strings.Fields(args)...)...); out.Code != 1 || !strings.Contains(out.Stderr, want) {
			t.Errorf("copy %s: %d %s, want %q", args, out.Code, out.Stderr, want)
		}
	}
	if _, err := os.Stat(dir + "/x.tar"); !os.IsNotExist(err) {
		t.Errorf("a copy that failed left an archive: %v", err)
	}
}

// TestReferrers: what refers to an image travels with it, through registries that list referrers and those that have the
// fallback tag of the specification; and cosign's tags.
func TestReferrers(t *testing.T) {
	for _, api := range []bool{true, false} {
		t.Run(fmt.Sprint("api=", api), func(t *testing.T) {
			f := newFake(t)
			d := f.image("app", "1", nil, nil, noise(t, 1000))
			sig := f.artifact("app", "sig", d)
			f.artifact("app", strings.Replace(d["digest"].(string), ":", "-", 1)+".sig", nil)
			g := newFake(t)
			g.referrers = api
			dir := rig.TempDir(t)
			m := rig.NewMica(t)
			m.Run("copy", "-q", f.host()+"/app:1", g.host()+"/bare:1")
			if g.manifests["bare"][sig["digest"].(string)].data != nil {
				t.Error("referrers are copied without --referrers")
			}
			m.Run("copy", "-q", "--referrers", f.host()+"/app:1", "oci:"+dir+"/layout:1")
			m.Run("copy", "-q", "--referrers", "oci:"+dir+"/layout:1", g.host()+"/app:1")
			if g.manifests["app"][sig["digest"].(string)].data == nil {
				t.Error("the signature did not travel")
			}
			fallback := strings.Replace(d["digest"].(string), ":", "-", 1)
			if _, ok := g.manifests["app"][fallback]; ok == api {
				t.Errorf("fallback tag: %v, referrers API: %v", ok, api)
			}
			// On from there, by whichever way that registry tells.
			h := newFake(t)
			m.Run("copy", "-q", "--referrers", g.host()+"/app:1", h.host()+"/app:1")
			if h.manifests["app"][sig["digest"].(string)].data == nil {
				t.Error("the signature did not travel on")
			}
			m.Run("copy", "-q", "--referrers", f.host()+"/app:1", h.host()+"/cosigned:1")
			if !slices.ContainsFunc(h.seen("PUT"), func(r string) bool { return strings.HasSuffix(r, "/cosigned/manifests/"+fallback+".sig") }) {
				t.Errorf("cosign's tag did not travel: %v", h.seen("PUT"))
			}
		})
	}
}
