//go:build e2e

// Package why changes one thing of a build, or two, in some hundred ways, and checks that the cause which mica names for the steps
// that run again is that change, and no other.
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

	"github.com/micabuild/mica/test/rig"
)

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
RUN <<EOT
echo one
EOT
RUN --mount=type=cache,id=c1,target=/cache --mount=type=tmpfs,target=/t true
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
	dockerfile string
	files      map[string]string // of the context
	data       map[string]string // of the named context
	modes      map[string]os.FileMode
	owners     map[string]int
	links      map[string]string
	flags      []string
	base       string // the image that is called base
	number     int    // not the same for any two builds
}

func newProject(t *testing.T, m *rig.Mica, number int) *project {
	return &project{
		t: t, m: m, dockerfile: dockerfile, number: number, base: "first",
		files: map[string]string{
			"go.mod": "module m", "go.sum": "sum", "src/a.go": "a", "src/b.go": "b", "src/sub/c.go": "c", "src/sub/d.go": "d",
			"extra/1.txt": "1", "extra/2.txt": "2", "scripts/build.sh": "echo built > built", "scripts/lib.sh": "lib",
			"archive.tar": "no archive", "entry.sh": "#!/bin/sh", ".dockerignore": "**/*.log\n", "unused": "unused", "src/x.log": "log", "src/left.go": "left", "src/sub/left.go": "left", "extra/left.txt": "left", "scripts/left.sh": "left",
			"docs/a.txt": "a", "docs/b.md": "b", "src/odd name": "o", "src/new\nline": "o", "src/ümläut": "o", "src/-dash": "o",
		},
		data:  map[string]string{"x": "x", "y": "y", "z": "z"},
		modes: map[string]os.FileMode{}, owners: map[string]int{}, links: map[string]string{"src/link": "a.go"},
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
func (p *project) build(dir string) []string {
	p.t.Helper()
	p.m.Run("tag", p.base, "base")
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
	write(filepath.Join(dir, "context", "Dockerfile"), p.dockerfile, 0o644)
	args := append([]string{"build", "-q", "--build-context", "data=" + filepath.Join(dir, "data")}, p.flags...)
	plan := p.plan(append(args, "--explain", filepath.Join(dir, "context"))...)
	p.m.Run(append(args, filepath.Join(dir, "context"))...)
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
		Steps []struct{ Name, State, Key string }
	}
	if err := json.Unmarshal([]byte(p.m.Run("builds", "inspect", "--format", "json")), &b); err != nil {
		p.t.Fatal(err)
	}
	for _, s := range b.Steps {
		if s.Key == "" || strings.HasPrefix(s.Name, "[internal]") {
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

// change is one change of a project, and the causes that it is. A simple one can be made together with any other of another topic.
type change struct {
	name  string
	topic string
	make  func(p *project)
	want  []string
}

func changes() (list []change) {
	add := func(topic, name string, want []string, make func(p *project)) {
		list = append(list, change{topic + ": " + name, topic, make, want})
	}
	for _, f := range []string{"go.mod", "go.sum", "src/a.go", "src/b.go", "src/sub/c.go", "src/sub/d.go", "extra/1.txt", "extra/2.txt", "scripts/lib.sh", "archive.tar", "entry.sh", "docs/a.txt", "src/odd name", "src/new\nline", "src/ümläut", "src/-dash"} {
		add(f, "content", []string{"file " + f + " content"}, func(p *project) { p.files[f] += p.unique() })
	}
	for _, f := range []string{"go.mod", "go.sum", "src/a.go", "src/sub/c.go", "src/b.go", "src/sub/d.go", "extra/2.txt", "scripts/build.sh", "scripts/lib.sh", "archive.tar", "docs/a.txt"} {
		for _, mode := range []os.FileMode{0o600, 0o755, 0o444, 0o640} {
			add(f, mode.String(), []string{"file " + f + " mode"}, func(p *project) { p.modes[f] = mode })
		}
	}
	for _, d := range []string{"src", "scripts"} { // no step reads the mode of the directory whose contents it copies or mounts
		for _, mode := range []os.FileMode{0o700, 0o711} {
			add(d, mode.String(), nil, func(p *project) { p.modes[d] = mode })
		}
	}
	for _, f := range []string{"src/new.go", "src/sub/new.go", "extra/new.txt", "scripts/new.sh"} {
		add(f, "added", []string{"file " + f + " added"}, func(p *project) { p.files[f] = p.unique() })
	}
	for _, f := range []string{"src/a.go", "src/sub/c.go", "extra/2.txt", "scripts/lib.sh"} {
		add(f, "removed", []string{"file " + f + " removed"}, func(p *project) { delete(p.files, f) })
	}
	add("src/link", "target", []string{"file src/link link"}, func(p *project) { p.links["src/link"] = p.unique() })
	add("src/link", "added", []string{"file src/link2 added"}, func(p *project) { p.links["src/link2"] = p.unique() })
	for _, f := range []string{"x", "z"} {
		add("data/"+f, "content", []string{"file " + f + " content"}, func(p *project) { p.data[f] += p.unique() })
	}
	add("data/y", "content", []string{"file y content"}, func(p *project) { p.data["y"] += p.unique() })
	add("data/n", "added", []string{"file n added"}, func(p *project) { p.data["n"] = p.unique() })
	add("unused", "content", nil, func(p *project) { p.files["unused"] += p.unique() })
	add("ignored", "content", nil, func(p *project) { p.files["src/x.log"] += p.unique() })
	for _, f := range []string{"src/left.go", "src/sub/left.go", "extra/left.txt", "scripts/left.sh"} {
		add("ignore", f, []string{"ignore " + f + " removed"}, func(p *project) { p.files[".dockerignore"] += f + "\n" })
	}
	add("ignore", "nothing", []string{"ignore src/x.log added"}, func(p *project) { p.files[".dockerignore"] = "#" + p.unique() })
	add("arg", "VERSION", []string{"argument VERSION"}, func(p *project) { p.flags = append(p.flags, "--build-arg", "VERSION="+p.unique()) })
	add("arg", "VERSION by default", []string{"argument VERSION"}, func(p *project) { p.replace("VERSION=1.0", "VERSION="+p.unique()) })
	add("arg", "of the stage before", []string{"argument OTHER"}, func(p *project) { p.replace("FROM deps", "ARG OTHER="+p.unique()+"\nFROM deps") })
	add("env", "MODE", []string{"environment MODE"}, func(p *project) { p.replace("MODE=dev", "MODE="+p.unique()) })
	add("env", "LEVEL", []string{"environment LEVEL"}, func(p *project) { p.replace("LEVEL=low", "LEVEL="+p.unique()) })
	add("env", "new", []string{"environment NEW"}, func(p *project) { p.replace("LEVEL=low", "LEVEL=low NEW="+p.unique()) })
	add("env", "removed", []string{"environment LEVEL"}, func(p *project) { p.replace(" LEVEL=low", "") })
	add("user", "other", []string{"option user"}, func(p *project) { p.replace("USER 1000", fmt.Sprintf("USER %d", 2000+p.number)) })
	add("shell", "other", []string{"option shell"}, func(p *project) {
		p.replace("USER 1000", "USER 1000\nSHELL [\"/bin/sh\", \"-c\", \"-e\"]")
	})
	add("workdir", "other", []string{"command WORKDIR /w/{}", "command"}, func(p *project) {
		p.replace("WORKDIR /w", "WORKDIR /w/"+p.unique())
		p.dockerfile = strings.ReplaceAll(p.dockerfile, "/w/deps.txt /w/x", "/w/"+p.unique()+"/deps.txt /w/"+p.unique()+"/x")
	})
	edits := map[string][2]string{
		"RUN echo deps":  {"RUN echo deps $VERSION $MODE > deps.txt", "RUN echo deps $VERSION $MODE {} > deps.txt"},
		"RUN build":      {"sh /s/build.sh", "sh /s/build.sh {}"},
		"RUN data":       {"cat /d/x > x", "cat /d/x > x; echo {}"},
		"RUN id":         {"RUN id -u", "RUN id -u; : {}"},
		"COPY src":       {"COPY src/ src/", "COPY src/ src/{}/"},
		"COPY entry":     {"COPY --chmod=755 entry.sh /", "COPY --chmod=755 entry.sh /{}"},
		"ADD":            {"ADD archive.tar /a/", "ADD archive.tar /a/{}/"},
		"COPY from data": {"COPY --from=data y /y", "COPY --from=data y /{}"},
	}
	for name, e := range edits {
		add(name, "edited", []string{"command"}, func(p *project) { p.replace(e[0], strings.ReplaceAll(e[1], "{}", p.unique())) })
	}
	add("COPY heredoc", "edited", []string{"command"}, func(p *project) { p.replace("\ntext\n", "\n"+p.unique()+"\n") })
	add("RUN heredoc", "edited", []string{"command"}, func(p *project) { p.replace("\necho one\n", "\necho "+p.unique()+"\n") })
	for _, at := range []string{"COPY go.mod go.sum", "COPY src/", "ADD archive", "USER 1000", "COPY --chmod"} {
		add("insert before "+at, "RUN", []string{"inserted RUN echo {} > /new"}, func(p *project) { p.replace(at, "RUN echo "+p.unique()+" > /new\n"+at) })
		add("insert before "+at, "COPY", []string{"inserted COPY unused /{}"}, func(p *project) { p.replace(at, "COPY unused /"+p.unique()+"\n"+at) })
	}
	add("base", "layer", []string{"base base:latest 1 layer"}, func(p *project) { p.base = p.derived("RUN echo " + p.unique() + " > /new") })
	add("base", "environment", []string{"base base:latest"}, func(p *project) { p.base = p.derived("ENV NEW=" + p.unique()) })
	add("base", "other", []string{"argument BASE"}, func(p *project) {
		p.m.Run("tag", p.derived("RUN echo "+p.unique()+" > /new"), "other")
		p.flags = append(p.flags, "--build-arg", "BASE=other")
	})
	add("base", "label", nil, func(p *project) { p.base = p.derived("LABEL x=" + p.unique()) })
	add("base", "user", []string{"base base:latest"}, func(p *project) { p.base = p.derived(fmt.Sprintf("USER %d", 3000+p.number)) })
	add("base", "by default", []string{"argument BASE"}, func(p *project) {
		p.m.Run("tag", p.derived("RUN echo "+p.unique()+" > /new"), "third")
		p.replace("BASE=base", "BASE=third")
	})
	add("base", "named", []string{"base third:latest"}, func(p *project) {
		p.m.Run("tag", p.derived("RUN echo "+p.unique()+" > /new"), "third")
		p.replace("FROM base\n", "FROM third\n")
	})
	for name, text := range map[string][2]string{
		"label": {"color=red", "color={}"}, "command": {`CMD ["sh"]`, `CMD ["{}"]`}, "comment": {"FROM deps", "# {}\nFROM deps"},
		"port": {"LABEL", "EXPOSE 80\nLABEL"}, "cache": {"id=c1", "id={}"}, "stage": {"FROM base\n", "FROM base AS {}\n"},
	} {
		add("nothing", name, nil, func(p *project) { p.replace(text[0], strings.ReplaceAll(text[1], "{}", p.unique())) })
	}
	for name, flag := range map[string][2]string{
		"network": {"--network=none", "option network"}, "ulimit": {"--ulimit=nofile={}:4000", "option ulimit"}, "hosts": {"--add-host=h{}:10.0.0.1", "option extra hosts"},
		"epoch": {"--build-arg=SOURCE_DATE_EPOCH={}", "argument SOURCE_DATE_EPOCH"},
	} {
		add("flag", name, []string{flag[1]}, func(p *project) {
			p.flags = append(p.flags, strings.ReplaceAll(flag[0], "{}", fmt.Sprint(1000+p.number)))
		})
	}
	add("arg", "in a COPY", []string{"argument N"}, func(p *project) { p.flags = append(p.flags, "--build-arg", "N=2") })
	add("env", "in a COPY", []string{"environment DIR"}, func(p *project) { p.replace("DIR=one", "DIR="+p.unique()) })
	add("exclude", "other pattern", []string{"command"}, func(p *project) { p.replace("--exclude=*.md", "--exclude="+p.unique()) })
	add("exclude", "excluded file", nil, func(p *project) { p.files["docs/b.md"] += p.unique() })
	deleted := map[string]string{
		"COPY --link extra/*.txt /extra/\n": "COPY --link extra/*.txt /extra/", "ADD archive.tar /a/\n": "ADD archive.tar /a/",
		"COPY <<EOT /heredoc\ntext\nEOT\n": "COPY <<EOT /heredoc", "COPY src/ src/\n": "COPY src/ src/", "COPY go.mod go.sum ./\n": "COPY go.mod go.sum ./",
		"COPY --from=data y /y\n": "COPY --from=data y /y",
	}
	for text, name := range deleted {
		add("deleted", name, []string{"deleted " + name}, func(p *project) {
			p.replace(text, "")
		})
	}
	add("deleted", "the last", nil, func(p *project) { p.replace("COPY --chmod=755 entry.sh /\n", "") })
	add("no-cache", "all", []string{"no-cache"}, func(p *project) { p.flags = append(p.flags, "--no-cache") })
	add("no-cache", "stage", []string{"no-cache"}, func(p *project) { p.flags = append(p.flags, "--no-cache-filter", "deps") })
	return list
}

// derived makes an image from the first base.
func (p *project) derived(instruction string) string {
	dir := rig.TempDir(p.t)
	must(p.t, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM first\n"+instruction+"\n"), 0o644))
	p.m.Run("build", "-q", "-t", p.unique(), dir)
	return p.unique()
}

// TestRootEveryCauseIsNamed: for each change alone, and for pairs of changes of different topics.
func TestRootEveryCauseIsNamed(t *testing.T) {
	m := rig.NewMica(t)
	rig.ImportBusybox(t, m, "first")
	dir := rig.TempDir(t)
	newProject(t, m, 0).build(dir)
	all := changes()
	number := 0
	check := func(t *testing.T, list ...change) {
		t.Helper()
		number++
		newProject(t, m, 0).build(dir) // the build before
		p := newProject(t, m, number)
		var want []string
		for _, c := range list {
			c.make(p)
			for _, w := range c.want {
				want = append(want, strings.ReplaceAll(w, "{}", p.unique()))
			}
		}
		got := p.build(dir)
		slices.Sort(want)
		for i, g := range got { // an instruction that changed is named by its step
			if strings.HasPrefix(g, "command ") && !slices.Contains(want, g) {
				got[i] = "command"
			}
		}
		slices.Sort(got)
		if got, want = slices.Compact(got), slices.Compact(want); !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q\n%s", got, want, m.Run("why"))
		}
	}
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) { check(t, c) })
	}
	var simple []change
	for _, c := range all {
		if slices.Contains(combined, c.name) {
			simple = append(simple, c)
		}
	}
	if len(simple) != len(combined) {
		t.Fatalf("%d of %d changes are known", len(simple), len(combined))
	}
	for i, a := range simple {
		for _, b := range simple[i+1:] {
			t.Run(a.name+" and "+b.name, func(t *testing.T) { check(t, a, b) })
		}
	}
}

// combined are the changes that are made in pairs: neither of two hides the other.
var combined = []string{
	"go.sum: content", "src/sub/c.go: content", "extra/2.txt: content", "scripts/lib.sh: content", "entry.sh: content", "data/y: content",
	"src/b.go: -rwxr-xr-x", "src/new.go: added", "src/link: target", "ignore: src/left.go", "arg: VERSION", "env: MODE", "user: other",
	"RUN id: edited", "RUN heredoc: edited", "insert before ADD archive: RUN", "base: layer",
}
