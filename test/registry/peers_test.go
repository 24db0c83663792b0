//go:build e2e

package registry

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/test/rig"
)

// TestPeersAndMicaExchange: what mica pushes, skopeo, crane and umoci read; what they push, mica pulls. Digests stay.
func TestPeersAndMicaExchange(t *testing.T) {
	addr := open(t)
	name := addr + "/app:1"
	c := newClient(t)
	c.build("one", name)
	id := c.inspect(name, "{{.Id}}")
	d := digestIn(t, c.says("push", name))
	if got := strings.TrimSpace(rig.Must(t, "skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", "docker://"+name)); got != d {
		t.Errorf("skopeo sees %s, mica pushed %s", got, d)
	}
	dir := rig.TempDir(t)
	rig.Must(t, "skopeo", "copy", "-q", "--src-tls-verify=false", "docker://"+name, "oci:"+dir+"/layout:1")
	rig.Must(t, "umoci", "unpack", "--image", dir+"/layout:1", dir+"/bundle")
	if data, err := os.ReadFile(filepath.Join(dir, "bundle/rootfs/made")); err != nil || string(data) != "one" {
		t.Errorf("umoci unpacks %q, %v", data, err)
	}
	tree := filepath.Join(dir, "crane.tar")
	crane(t, "export", name, tree)
	if got := rig.Must(t, "tar", "-xOf", tree, "made"); got != "one" {
		t.Errorf("crane exports %q", got)
	}

	crane(t, "copy", name, addr+"/by-crane:1")
	rig.Must(t, "skopeo", "copy", "-q", "--dest-tls-verify=false", "oci:"+dir+"/layout:1", "docker://"+addr+"/by-skopeo:1")
	for _, peer := range []string{"crane", "skopeo"} {
		other := newClient(t)
		other.mustSay(`Digest: `+d, "pull", addr+"/by-"+peer+":1")
		if got := other.inspect(addr+"/by-"+peer+":1", "{{.Id}}"); got != id {
			t.Errorf("by %s it became %s, not %s", peer, got, id)
		}
	}
	// Images of the peers' own making, in Docker's format too.
	rig.Must(t, "umoci", "config", "--image", dir+"/layout:1", "--tag", "changed", "--config.env", "by=umoci")
	rig.Must(t, "skopeo", "copy", "-q", "--dest-tls-verify=false", "oci:"+dir+"/layout:changed", "docker://"+addr+"/by-umoci:1")
	rig.Must(t, "skopeo", "copy", "-q", "-f", "v2s2", "--dest-tls-verify=false", "oci:"+dir+"/layout:1", "docker://"+addr+"/docker-format:1")
	file := filepath.Join(dir, "more.tar")
	if err := os.WriteFile(file, registrytest.Layer(t, "more", []byte("by crane")), 0o600); err != nil {
		t.Fatal(err)
	}
	crane(t, "append", "-b", name, "-f", file, "-t", addr+"/crane-made:1")
	other := newClient(t)
	for _, made := range []string{"by-umoci:1", "docker-format:1", "crane-made:1"} {
		want := crane(t, "digest", addr+"/"+made)
		other.mustSay(`Digest: `+want, "pull", addr+"/"+made)
		if got := other.content(addr+"/"+made, "made"); got != "one" {
			t.Errorf("%s has %q", made, got)
		}
		// And back again, as it was.
		other.Run("tag", addr+"/"+made, addr+"/back/"+made)
		if got := digestIn(t, other.says("push", addr+"/back/"+made)); got != want {
			t.Errorf("%s: pulled %s, pushed %s", made, want, got)
		}
	}
	if got := other.inspect(addr+"/by-umoci:1", "{{json .Config.Env}}"); !strings.Contains(got, "by=umoci") {
		t.Errorf("umoci's image has %s", got)
	}
	if got := other.content(addr+"/crane-made:1", "more"); got != "by crane" {
		t.Errorf("crane's image has %q", got)
	}
}

// TestDockerAndMicaExchange: the engine pulls what mica pushed, mica what the engine pushed, with the same IDs and digests.
func TestDockerAndMicaExchange(t *testing.T) {
	addr := open(t)
	engine, err := rig.StartDocker(rig.TempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Stop(); err != nil {
			t.Error(err)
		}
	})
	name := addr + "/app:1"
	c := newClient(t)
	rig.ImportBusybox(t, c.Mica, "base")
	c.Run("build", "-q", "-t", name, dockerfile(t, "FROM base\nRUN echo built >/built\n"))
	d := digestIn(t, c.says("push", name))
	if got := engine.Run(t, "pull", name); digestIn(t, got) != d {
		t.Errorf("docker pulls %s, mica pushed %s", got, d)
	}
	if got := strings.TrimSpace(engine.Run(t, "inspect", "-f", "{{.Id}}", name)); got != c.inspect(name, "{{.Id}}") {
		t.Errorf("docker has %s", got)
	}
	if got := engine.Run(t, "run", "--rm", "--network", "none", name, "cat", "/built"); got != "built\n" {
		t.Errorf("docker runs it to %q", got)
	}
	// What the engine builds and pushes.
	tar, err := rig.BusyboxTar(rig.TempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	engine.Run(t, "import", "-c", "ENV PATH=/usr/bin:/bin", tar, addr+"/theirs:1")
	pushed := digestIn(t, engine.Run(t, "push", addr+"/theirs:1"))
	other := newClient(t)
	other.mustSay(`Digest: `+pushed, "pull", addr+"/theirs:1")
	if got, want := other.inspect(addr+"/theirs:1", "{{.Id}}"), strings.TrimSpace(engine.Run(t, "inspect", "-f", "{{.Id}}", addr+"/theirs:1")); got != want {
		t.Errorf("mica has %s, docker %s", got, want)
	}
	if got := other.Run("run", "--rm", "--network", "none", addr+"/theirs:1", "cat", "/usr/share/doc/README"); got != "a base\n" {
		t.Errorf("mica runs it to %q", got)
	}
	other.Run("tag", addr+"/theirs:1", addr+"/back:1")
	if got := digestIn(t, other.says("push", addr+"/back:1")); got != pushed {
		t.Errorf("docker pushed %s, mica then %s", pushed, got)
	}
	// The words of both, where nothing depends on the moment.
	if got, want := other.Run("pull", "-q", addr+"/theirs:1"), engine.Run(t, "pull", "-q", addr+"/theirs:1"); got != want {
		t.Errorf("pull -q: %q, docker %q", got, want)
	}
	got, want := other.Run("pull", addr+"/theirs:1"), engine.Run(t, "pull", addr+"/theirs:1")
	for _, line := range strings.Split(strings.TrimSpace(want), "\n") {
		if (strings.HasPrefix(line, "Digest") || strings.HasPrefix(line, "Status")) && !strings.Contains(got, line+"\n") {
			t.Errorf("docker says %q, mica %q", line, got)
		}
	}
}
