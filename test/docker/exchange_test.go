//go:build e2e

package docker

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

const exchanged = `FROM base
LABEL made=here
WORKDIR /srv
COPY hello .
RUN echo built > /srv/out && rm /usr/share/doc/COPYRIGHT && mkdir -p /srv/sub && ln -s ../out /srv/sub/link
ENV GREETING=hi
CMD ["sh", "-c", "echo $GREETING; cat /srv/sub/link; id -u; ls /usr/share/doc"]
`

const exchangedOutput = "hi\nbuilt\n0\nREADME\n"

// buildContext is a directory with the Dockerfile above.
func buildContext(t *testing.T) string {
	t.Helper()
	dir := rig.TempDir(t)
	for name, text := range map[string]string{"Dockerfile": exchanged, "hello": "hello"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// built is mica with the image app:v1 on the small base.
func built(t *testing.T) *pair {
	t.Helper()
	p := newPair(t)
	rig.ImportBusybox(t, p.mica, "base")
	p.mica.Run("build", "-q", "-t", "app:v1", buildContext(t))
	return p
}

func (p *pair) id(ref string) string {
	p.t.Helper()
	return strings.TrimSpace(p.mica.Run("inspect", "-f", "{{.Id}}", ref))
}

func TestDockerLoadsWhatMicaSaves(t *testing.T) {
	sameIDs(t)
	p := built(t)
	file := filepath.Join(rig.TempDir(t), "app.tar")
	p.mica.Run("save", "-o", file, "app:v1", "base")
	p.mica.Run("build", "-q", "-o", "type=docker,name=exported:v2,dest="+file+".2", buildContext(t))
	for _, f := range []string{file, file + ".2"} {
		engine.Run(t, "load", "-q", "-i", f)
	}
	for _, ref := range []string{"app:v1", "exported:v2"} {
		if id := strings.TrimSpace(engine.Run(t, "inspect", "-f", "{{.Id}}", ref)); id != p.id("app:v1") {
			t.Errorf("docker has %s as %s, mica as %s", ref, id, p.id("app:v1"))
		}
	}
	if got := engine.Run(t, "run", "--rm", "--network", "host", "app:v1"); got != exchangedOutput {
		t.Errorf("docker runs it to %q", got)
	}
	p.mica.Run("tag", "app:v1", "exported:v2")
	p.same("history", "-q", "--no-trunc", "app:v1")
	p.same("images", "--digests", "--no-trunc", "--format", "{{.ID}} {{.Repository}} {{.Tag}} {{.Size}} {{.CreatedAt}}", "app")
	p.inspectWhole("app:v1")
}

func TestMicaLoadsWhatDockerSaves(t *testing.T) {
	sameIDs(t)
	p := newPair(t)
	tar, err := rig.BusyboxTar(rig.TempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	engine.Run(t, "import", "-c", "ENV PATH=/usr/bin:/bin", tar, "base")
	engine.Run(t, "build", "--network", "host", "-q", "-t", "app:v1", "-t", "app:again", buildContext(t))
	file := filepath.Join(rig.TempDir(t), "app.tar")
	engine.Run(t, "save", "-o", file, "app:v1", "app:again", "base")
	want := "Loaded image: app:again\nLoaded image: app:v1\nLoaded image: base:latest\n"
	if got := p.mica.Run("load", "-i", file); sortLines(got) != sortLines(want) {
		t.Errorf("load says %q", got)
	}
	if id := strings.TrimSpace(engine.Run(t, "inspect", "-f", "{{.Id}}", "app:v1")); id != p.id("app:v1") {
		t.Errorf("mica has %s, docker %s", p.id("app:v1"), id)
	}
	if got := p.mica.Run("run", "app:v1"); got != exchangedOutput {
		t.Errorf("mica runs it to %q", got)
	}
	// And back again, into an engine that has forgotten it.
	p.mica.Run("save", "-o", file, "app:v1", "app:again", "base")
	engine.Run(t, "rmi", "-f", "app:v1", "app:again", "base")
	engine.Run(t, "load", "-q", "-i", file)
	p.same("history", "--no-trunc", "--format", "{{.ID}} {{.CreatedBy}} {{.Size}} {{.CreatedAt}} {{.Comment}}", "app:v1")
	p.same("history", "--format", "{{.ID}} {{.CreatedBy}} {{.Size}}", "base")
	p.inspectWhole("app:v1", "base")
	p.same("inspect", "-f", "{{.Id}}", "app:v1")
}

// TestIDsOfDocker: an ID that docker shows names the image in mica, too. In containerd's image store, it is the digest of the manifest.
func TestIDsOfDocker(t *testing.T) {
	p := built(t)
	reg, err := rig.StartRegistry(rig.TempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reg.Stop() }()
	name := reg.Addr + "/team/app:1"
	p.mica.Run("tag", "app:v1", name)
	p.mica.Run("push", name)
	engine.Run(t, "pull", "-q", name)
	s := newSocket(p)
	id, short := strings.TrimSpace(engine.Run(t, "images", "-q", "--no-trunc", name)), strings.TrimSpace(engine.Run(t, "images", "-q", name))
	for _, ref := range []string{id, strings.TrimPrefix(id, "sha256:"), short, id[:20], reg.Addr + "/team/app@" + strings.TrimSpace(engine.Run(t, "inspect", "-f", `{{index (split (index .RepoDigests 0) "@") 1}}`, name))} {
		if got := p.id(ref); got != p.id("app:v1") {
			t.Errorf("%s is %s", ref, got)
		}
		if got := strings.TrimSpace(s.docker.Run(t, "inspect", "-f", "{{.Id}}", ref)); got != p.id("app:v1") {
			t.Errorf("%s is %s on the socket", ref, got)
		}
	}
	if got := p.mica.Run("run", short); got != exchangedOutput {
		t.Errorf("mica runs %s to %q", short, got)
	}
	s.docker.Run(t, "tag", short, "by-id:1")
	p.mica.Run("rmi", "-f", short)
	if got := p.mica.Run("images", "-aq", "--filter", "reference=*app*", "--filter", "reference=by-id"); got != "" {
		t.Errorf("rmi left %s", got)
	}
}

func sortLines(s string) string {
	out, _ := exec.Command("sh", "-c", `printf %s "$1" | sort`, "sh", s).Output()
	return string(out)
}

// TestCompressedAndPiped loads one archive in every way in which archives come.
func TestCompressedAndPiped(t *testing.T) {
	p := built(t)
	id := p.id("app:v1")
	plain := []byte(p.mica.Run("save", "app:v1"))
	for _, how := range []string{"cat", "gzip", "zstd", "bzip2", "xz"} {
		cmd := exec.Command(how, "-c")
		if how == "cat" {
			cmd = exec.Command("cat")
		}
		cmd.Stdin = bytes.NewReader(plain)
		packed, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		m := rig.NewMica(t)
		if got := m.RunIn(bytes.NewReader(packed), "load"); got != "Loaded image: app:v1\n" {
			t.Errorf("%s: load says %q", how, got)
		}
		if got := strings.TrimSpace(m.Run("inspect", "-f", "{{.Id}}", "app:v1")); got != id {
			t.Errorf("%s: image is %s, want %s", how, got, id)
		}
	}
}

func TestSkopeoAndUmoci(t *testing.T) {
	p := built(t)
	id := p.id("app:v1")
	dir := rig.TempDir(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	p.mica.Run("save", "-o", at("docker.tar"), "app:v1")
	p.mica.Run("build", "-q", "-o", "type=oci,name=app:v1,dest="+at("oci.tar"), buildContext(t))
	for _, from := range []string{"docker-archive:" + at("docker.tar"), "oci-archive:" + at("oci.tar")} {
		raw := rig.Must(t, "skopeo", "inspect", "--config", "--raw", from)
		if got := "sha256:" + strings.Fields(rig.Must(t, "sh", "-c", `printf %s "$1" | sha256sum`, "sh", strings.TrimSuffix(raw, "\n")))[0]; got != id {
			t.Errorf("skopeo sees %s in %s, want %s", got, from, id)
		}
	}
	rig.Must(t, "skopeo", "copy", "-q", "oci-archive:"+at("oci.tar"), "oci:"+at("layout")+":v1")
	rig.Must(t, "umoci", "unpack", "--image", at("layout")+":v1", at("bundle"))
	if got := rig.Must(t, "cat", at("bundle/rootfs/srv/sub/link")); got != "built\n" {
		t.Errorf("umoci unpacks %q", got)
	}
	// What skopeo writes, mica reads.
	rig.Must(t, "skopeo", "copy", "-q", "docker-archive:"+at("docker.tar"), "docker-archive:"+at("s-docker.tar")+":back:v1")
	rig.Must(t, "skopeo", "copy", "-q", "oci-archive:"+at("oci.tar"), "oci-archive:"+at("s-oci.tar")+":back:v1")
	for _, name := range []string{"s-docker.tar", "s-oci.tar"} {
		m := rig.NewMica(t)
		out := m.Run("load", "-i", at(name))
		ref := strings.TrimSpace(out[strings.LastIndex(out, ": ")+2:])
		if got := strings.TrimSpace(m.Run("inspect", "-f", "{{.Id}}", ref)); got != id {
			t.Errorf("%s: mica has %s, want %s", name, got, id)
		}
		if got := m.Run("run", ref); got != exchangedOutput {
			t.Errorf("%s: mica runs it to %q", name, got)
		}
	}
	// umoci changes the image; what it wrote is loaded as well.
	rig.Must(t, "umoci", "config", "--image", at("layout")+":v1", "--config.env", "GREETING=changed")
	rig.Must(t, "tar", "-C", at("layout"), "-cf", at("u.tar"), ".")
	m := rig.NewMica(t)
	out := m.Run("load", "-i", at("u.tar"))
	ref := strings.TrimSpace(out[strings.LastIndex(out, ": ")+2:])
	if got := m.Run("run", ref); got != strings.Replace(exchangedOutput, "hi", "changed", 1) {
		t.Errorf("umoci's image runs to %q", got)
	}
}

// TestExportEqualsDockers compares an image's filesystem with that of a container made from it by Docker.
func TestExportEqualsDockers(t *testing.T) {
	p := built(t)
	file := filepath.Join(rig.TempDir(t), "app.tar")
	p.mica.Run("save", "-o", file, "app:v1")
	engine.Run(t, "load", "-q", "-i", file)
	container := strings.TrimSpace(engine.Run(t, "create", "--network", "host", "app:v1"))
	engine.Run(t, "export", "-o", file, container)
	engine.Run(t, "rm", container)
	list := func(tar string) string {
		return rig.Must(t, "sh", "-c", `tar --full-time --numeric-owner -tvf "$1" | grep -v -e ' dev/' -e ' proc/' -e ' sys/' -e ' etc/$' -e etc/mtab -e .dockerenv -e ' etc/hostname' -e ' etc/hosts' -e ' etc/resolv.conf' | sed -E 's# \./# #; s/(:[0-9]{2})\.[0-9]+ +/\1 /; s/ +/ /g' | sort -k6`, "sh", tar)
	}
	want := list(file)
	p.mica.Run("export", "-o", file, "app:v1")
	got := list(file)
	if got == want {
		return
	}
	for _, l := range strings.Split(got, "\n") {
		if !strings.Contains(want, l+"\n") {
			t.Errorf("not wanted: %s", l)
		}
	}
	for _, l := range strings.Split(want, "\n") {
		if !strings.Contains(got, l+"\n") {
			t.Errorf("missing: %s", l)
		}
	}
}
