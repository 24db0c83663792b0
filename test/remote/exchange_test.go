//go:build e2e

package remote

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// open starts an empty docker-registry that anybody may use.
func open(t *testing.T) string {
	t.Helper()
	r, err := rig.StartRegistry(rig.TempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
	return r.Addr
}

// built is a mica with an image built on busybox.
func built(t *testing.T, names ...string) *rig.Mica {
	t.Helper()
	m := rig.NewMica(t)
	rig.ImportBusybox(t, m, "base")
	dir := rig.TempDir(t)
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM base\nRUN echo built >/built\nCOPY Dockerfile /\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"build", "-q", dir}
	for _, n := range names {
		args = append(args, "-t", n)
	}
	m.Run(args...)
	return m
}

// digestOf takes the digest out of what push says: "1: digest: sha256:… size: 567".
func digestOf(t *testing.T, pushed string) string {
	t.Helper()
	i := strings.Index(pushed, "sha256:")
	if i < 0 || len(pushed) < i+71 {
		t.Fatalf("no digest in %q", pushed)
	}
	return pushed[i : i+71]
}

// TestPeersTakeWhatMicaPushes: skopeo, crane, umoci and Docker get the image, under the same digest, and its files are
// those that mica built; and mica gets what each of them pushes.
func TestPeersTakeWhatMicaPushes(t *testing.T) {
	addr := open(t)
	name := addr + "/team/app:1"
	m := built(t, name)
	id := strings.TrimSpace(m.Run("inspect", "-f", "{{.Id}}", name))
	d := digestOf(t, m.Run("push", name))
	crane := rig.Binary(t, "peers/crane")

	if got := strings.TrimSpace(rig.Must(t, crane, "digest", name)); got != d {
		t.Errorf("crane sees %s, mica pushed %s", got, d)
	}
	rig.Must(t, crane, "validate", "--remote", name)
	if got := rig.Must(t, "skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", "docker://"+name); strings.TrimSpace(got) != d {
		t.Errorf("skopeo sees %s", got)
	}

	dir := rig.TempDir(t)
	rig.Must(t, "skopeo", "copy", "--quiet", "--src-tls-verify=false", "docker://"+name, "oci:"+dir+"/lay:1")
	rig.Must(t, "umoci", "unpack", "--image", dir+"/lay:1", dir+"/bundle")
	if data, err := os.ReadFile(dir + "/bundle/rootfs/built"); err != nil || string(data) != "built\n" {
		t.Errorf("umoci unpacks %q, %v", data, err)
	}

	for peer, push := range map[string]func(to string) *exec.Cmd{
		"skopeo": func(to string) *exec.Cmd {
			return exec.Command("skopeo", "copy", "--quiet", "--dest-tls-verify=false", "oci:"+dir+"/lay:1", "docker://"+to)
		},
		"crane": func(to string) *exec.Cmd { return exec.Command(crane, "copy", name, to) },
	} {
		to := addr + "/" + peer + ":1"
		if out := rig.Run(t, push(to)); out.Code != 0 {
			t.Fatalf("%s: %s", peer, out.Stderr)
		}
		other := rig.NewMica(t)
		if out := other.Run("pull", to); !strings.Contains(out, "Digest: "+d) {
			t.Errorf("mica pulls from %s: %s", peer, out)
		}
		if got := strings.TrimSpace(other.Run("inspect", "-f", "{{.Id}}", to)); got != id {
			t.Errorf("by %s the image became %s, not %s", peer, got, id)
		}
	}
}

// TestDockerExchange: the Docker Engine runs what mica pushed, and mica what it pushed, with the same ID.
func TestDockerExchange(t *testing.T) {
	addr := open(t)
	name := addr + "/app:1"
	m := built(t, name)
	m.Run("push", "-q", name)
	d, err := rig.StartDocker(rig.TempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	})
	d.Run(t, "pull", "-q", name)
	if got, want := d.Run(t, "inspect", "-f", "{{.Id}}", name), m.Run("inspect", "-f", "{{.Id}}", name); got != want {
		t.Errorf("in Docker the image is %s, here %s", got, want)
	}
	if got := d.Run(t, "run", "--rm", "--network", "none", name, "cat", "/built"); got != "built\n" {
		t.Errorf("Docker runs it to %q", got)
	}
	// Docker's own words: of listing what was pulled, and of pulling again.
	compare := func(args ...string) {
		t.Helper()
		if got, want := m.Run(args...), d.Run(t, args...); got != want {
			t.Errorf("%v: %q, Docker says %q", args, got, want)
		}
	}
	m.Run("rmi", name)
	m.Run("pull", "-q", name)
	compare("images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}", addr+"/app")
	compare("inspect", "-f", "{{.RepoDigests}}", name)
	compare("pull", "-q", name)
	d.Run(t, "tag", name, addr+"/back:1")
	d.Run(t, "push", addr+"/back:1")
	other := rig.NewMica(t)
	if got := other.Run("run", "-q", "--network", "none", addr+"/back:1", "cat", "/built"); got != "built\n" {
		t.Errorf("mica runs what Docker pushed to %q", got)
	}
}

