//go:build e2e

package why

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/test/rig"
)

// lane is a store and a directory for one build at a time.
type lane struct {
	binary, root, dir string
	tar               string // of the base image
	base              string // the image that is called base
}

func newLane(t *testing.T) *lane {
	m := rig.NewMica(t)
	rig.ImportBusybox(t, m, "first")
	dir := rig.TempDir(t)
	tar, err := rig.BusyboxTar(dir)
	must(t, err)
	return &lane{binary: m.Path, root: m.Root, dir: dir, tar: tar}
}

const dockerfile = `ARG BASE=base
FROM ${BASE} AS deps
ARG VERSION=1.0
ARG N=1
ENV MODE=dev LEVEL=low DIR=one
WORKDIR /w
COPY go.mod go.sum ./
COPY go.mod /${DIR}/
RUN echo deps $VERSION $MODE > deps.txt
FROM deps AS build
COPY src/ src/
COPY --link extra/*.txt /extra/
RUN --mount=type=bind,source=scripts,target=/s sh /s/build.sh
RUN --mount=type=bind,from=data,target=/d cat /d/x > x
ADD archive.tar /a/
COPY <<EOT /heredoc
text
EOT
RUN --mount=type=cache,id=c1,target=/cache --mount=type=tmpfs,target=/t --mount=type=secret,id=s1,target=/secret --mount=type=ssh <<EOT
echo one
EOT
COPY --exclude=*.md docs/ /docs/
USER 1000
RUN id -u
FROM base
ARG N=1
COPY --from=build /w/deps.txt /w/x /out/
COPY --from=data y /y
COPY extra/${N}.txt /n
COPY --from=base etc/passwd /passwd
COPY --chmod=755 entry.sh /
LABEL color=red
CMD ["sh"]
`

// project is the input of a build.
type project struct {
	t          *testing.T
	m          *rig.Mica
	lane       *lane
	dockerfile string
	files      map[string]string // of the context
	data       map[string]string // of the named context
	modes      map[string]os.FileMode
	links      map[string]string
	dirs       []string
	xattrs     map[string]string
	flags      []string
	base       string // the image that is called base
	number     int    // not the same for any two builds
	key        string // the same for a build and the one before it, and not for others
	site       *site  // what the build downloads
	planned    bool   // the build is planned first
	prepare    func() // before the build; nil for nothing
}

func newProject(t *testing.T, l *lane, number int) *project {
	m := rig.At(t, l.binary)
	m.Root = l.root
	return &project{
		t: t, m: m, lane: l, dockerfile: dockerfile, number: number, base: "first",
		files: map[string]string{
			"go.mod": "module m", "go.sum": "sum", "src/a.go": "a", "src/b.go": "b", "src/sub/c.go": "c", "src/sub/d.go": "d",
			"extra/1.txt": "1", "extra/2.txt": "2", "scripts/build.sh": "echo built > built", "scripts/lib.sh": "lib",
			"archive.tar": "no archive", "entry.sh": "#!/bin/sh", ".dockerignore": "**/*.log\n", "unused": "unused", "src/x.log": "log", "src/left.go": "left", "src/sub/left.go": "left", "extra/left.txt": "left", "scripts/left.sh": "left",
			"docs/a.txt": "a", "docs/b.md": "b", "src/odd name": "o", "src/new\nline": "o", "src/ümläut": "o", "src/-dash": "o",
		},
		data:  map[string]string{"x": "x", "y": "y", "z": "z"},
		modes: map[string]os.FileMode{}, links: map[string]string{"src/link": "a.go"}, xattrs: map[string]string{},
	}
}

func (p *project) unique() string { return fmt.Sprintf("unique%d", p.number) }

// replace edits the Dockerfile.
func (p *project) replace(old, text string) {
	p.t.Helper()
	if strings.Count(p.dockerfile, old) != 1 {
		p.t.Fatalf("the Dockerfile has %q %d times", old, strings.Count(p.dockerfile, old))
	}
	p.dockerfile = strings.Replace(p.dockerfile, old, text, 1)
}

