//go:build e2e

// Package docker compares mica's commands with those of the real Docker Engine, on the same images. It needs root, for
// the engine does. What is known to differ is in docs/docker-differences.md, and here in one place: same.
package docker

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/micabuild/mica/test/rig"
)

var engine *rig.Docker

func TestMain(m *testing.M) { os.Exit(serve(m)) }

func serve(m *testing.M) int {
	dir, err := os.MkdirTemp("", "mica-docker-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		engine, err = start(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = engine.Stop() }()
	return m.Run()
}

// pair is mica and Docker with the same images in them.
type pair struct {
	t    *testing.T
	mica *rig.Mica
}

// newPair empties the engine and gives both the images.
func newPair(t *testing.T, images ...rig.Image) *pair {
	t.Helper()
	engine.Run(t, "image", "prune", "-af")
	if left := strings.Fields(engine.Run(t, "images", "-aq")); len(left) > 0 {
		engine.Run(t, append([]string{"rmi", "-f"}, left...)...)
	}
	p := &pair{t, rig.NewMica(t)}
	if len(images) == 0 {
		return p
	}
	path := filepath.Join(rig.TempDir(t), "images.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	rig.WriteArchive(t, f, images...)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	engine.Run(t, "load", "-q", "-i", path)
	p.mica.Run("load", "-q", "-i", path)
	return p
}

// same runs the same command in both and compares stdout, stderr and exit code.
func (p *pair) same(args ...string) string {
	p.t.Helper()
	want, got := engine.Try(p.t, args...), p.mica.Try(nil, today(args)...)
	name := strings.Join(args, " ")
	if want.Code != got.Code {
		p.t.Errorf("%s: exit code %d, want %d\n%s%s", name, got.Code, want.Code, got.Stdout, got.Stderr)
	}
	if w, g := groupByID(fieldsOfToday(want.Stdout)), groupByID(got.Stdout); w != g {
		p.t.Errorf("%s:\n%s\nwant:\n%s", name, g, w)
	}
	if w, g := inWordsOfToday(ownWords(want.Stderr)), strings.TrimSpace(got.Stderr); w != g {
		p.t.Errorf("%s: stderr:\n%s\nwant:\n%s", name, g, w)
	}
	return got.Stdout
}

// sameUpTo is same for what comes before a word that begins a line: what mica frees are bytes on disk, which Docker's sum
// of file sizes is not.
func (p *pair) sameUpTo(word string, args ...string) {
	p.t.Helper()
	want, _, _ := strings.Cut(engine.Run(p.t, args...), "\n"+word)
	got, _, ok := strings.Cut(p.mica.Run(args...), "\n"+word)
	if want != got || !ok {
		p.t.Errorf("%s:\n%s\nwant:\n%s", strings.Join(args, " "), got, want)
	}
}

// ownWords puts mica's name for Docker's, and leaves out that a daemon has spoken.
func ownWords(s string) string {
	s = strings.ReplaceAll(s, "Error response from daemon: ", "Error: ")
	s = strings.ReplaceAll(s, "docker", "mica")
	return strings.TrimSpace(s)
}

var imageID = regexp.MustCompile(`\b[0-9a-f]{12,64}\b`)

// groupByID sorts neighbouring lines that show the same image: Docker lists an image's names in no order. A line that
// shows none goes with the one before.
func groupByID(s string) string {
	var shown, ids []string
	for line := range strings.SplitAfterSeq(s, "\n") {
		if id := imageID.FindString(line); id != "" || len(shown) == 0 {
			shown, ids = append(shown, line), append(ids, id)
		} else {
			shown[len(shown)-1] += line
		}
	}
	for from := 0; from < len(shown); {
		to := from + 1
		for to < len(shown) && ids[to] == ids[from] {
			to++
		}
		slices.Sort(shown[from:to])
		from = to
	}
	return strings.Join(shown, "")
}

// ago is a time that stays as long ago as it is for all of a test.
func ago(d time.Duration) string {
	return time.Now().Add(-d - 10*time.Minute).UTC().Truncate(time.Second).Format(time.RFC3339)
}

const day = 24 * time.Hour

// gallery is a set of images like those of the guide.
func gallery(t *testing.T) []rig.Image {
	base := rig.Layer(t, tar.Header{Name: "bin/", Typeflag: tar.TypeDir}, tar.Header{Name: "bin/sh", Size: 74_800})
	pkg := rig.Layer(t, tar.Header{Name: "usr/"}, tar.Header{Name: "usr/sbin/nginx", Size: 1_170_000})
	conf := rig.Layer(t, tar.Header{Name: "docker-entrypoint.sh", Size: 1620})
	history := func(age time.Duration, more ...map[string]any) []any {
		list := []any{
			map[string]any{"created": ago(age), "created_by": "/bin/sh -c #(nop) ADD file:90b9dd8f12120e8b25fa4a1f8f7b3e8ce05fba8dfb9d7b7e in / "},
			map[string]any{"created": ago(age), "created_by": `/bin/sh -c #(nop)  CMD ["bash"]`, "empty_layer": true},
		}
		for _, m := range more {
			list = append(list, m)
		}
		return list
	}
	step := func(age time.Duration, by string, empty bool) map[string]any {
		m := map[string]any{"created": ago(age), "created_by": by, "comment": "buildkit.dockerfile.v0"}
		if empty {
			m["empty_layer"] = true
		}
		return m
	}
	config := func(env ...string) map[string]any {
		return map[string]any{
			"Env": append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, env...),
			"Cmd": []string{"bash"}, "Labels": map[string]string{"maintainer": "NGINX Docker Maintainers <docker-maint@nginx.com>", "tier": "web"},
		}
	}
	image := func(names []string, age time.Duration, cfg map[string]any, hist []any, layers ...[]byte) rig.Image {
		return rig.Image{Names: names, Layers: layers, Config: map[string]any{
			"architecture": "amd64", "os": "linux", "created": ago(age), "config": cfg, "history": hist,
		}}
	}
	nginx := config("NGINX_VERSION=1.27.2", "PKG_RELEASE=1~bookworm")
	nginx["ExposedPorts"] = map[string]any{"80/tcp": map[string]any{}}
	nginx["Entrypoint"], nginx["Cmd"] = []string{"/docker-entrypoint.sh"}, []string{"nginx", "-g", "daemon off;"}
	nginx["StopSignal"], nginx["WorkingDir"], nginx["User"] = "SIGQUIT", "/srv", "33:33"
	nginx["Volumes"] = map[string]any{"/data": map[string]any{}}
	nginx["Healthcheck"] = map[string]any{"Test": []string{"CMD-SHELL", "true"}, "Interval": 5000000000}
	return []rig.Image{
		image([]string{"nginx:latest", "nginx:1.27", "registry.example:5000/team/nginx:stable"}, 21*day, nginx, history(22*day,
			step(21*day, "LABEL maintainer=NGINX Docker Maintainers <docker-maint@nginx.com>", true),
			step(21*day, "ENV NGINX_VERSION=1.27.2", true),
			step(21*day, "RUN /bin/sh -c set -x     && groupadd --system --gid 101 nginx     && useradd --system # buildkit", false),
			step(21*day, "COPY docker-entrypoint.sh / # buildkit", false),
			step(21*day, "EXPOSE map[80/tcp:{}]", true),
			step(21*day, `CMD ["nginx" "-g" "daemon off;"]`, true)), base, pkg, conf),
		image([]string{"nginx:alpine"}, 24*day, config(), history(24*day), base),
		image([]string{"hello-world:latest"}, 550*day, map[string]any{"Cmd": []string{"/hello"}},
			[]any{map[string]any{"created": ago(550 * day), "created_by": "COPY hello / # buildkit", "comment": "buildkit.dockerfile.v0"}},
			rig.Layer(t, tar.Header{Name: "hello", Size: 13_300})),
		image([]string{"jenkins/jenkins:lts"}, 760*day, config("JENKINS_HOME=/var/jenkins"), history(760*day), base),
		image(nil, 3*time.Hour, map[string]any{"Labels": map[string]string{"tier": "none"}}, history(5*time.Hour), pkg),
	}
}

func TestListingsEqualDockers(t *testing.T) {
	sameIDs(t)
	p := newPair(t, gallery(t)...)
	for _, args := range []string{
		"images", "images -a", "images -q", "images -aq", "images --no-trunc", "images --digests", "images -q --no-trunc", "image ls", "image list",
		"images nginx", "images nginx:alpine", "images jenkins/jenkins", "images registry.example:5000/team/nginx", "images none", "images *nginx", "images *:l*",
		"images --filter dangling=true", "images --filter dangling=false", "images -f label=tier", "images -f label=tier=web",
		"images -f label=tier=none", "images -f label=no", "images -f before=nginx:alpine", "images -f since=nginx:alpine",
		"images -f since=hello-world -f before=nginx", "images -f reference=*:latest", "images -f reference=ngin?", "images -f reference=*/*",
		"images -f reference=nginx -f reference=hello-world", "images -f label=tier=web -f dangling=false",
		"history nginx", "history --no-trunc nginx", "history -q nginx", "history -q --no-trunc nginx", "history -H=false nginx",
		"history nginx:alpine", "history hello-world", "image history jenkins/jenkins:lts", "images --filter nope=x", "history nope",
	} {
		p.same(strings.Split(args, " ")...)
	}
	for _, format := range []string{
		"{{.ID}}", "{{.ID}} {{.Repository}}:{{.Tag}}", "table {{.ID}}\t{{.Repository}}\t{{.Size}}", "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedAt}}",
		"{{.ID}} {{.Digest}} {{.CreatedAt}}", "{{json .}}", "{{.ID}} {{upper .Repository}}", "{{.Size}} {{.SharedSize}} {{.UniqueSize}}",
		"{{slice .ID 0 4}}", "{{.ID}} {{println .Tag}}", "{{.ID}} {{truncate .Repository 3}}", "{{.ID}}{{pad .Tag 2 2}}|", `{{.ID}} {{join (split .Repository "/") "+"}}`,
	} {
		p.same("images", "--format", format)
	}
	for _, format := range []string{"{{.ID}}", "{{.CreatedBy}}", "table {{.CreatedSince}}\t{{.Size}}\t{{.Comment}}", "{{.CreatedAt}} {{json .}}"} {
		p.same("history", "--format", format, "nginx")
	}
}

func TestInspectEqualsDockers(t *testing.T) {
	sameIDs(t)
	p := newPair(t, gallery(t)...)
	id := strings.TrimSpace(p.same("images", "-q", "--no-trunc", "nginx:latest"))
	for _, ref := range []string{"nginx", "nginx:1.27", id, id[:19], strings.TrimPrefix(id, "sha256:")[:6], "docker.io/library/nginx", "library/nginx:latest"} {
		p.same("inspect", "-f", "{{.Id}}", ref)
		p.same("image", "inspect", "-f", "{{.ID}}", ref)
	}
	for _, format := range []string{
		"{{.Id}} {{.Os}}/{{.Architecture}} {{.Created}} {{.Size}}", "{{json .Config.Env}}", "{{.Config.Entrypoint}} {{.Config.Cmd}}",
		"{{range .RootFS.Layers}}{{println .}}{{end}}", "{{json .RootFS}}", "{{len .RepoTags}}", `{{index .Config.Labels "tier"}}`,
		"{{json .Config.ExposedPorts}} {{json .Config.Volumes}} {{.Config.StopSignal}} {{.Config.WorkingDir}} {{.Config.User}}",
		"{{json .Config.Healthcheck}}", "{{.Comment}}|{{.Author}}", "{{.RepoDigests}}", "{{.Nope}}", "{{",
	} {
		p.same("inspect", "-f", format, "nginx")
	}
	p.same("inspect", "nope")
	if current != "" { // 20.10 does not say which tag it looked for
		p.same("image", "inspect", "nope", "nope2")
	}
	p.same("inspect", "-f", "{{.Id}}", "nginx", "nope", "hello-world")
	p.inspectWhole("nginx", "hello-world", "jenkins/jenkins:lts")
}

func TestTagAndRemoveEqualDockers(t *testing.T) {
	sameIDs(t)
	p := newPair(t, gallery(t)...)
	short := strings.TrimSpace(p.same("images", "-q", "nginx:alpine"))
	for _, args := range [][]string{
		{"tag", short, "nginxchg"}, {"images"}, {"tag", "nginx:alpine", "second:v2"}, {"tag", "second:v2", "host.example/a/b"}, {"images"},
		{"tag", "hello-world", "nginx:alpine"}, {"images"}, {"tag", "nope", "x"}, {"tag", "nginx", "x:-bad"}, {"tag", "nginx", ""},
		{"rmi", "nginxchg"}, {"images"}, {"rmi", "host.example/a/b"}, {"history", "second:v2"},
		{"rmi", short[:8]}, {"images", "-a"},
		{"rmi", "nginx:latest"}, {"rmi", "nginx:1.27"}, {"images"},
		{"tag", "registry.example:5000/team/nginx:stable", "again"},
	} {
		p.same(args...)
	}
	id := strings.TrimSpace(p.same("images", "-q", "again"))
	p.same("rmi", id)
	p.same("rmi", "-f", id)
	p.same("images")
	p.same("rmi", "hello-world", "nginx:alpine", "jenkins/jenkins:lts")
	p.same("images")
	p.sameUpTo("Total reclaimed space", "image", "prune", "-f")
	p.same("images", "-aq")
}

func TestUsageErrorsEqualDockers(t *testing.T) {
	onlyToday(t)
	p := newPair(t)
	for _, args := range []string{
		"rmi", "tag a", "tag", "images a b", "images --nope", "history", "history a b", "image inspect", "images --filter x", "nonsense", "image nonsense", "version a", "import",
		"images ls", "image ls ls",
	} {
		p.same(strings.Fields(args)...)
	}
}

func TestPruneEqualsDockers(t *testing.T) {
	sameIDs(t)
	p := newPair(t, gallery(t)...)
	p.sameUpTo("Total reclaimed space", "image", "prune", "-f", "--filter", "label=tier=none")
	p.same("images", "-a")
	p.same("image", "prune", "-f")
	p.mica.Run("image", "prune", "-af", "--filter", "until=2400h")
	engine.Run(t, "image", "prune", "-af", "--filter", "until=2400h")
	p.same("images", "-a")
	if p.mica.Try(bytes.NewBufferString("n\n"), "image", "prune", "-a"); p.mica.Run("images", "-q") == "" {
		t.Error("prune does not take no for an answer")
	}
}

func TestGroupByID(t *testing.T) {
	const a, b = "1d171cc87abe", "082cf9b37d31"
	for text, want := range map[string]string{
		"":                                   "",
		"one\ntwo\n":                         "one\ntwo\n",
		a + " z\n" + a + " y\n" + b + " x\n": a + " y\n" + a + " z\n" + b + " x\n",
		a + " z\n\n" + a + " y\n\n" + b + " x\n\n": a + " y\n\n" + a + " z\n\n" + b + " x\n\n",
		"ID\n" + b + " x\n" + a + " y\n":           "ID\n" + b + " x\n" + a + " y\n",
	} {
		if got := groupByID(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
