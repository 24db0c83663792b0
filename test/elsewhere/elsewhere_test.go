//go:build e2e

// Package elsewhere proves that steps run at another mica give what they give here (mica build --on).
package elsewhere

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/micabuild/mica/test/rig"
)

// side is a server with a store of its own, and a registry that it and its clients reach.
type side struct {
	*rig.Mica
	address  string
	registry *rig.Registry
	dir      string // of the registry
	base     string // the name of the base image
}

func newSide(t *testing.T) *side {
	t.Helper()
	dir := rig.TempDir(t)
	reg, err := rig.StartRegistry(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Stop() })
	m, base := rig.NewMica(t), reg.Addr+"/base:1"
	rig.ImportBusybox(t, m, base)
	m.Run("push", "-q", base)
	return &side{m, rig.Serve(t, m, dir), reg, dir, base}
}

// on is the value of --on.
func (s *side) on() string { return s.address + ",repo=" + s.registry.Addr + "/steps" }

// client is a mica with the base image and nothing else.
func (s *side) client(t *testing.T) *rig.Mica {
	t.Helper()
	m := rig.NewMica(t)
	m.Run("pull", "-q", s.base)
	m.Run("tag", s.base, "base")
	return m
}

// context writes the files of a build.
func context(t *testing.T, files string) string {
	t.Helper()
	dir := rig.TempDir(t)
	for _, f := range txtar.Parse([]byte(files)).Files {
		name := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const everything = `
-- Dockerfile --
FROM base AS made
WORKDIR /work
COPY a.txt dir ./
ARG V=1
RUN test -f a.txt && rm a.txt && ln -s /etc/passwd link && mkdir -m 1777 tmp && echo $V >v && chown 7:8 v && chmod 4711 v && mkfifo fifo && ln v w
RUN --mount=type=bind,source=dir,target=/dir --mount=type=bind,from=base,target=/from cp /dir/b bound && ls /from/bin/sh >listed && ! touch /dir/x
RUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/t echo x >/cache/x && echo y >/t/y && rm -r tmp
RUN --mount=type=secret,id=s,required=true --mount=type=secret,id=s,env=S test "$(cat /run/secrets/s)" = "$(printf %s "$S")" && printf %s "$S" | wc -c >length
RUN --network=none id >id && hostname >/dev/null
USER 1000:1000
RUN id -u >/tmp/me || true
USER 0
RUN true

FROM scratch
COPY --from=made /work /
COPY --from=made /bin/sh /bin/sh
RUN ["/bin/sh", "-c", "echo last >/last"]
-- a.txt --
a
-- dir/b --
b
-- secret --
swordfish-and-more
`

// archive is the image that a build of a context makes, as its digests.
func archive(t *testing.T, m *rig.Mica, dir string, args ...string) string {
	t.Helper()
	out := filepath.Join(rig.TempDir(t), "layout")
	m.Env = append(m.Env, "SOURCE_DATE_EPOCH=1700000000")
	m.Run(append([]string{
		"build", "--secret", "id=s,src=" + filepath.Join(dir, "secret"), "-o", "type=oci,tar=false,rewrite-timestamp=true,compression=gzip,force-compression=true,dest=" + out,
	}, append(args, dir)...)...)
	var index struct{ Manifests []struct{ Digest string } }
	raw, err := os.ReadFile(filepath.Join(out, "index.json"))
	if err == nil {
		err = json.Unmarshal(raw, &index)
	}
	if err != nil || len(index.Manifests) != 1 {
		t.Fatalf("%v %s", err, raw)
	}
	return index.Manifests[0].Digest
}

// TestRootSameImage: the image is that of a build on this host, byte for byte, and no secret is left anywhere.
func TestRootSameImage(t *testing.T) {
	s, dir := newSide(t), context(t, everything)
	here := archive(t, s.client(t), dir)
	if there := archive(t, s.client(t), dir, "--on", s.on()); there != here {
		t.Errorf("elsewhere %s is built, here %s", there, here)
	}
	for _, where := range []string{s.Root, s.dir} {
		out := rig.Run(t, exec.Command("grep", "-rlaF", "swordfish-and-more", where))
		if out.Code != 1 {
			t.Errorf("the secret is in %s", out.Stdout)
		}
	}
}

// TestRootNoRequestIfCached: what a cache has runs nowhere, and nothing connects.
func TestRootNoRequestIfCached(t *testing.T) {
	s, dir := newSide(t), context(t, everything)
	cache := "type=registry,mode=steps,ref=" + s.registry.Addr + "/cache"
	with := func(on string) []string { return []string{"--on", on, "--cache-from", cache, "--cache-to", cache} }
	built := archive(t, s.client(t), dir, with(s.address)...)
	if again := archive(t, s.client(t), dir, with("unix:///nowhere.sock")...); again != built {
		t.Errorf("from the cache %s is built, before %s", again, built)
	}
}

// TestRootFailures: errors say what has failed, and where.
func TestRootFailures(t *testing.T) {
	s := newSide(t)
	m := s.client(t)
	for name, c := range map[string]struct {
		on, text string
		code     int
		want     []string
		not      string
	}{
		"exit code":     {s.on(), "RUN echo before; exit 7", 1, []string{"before", "exit code: 7", "Dockerfile:2"}, "on-error"},
		"not found":     {s.on(), `RUN ["/no/such"]`, 1, []string{"/no/such", "exit code: 127"}, "on-error"},
		"no server":     {"unix:///nowhere.sock,repo=" + s.registry.Addr + "/steps", "RUN true", 1, []string{"dial unix /nowhere.sock", "mica serve --addr"}, "Unavailable"},
		"no repository": {s.address, "RUN true", 1, []string{"needs a repository", "repo=REGISTRY/NAME"}, ""},
		"tagged":        {s.on() + ":tag", "RUN true", 1, []string{"without a tag"}, ""},
		"no registry":   {s.address + ",repo=127.0.0.1:1/steps", "RUN true", 1, []string{"127.0.0.1:1"}, "on-error"},
		"unknown key":   {s.on() + ",what=1", "RUN true", 1, []string{`unknown key "what"`}, ""},
		"entitlement":   {s.on(), "RUN --security=insecure true", 1, []string{"security.insecure"}, ""},
	} {
		dir := context(t, "-- Dockerfile --\nFROM base\n"+c.text+"\n")
		out := m.Try(nil, "build", "--progress", "plain", "--on", c.on, dir)
		if out.Code != c.code {
			t.Errorf("%s: exit code %d\n%s", name, out.Code, out.Stderr)
		}
		for _, w := range c.want {
			if !strings.Contains(out.Stderr, w) {
				t.Errorf("%s: no %q in\n%s", name, w, out.Stderr)
			}
		}
		if c.not != "" && strings.Contains(out.Stderr, c.not) {
			t.Errorf("%s: %q in\n%s", name, c.not, out.Stderr)
		}
	}
}

// TestRootBake: targets share the connection, and one uses the result of another.
func TestRootBake(t *testing.T) {
	s := newSide(t)
	m := s.client(t)
	dir := context(t, `
-- docker-bake.json --
{"group": {"default": {"targets": ["app", "lib"]}},
 "target": {"lib": {"dockerfile": "lib.Dockerfile", "tags": ["lib"]}, "app": {"contexts": {"lib": "target:lib"}, "tags": ["app"]}}}
-- lib.Dockerfile --
FROM base
RUN echo lib >/lib.txt
-- Dockerfile --
FROM base
RUN --mount=type=bind,from=lib,target=/l cat /l/lib.txt >/app.txt
`)
	cmd := m.Command("bake", "--on", s.on())
	cmd.Dir = dir
	if out := rig.Run(t, cmd); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	if got := m.Run("run", "--rm", "app", "cat", "/app.txt"); got != "lib\n" {
		t.Errorf("the file holds %q", got)
	}
}

// TestRootCancel: a client that is interrupted ends its step.
func TestRootCancel(t *testing.T) {
	s := newSide(t)
	m := s.client(t)
	dir := context(t, "-- Dockerfile --\nFROM base\nRUN echo begun; exec sleep 98765\n")
	cmd := m.Command("build", "--progress", "plain", "--on", s.on(), dir)
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(shown.String(), "begun\n") {
		n, err := stderr.Read(buf)
		shown.Write(buf[:n])
		if err != nil {
			t.Fatal(err, shown.String())
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	rig.Eventually(t, "the step ends", func() bool { return rig.Run(t, exec.Command("pgrep", "-f", "sleep 98765")).Code == 1 })
}

// TestRootBaseStaysAway: layers of a base image that only the other side reads are not fetched here, where the image is pushed.
func TestRootBaseStaysAway(t *testing.T) {
	s := newSide(t)
	m := rig.NewMica(t)
	dir := context(t, "-- Dockerfile --\nFROM "+s.base+"\nRUN echo made >/made\n")
	m.Run("build", "--on", s.on(), "-t", s.registry.Addr+"/app:1", "--push", dir)
	if has := sizeOf(t, m.Root); has > sizeOf(t, "/bin/busybox")/8 { // compressed, it has about half of its size
		t.Errorf("the client has %d bytes", has)
	}
	if got := s.Run("run", "--rm", s.registry.Addr+"/app:1", "cat", "/made"); got != "made\n" {
		t.Errorf("the file holds %q", got)
	}
}

// sizeOf is what the files of a directory hold.
func sizeOf(t *testing.T, dir string) (sum int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}