// TestPushAfterPull: what was pulled is pushed as it was, and nothing is sent that the registry has.
func TestPushAfterPull(t *testing.T) {
	f := newFake(t)
	d := f.image("app", "1", nil, nil, noise(t, 100_000), rig.LayerOf(t, map[string][]byte{"f": []byte("x")}))
	m := rig.NewMica(t)
	m.Run("pull", "-q", f.host()+"/app:1")
	f.forget()
	if got := digestOf(t, m.Run("push", f.host()+"/app:1")); got != d["digest"] {
		t.Errorf("pushed as %s, pulled as %s", got, d["digest"])
	}
	if sent := append(f.seen("POST"), append(f.seen("PUT"), f.seen("PATCH")...)...); len(sent) != 0 {
		t.Errorf("sent: %v", sent)
	}
	m.Run("tag", f.host()+"/app:1", f.host()+"/other:2")
	if got := digestOf(t, m.Run("push", f.host()+"/other:2")); got != d["digest"] {
		t.Errorf("pushed as %s, pulled as %s", got, d["digest"])
	}
	if f.seen("PATCH") != nil || len(f.seen("PUT")) > 2 {
		t.Errorf("layers were sent, not mounted: %v", f.requests)
	}
	// To another registry, everything; under the same digest.
	g := newFake(t)
	m.Run("tag", f.host()+"/app:1", g.host()+"/app:1")
	if got := digestOf(t, m.Run("push", g.host()+"/app:1")); got != d["digest"] {
		t.Errorf("pushed elsewhere as %s, pulled as %s", got, d["digest"])
	}
}

// TestSecondPushSendsNothing: layers that mica compressed are known by their digests afterwards.
func TestSecondPushSendsNothing(t *testing.T) {
	f := newFake(t)
	m := built(t, f.host()+"/app:1")
	first := digestOf(t, m.Run("push", f.host()+"/app:1"))
	f.forget()
	out := m.Try(nil, "push", f.host()+"/app:1")
	if digestOf(t, out.Stdout) != first || !strings.Contains(out.Stderr, "Layer already exists") {
		t.Errorf("the second push: %s%s", out.Stdout, out.Stderr)
	}
	if len(f.seen("P")) != 0 {
		t.Errorf("sent: %v", f.seen("P"))
	}
}

// TestMountsAcrossRepositories: what one repository of a registry has is not sent to another.
func TestMountsAcrossRepositories(t *testing.T) {
	addr := open(t)
	m := built(t, addr+"/app:1", addr+"/again:1")
	m.Run("push", "-q", addr+"/app:1")
	if out := m.Try(nil, "push", addr+"/again:1"); strings.Count(out.Stderr, "Mounted from app") != 3 {
		t.Errorf("a push to another repository: %s", out.Stderr)
	}
}