// build builds the project in a directory, and returns the causes of the steps that ran.
func (p *project) build() []string {
	p.t.Helper()
	dir := p.lane.dir
	if p.lane.base != p.base {
		p.m.Run("tag", p.base, "base")
		p.lane.base = p.base
	}
	if p.prepare != nil {
		p.prepare()
	}
	for _, sub := range []string{"context", "data"} {
		if err := os.RemoveAll(filepath.Join(dir, sub)); err != nil {
			p.t.Fatal(err)
		}
	}
	write := func(path, content string, mode os.FileMode) {
		must(p.t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(p.t, os.WriteFile(path, []byte(content), mode))
		must(p.t, os.Chmod(path, mode))
	}
	for name, content := range p.files {
		mode := os.FileMode(0o644)
		if m, ok := p.modes[name]; ok {
			mode = m
		}
		write(filepath.Join(dir, "context", name), content, mode)
	}
	for name, mode := range p.modes {
		must(p.t, os.Chmod(filepath.Join(dir, "context", name), mode))
	}
	for name, content := range p.data {
		write(filepath.Join(dir, "data", name), content, 0o644)
	}
	for name, target := range p.links {
		must(p.t, os.Symlink(target, filepath.Join(dir, "context", name)))
	}
	for _, d := range p.dirs {
		must(p.t, os.MkdirAll(filepath.Join(dir, "context", d), 0o755))
	}
	for name, value := range p.xattrs {
		must(p.t, unix.Setxattr(filepath.Join(dir, "context", name), "user.test", []byte(value), 0))
	}
	write(filepath.Join(dir, "context", "Dockerfile"), p.dockerfile, 0o644)
	args := append([]string{"build", "-q", "--build-context", "data=" + filepath.Join(dir, "data")}, p.flags...)
	args = append(args, filepath.Join(dir, "context"))
	if !p.planned {
		p.m.Run(args...)
		return p.causes("why", "--format", "json")
	}
	plan := p.plan(append([]string{"build", "--explain"}, args[2:]...)...)
	p.m.Run(args...)
	p.checkPlan(plan)
	return p.causes("why", "--format", "json")
}

// plan returns what `mica build --explain` says of each step.
func (p *project) plan(args ...string) map[string]string {
	p.t.Helper()
	plan := map[string]string{}
	for line := range strings.Lines(p.m.Run(args...)) {
		if fields := regexp.MustCompile(`   +`).Split(strings.TrimSpace(line), 3); len(fields) > 1 {
			plan[strings.TrimSuffix(fields[0], "…")] = fields[1]
		}
	}
	return plan
}

// checkPlan compares a plan with what ran.
func (p *project) checkPlan(plan map[string]string) {
	p.t.Helper()
	var b struct {
		Steps []struct {
			Name, State, Key string
			Source           any
		}
	}
	if err := json.Unmarshal([]byte(p.m.Run("builds", "inspect", "--format", "json")), &b); err != nil {
		p.t.Fatal(err)
	}
	for _, s := range b.Steps {
		if s.Key == "" || s.Source != nil || strings.HasPrefix(s.Name, "[internal]") {
			continue
		}
		said := ""
		for name, state := range plan {
			if strings.HasPrefix(s.Name, name) {
				said = state
			}
		}
		if s.State == "ran" && said != "would run" && said != "may run" || s.State == "cached" && said != "cached" && said != "may run" {
			p.t.Errorf("%s: %s; the plan said %q", s.Name, s.State, said)
		}
	}
}

// derived makes an image from the first base.
func (p *project) derived(instruction string) string {
	dir := rig.TempDir(p.t)
	must(p.t, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM first\n"+instruction+"\n"), 0o644))
	p.m.Run("build", "-q", "-t", p.unique(), dir)
	return p.unique()
}

type cause struct{ Kind, Name, Change, Old, New string }

// causes returns those at the beginning of each chain.
func (p *project) causes(args ...string) []string {
	p.t.Helper()
	var res struct {
		Steps []struct {
			Name  string
			Roots []cause
		}
	}
	out := p.m.Run(args...)
	if err := json.Unmarshal([]byte(out), &res); err != nil {
		p.t.Fatalf("%v: %s", err, out)
	}
	found := map[string]bool{}
	for _, s := range res.Steps {
		for _, c := range s.Roots {
			text := c.Kind
			switch c.Kind {
			case "command", "step":
				text += " " + withoutPlace(s.Name)
			case "inserted", "deleted":
				text += " " + withoutPlace(c.Name)
			default:
				text = strings.TrimSpace(c.Kind + " " + c.Name)
				if c.Change != "" {
					text += " " + c.Change
				}
			}
			found[text] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func withoutPlace(name string) string {
	if _, text, ok := strings.Cut(name, "] "); ok {
		return text
	}
	return name
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
