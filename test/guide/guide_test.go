//go:build e2e

// Package guide goes through the walk-through that mica's first user starts from, on real images: it runs scripts/demo,
// and looks closely at what that made. It needs root, for debootstrap, and package registries for apt and pip.
package guide

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

func TestGuide(t *testing.T) {
	m := rig.NewMica(t)
	cmd := exec.Command(filepath.Join(rig.Top(), "scripts", "demo"))
	cmd.Env = append(os.Environ(), "MICA_ROOT="+m.Root)
	demo := rig.Run(t, cmd)
	if demo.Code != 0 {
		t.Fatalf("demo: exit code %d\n%s%s", demo.Code, demo.Stdout, demo.Stderr)
	}
	answers(t, demo)
	g := &guide{m}
	g.look(t)
	g.run(t)
	t.Run("docker", func(t *testing.T) { g.byDocker(t, m) })
	t.Run("rebuild", g.rebuild)
}

// answers: the containers of the walk-through have answered over HTTP.
func answers(t *testing.T, demo rig.Output) {
	t.Helper()
	for _, answer := range []string{"<h1>Served by an image that mica built</h1>", "Hello World!"} {
		if !strings.Contains(demo.Stdout, answer) {
			t.Errorf("nothing answered %q over HTTP", answer)
		}
	}
}

// guide looks at what the walk-through has made.
type guide struct{ by engine }

// engine is the command that the walk-through is typed with: mica, or docker with mica's socket.
type engine interface {
	Try(stdin io.Reader, args ...string) rig.Output
	Run(args ...string) string
}

// look changes nothing.
func (g *guide) look(t *testing.T) {
	t.Run("images", g.images)
	t.Run("history", g.history)
	t.Run("layers", g.layers)
	t.Run("tags", g.tags)
	t.Run("config", g.config)
}

// run runs what was built.
func (g *guide) run(t *testing.T) {
	t.Run("nginx", g.nginx)
	t.Run("python", g.python)
}

func (g *guide) inspect(t *testing.T, ref, format string) string {
	t.Helper()
	return strings.TrimSuffix(g.by.Run("inspect", "-f", format, ref), "\n")
}

// images: the columns of the guide, the newest first.
func (g *guide) images(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(g.by.Run("images")), "\n")
	if !regexp.MustCompile(`^REPOSITORY +TAG +IMAGE ID +CREATED +SIZE$`).MatchString(lines[0]) {
		t.Errorf("header is %q", lines[0])
	}
	row := regexp.MustCompile(`^\S+ +\S+ +[0-9a-f]{12} +.+ ago +[0-9.]+(B|kB|MB|GB)$`)
	for _, l := range lines[1:] {
		if !row.MatchString(l) {
			t.Errorf("row %q", l)
		}
	}
	names := imageNames(g.by)
	want := "hello:latest python:3.9-slim nginx:again nginx:latest nginxchg:latest debian:bookworm-slim"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("images are %s, want %s", got, want)
	}
}

// imageNames returns the names that a list shows. docker shows those of one image in any order.
func imageNames(by engine) []string {
	var names []string
	begin, image := 0, ""
	for line := range strings.Lines(by.Run("images", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}")) {
		id, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		if id != image {
			begin, image = len(names), id
		}
		names = append(names, name)
		slices.Sort(names[begin:])
	}
	return names
}

// history: sizes, <missing>, and who made each step.
func (g *guide) history(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(g.by.Run("history", "nginx")), "\n")
	if !regexp.MustCompile(`^IMAGE +CREATED +CREATED BY +SIZE +COMMENT$`).MatchString(lines[0]) {
		t.Errorf("header is %q", lines[0])
	}
	steps := []string{
		`CMD ["nginx" "-g" "daemon off;"]`, `CMD ["nginx" "-v"]`, `STOPSIGNAL SIGQUIT`, `EXPOSE [80/tcp]`, `ENTRYPOINT ["/docker-entrypoint.sh"]`,
		`VOLUME [/var/cache/nginx]`, `COPY --chmod=755 10-listen-port.sh /docker-e`, `COPY --chmod=755 docker-entrypoint.sh /`,
		`COPY default.conf.template /etc/nginx/templa`, `ADD site.tar.gz . # buildkit`, `WORKDIR /usr/share/nginx/html`,
		`RUN /bin/sh -c set -x     && apt-get update`, `ENV NGINX_PORT=80`, `LABEL maintainer=NGINX Docker Maintainers <d`,
		``, // import
	}
	plain := strings.Split(strings.TrimSuffix(g.by.Run("history", "--format", "{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}", "nginx"), "\n"), "\n")
	if len(plain) != len(steps) {
		t.Fatalf("history has %d steps:\n%s", len(plain), strings.Join(plain, "\n"))
	}
	for i, s := range steps {
		if !strings.HasPrefix(plain[i], s) {
			t.Errorf("step %d is %q, want %q", i, plain[i], s)
		}
	}
	if !regexp.MustCompile(`^[0-9a-f]{12} `).MatchString(lines[1]) {
		t.Errorf("first line is %q", lines[1])
	}
	built := 0
	for _, l := range lines[2:] {
		if !strings.HasPrefix(l, "<missing> ") {
			t.Errorf("line is %q", l)
		}
		if strings.HasSuffix(strings.TrimSpace(l), "buildkit.dockerfile.v0") {
			built++
		}
	}
	if built < 12 {
		t.Errorf("%d steps are BuildKit's", built)
	}
	for _, s := range []string{"RUN /bin/sh -c set -x", "ADD site.tar.gz", "COPY docker-entrypoint.sh"} {
		for _, p := range plain {
			if strings.HasPrefix(p, s) && strings.Contains(p, "\t0B\t") {
				t.Errorf("%s has no size", s)
			}
		}
	}
}