// TestCompressions: gzip, zstd and none, each of which the peers read.
func TestCompressions(t *testing.T) {
	addr := open(t)
	m := built(t, addr+"/app:1")
	for flag, want := range map[string]string{"gzip": "tar+gzip", "zstd": "tar+zstd", "none": "tar"} {
		name := addr + "/" + flag + ":1"
		m.Run("tag", addr+"/app:1", name)
		m.Run("push", "-q", "--compression", flag, name)
		var manifest struct{ Layers []struct{ MediaType string } }
		if err := json.Unmarshal([]byte(m.Run("manifest", "inspect", name)), &manifest); err != nil {
			t.Fatal(err)
		}
		for _, l := range manifest.Layers {
			if l.MediaType != "application/vnd.oci.image.layer.v1."+want {
				t.Errorf("--compression %s: %s", flag, l.MediaType)
			}
		}
		other := rig.NewMica(t)
		if got := other.Run("run", "-q", "--network", "none", name, "cat", "/built"); got != "built\n" {
			t.Errorf("--compression %s: runs to %q", flag, got)
		}
		if a, b := digestOf(t, other.Run("inspect", "-f", "{{.RepoDigests}}", name)), digestOf(t, other.Run("push", name)); a != b {
			t.Errorf("--compression %s: pulled as %s, pushed again as %s", flag, a, b)
		}
		if flag != "gzip" {
			continue
		}
		// What was pulled with one compression is pushed with another only by force.
		other.Run("tag", name, addr+"/forced:1")
		same := digestOf(t, other.Run("push", "--compression", "zstd", addr+"/forced:1"))
		forced := digestOf(t, other.Run("push", "--compression", "zstd", "--force-compression", addr+"/forced:1"))
		if same == forced {
			t.Errorf("--force-compression changes nothing: %s", forced)
		}
	}
	for _, bad := range [][]string{{"--compression", "rar"}, {"--compression-level", "12"}, {"--compression", "zstd", "--compression-level", "99"}} {
		if out := m.Try(nil, append([]string{"push"}, append(bad, addr+"/app:1")...)...); out.Code != 1 || !strings.Contains(out.Stderr, "compression") {
			t.Errorf("push %v: %d %s", bad, out.Code, out.Stderr)
		}
	}
}

// TestListing: tags, repositories, and all tags at once.
func TestListing(t *testing.T) {
	addr := open(t)
	m := built(t, addr+"/app:1", addr+"/app:2", addr+"/team/other:x")
	m.Run("push", "-q", "-a", addr+"/app")
	m.Run("push", "-q", addr+"/team/other:x")
	tags := strings.Fields(m.Run("tags", addr+"/app"))
	slices.Sort(tags)
	if fmt.Sprint(tags) != "[1 2]" {
		t.Errorf("tags: %v", tags)
	}
	if got := m.Run("catalog", addr); got != "app\nteam/other\n" {
		t.Errorf("catalog: %q", got)
	}
	other := rig.NewMica(t)
	other.Run("pull", "-q", "-a", addr+"/app")
	if got := strings.Fields(other.Run("images", "--format", "{{.Tag}}", addr+"/app")); len(got) != 2 {
		t.Errorf("pull -a: %v", got)
	}
	if out := m.Try(nil, "tags", addr+"/nothing"); out.Code != 1 || !strings.Contains(out.Stderr, "not found") {
		t.Errorf("tags of nothing: %d %s", out.Code, out.Stderr)
	}
}

// TestBuildFromRegistry: FROM pulls what is missing, --pull looks again, --push sends the result.
func TestBuildFromRegistry(t *testing.T) {
	addr := open(t)
	m := built(t, addr+"/base:1")
	m.Run("push", "-q", addr+"/base:1")
	dir := rig.TempDir(t)
	if err := os.WriteFile(dir+"/Dockerfile", []byte("FROM "+addr+"/base:1\nRUN cp /built /copy\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	other := rig.NewMica(t)
	other.Run("build", "-q", "-t", addr+"/app:1", "--push", dir)
	third := rig.NewMica(t)
	if got := third.Run("run", "-q", "--network", "none", addr+"/app:1", "cat", "/copy"); got != "built\n" {
		t.Errorf("what was pushed runs to %q", got)
	}
	// The base moves: without --pull the build does not see it, with --pull it does.
	before := other.Run("build", "-q", dir)
	move := rig.TempDir(t)
	if err := os.WriteFile(move+"/Dockerfile", []byte("FROM "+addr+"/base:1\nRUN echo moved >/built\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	m.Run("build", "-q", "-t", addr+"/base:1", "--push", move)
	if again := other.Run("build", "-q", dir); again != before {
		t.Errorf("without --pull the image became %s", again)
	}
	if moved := other.Run("build", "-q", "--pull", dir); moved == before {
		t.Error("--pull does not see that the base moved")
	}
	if out := other.Try(nil, "build", "--push", dir); out.Code != 1 || !strings.Contains(out.Stderr, "tag is needed when pushing") {
		t.Errorf("--push without a name: %d %s", out.Code, out.Stderr)
	}
}