// layers: one for each instruction that changes the filesystem, on top of the base's.
func (g *guide) layers(t *testing.T) {
	var layers []string
	if err := json.Unmarshal([]byte(g.inspect(t, "nginx", "{{json .RootFS.Layers}}")), &layers); err != nil {
		t.Fatal(err)
	}
	if len(layers) != 7 { // debian, RUN, WORKDIR, ADD, three COPY
		t.Errorf("%d layers: %v", len(layers), layers)
	}
	pretty := g.by.Run("image", "inspect", "nginx")
	if !regexp.MustCompile(`(?m)^            "Layers": \[\n                "sha256:[0-9a-f]{64}",$`).MatchString(pretty) {
		t.Errorf("image inspect does not show Layers as the guide does:\n%s", pretty)
	}
}

// tags: two names more for one image, and no image more.
func (g *guide) tags(t *testing.T) {
	id := g.inspect(t, "nginx", "{{.Id}}")
	for _, ref := range []string{"nginxchg", "nginxchg:latest", "nginx:again", id, id[7:12]} {
		if got := g.inspect(t, ref, "{{.Id}}"); got != id {
			t.Errorf("%s is %s, want %s", ref, got, id)
		}
	}
}

func (g *guide) config(t *testing.T) {
	for format, want := range map[string]string{
		"{{json .Config.Cmd}}":                          `["nginx","-g","daemon off;"]`,
		"{{json .Config.Entrypoint}}":                   `["/docker-entrypoint.sh"]`,
		"{{json .Config.ExposedPorts}}":                 `{"80/tcp":{}}`,
		"{{json .Config.Volumes}}":                      `{"/var/cache/nginx":{}}`,
		"{{.Config.StopSignal}} {{.Config.WorkingDir}}": "SIGQUIT /usr/share/nginx/html",
		`{{index .Config.Labels "maintainer"}}`:         "NGINX Docker Maintainers <docker-maint@nginx.com>",
	} {
		if got := g.inspect(t, "nginx", format); got != want {
			t.Errorf("%s is %s, want %s", format, got, want)
		}
	}
}

func (g *guide) nginx(t *testing.T) {
	if got := g.by.Run("run", "--entrypoint", "cat", "nginx", "index.html"); got != "<h1>Served by an image that mica built</h1>\n" {
		t.Errorf("ADD extracted %q", got)
	}
	if out := g.by.Try(nil, "run", "nginx", "nginx", "-v"); out.Code != 0 || !strings.Contains(out.Stderr, "nginx version: nginx/") {
		t.Errorf("nginx -v: exit code %d, %q", out.Code, out.Stderr)
	}
}

func (g *guide) python(t *testing.T) {
	if got := g.by.Run("run", "-e", "NAME=You", "hello", "python", "-c", "import os, flask; print(os.environ['NAME'], os.getcwd())"); got != "You /app\n" {
		t.Errorf("python says %q", got)
	}
	before := strings.Count(g.inspect(t, "python:3.9-slim", "{{json .RootFS.Layers}}"), "sha256:")
	if got := strings.Count(g.inspect(t, "hello", "{{json .RootFS.Layers}}"), "sha256:"); got != before+4 { // WORKDIR, COPY, RUN, COPY
		t.Errorf("%d layers on %d", got, before)
	}
}

// rebuild: nothing changed, the same image; the application changed, only what comes after is built again.
func (g *guide) rebuild(t *testing.T) {
	app := rig.TempDir(t)
	rig.Must(t, "chmod", "755", app) // for the user
	rig.Must(t, "cp", "-a", filepath.Join(rig.Top(), "demo", "python"), app)
	dir := filepath.Join(app, "python")
	id := g.inspect(t, "hello", "{{.Id}}")
	if out := g.by.Try(nil, "build", "-t", "hello", dir); strings.Count(out.Stderr, " CACHED") != 4 || g.inspect(t, "hello", "{{.Id}}") != id {
		t.Errorf("rebuild of the same:\n%s", out.Stderr)
	}
	layers := strings.Split(g.inspect(t, "hello", "{{json .RootFS.Layers}}"), ",")
	if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte("print('changed')\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := g.by.Try(nil, "build", "-t", "hello", dir)
	if now := strings.Split(g.inspect(t, "hello", "{{json .RootFS.Layers}}"), ","); len(now) != len(layers) || !slices.Equal(now[:len(now)-1], layers[:len(layers)-1]) {
		t.Errorf("rebuild after a change: exit code %d, layers %s, before %s", out.Code, now, layers)
	}
	if strings.Count(out.Stderr, " CACHED") != 3 || !strings.Contains(out.Stderr, "RUN pip install --no-cache-dir -r requirements.txt\n#") {
		t.Errorf("rebuild after a change:\n%s", out.Stderr)
	}
	if got := g.by.Run("run", "hello"); got != "changed\n" {
		t.Errorf("the new image says %q", got)
	}
	if got := g.by.Run("images", "--filter", "dangling=true", "-q", "--no-trunc"); strings.TrimSpace(got) != id {
		t.Errorf("dangling is %q, want %s", got, id)
	}
}
