package replay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/store"
)

// project is a store with builds of one directory, none of which starts a process.
type project struct {
	t   *testing.T
	b   *builder.Builder
	dir string
}

func newProject(t *testing.T) *project {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	host, err := sandbox.NewHost(s, "")
	if err != nil {
		t.Fatal(err)
	}
	layers := layer.New(s)
	p := &project{t, &builder.Builder{Store: s, Layers: layers, Images: image.New(s, layers), Host: host, Registry: registry.New(registry.Options{})}, t.TempDir()}
	p.write("a", "a")
	return p
}

func (p *project) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// build builds a Dockerfile, and returns the record of the build.
func (p *project) build(dockerfile string, spec buildspec.Spec) *history.Build {
	p.t.Helper()
	p.write("Dockerfile", dockerfile)
	spec.Path, spec.Network = p.dir, "none"
	spec.Outputs = []buildspec.Output{{Type: buildspec.OutputImage}}
	_, err := p.b.Build(p.t.Context(), builder.Options{Spec: spec, Context: builder.DirContext{Dir: p.dir}})
	if err != nil && !strings.Contains(dockerfile, "fails") {
		p.t.Fatal(err)
	}
	b, err := history.Open(p.b.Store).Find("")
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

// find describes the state of a step.
func (p *project) find(b *history.Build, name string) (string, error) {
	p.t.Helper()
	step, err := b.SelectOne(name)
	if err != nil {
		p.t.Fatal(err)
	}
	st, err := Find(p.t.Context(), p.b.Store, p.b.Layers, b, step)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("%d layers, %q %s %q %q", len(st.Chain), st.Config.Env, st.Config.WorkingDir, st.Config.User, st.Command)
	if st.Before {
		text += ", before"
	}
	if len(st.Hidden) > 0 {
		text += fmt.Sprintf(", without %v", st.Hidden)
	}
	return text, nil
}

const recorded = `# syntax=docker/dockerfile:1
ARG GLOBAL=g
FROM scratch AS one
ENV PATH=/bin
ARG V=1
ARG API_TOKEN
ENV E=two
WORKDIR /w
COPY a f
SHELL ["/bin/bash", "-c"]
COPY --link a g
USER 1:2
COPY a h
FROM one
ARG GLOBAL
COPY --from=other a /x
COPY a nosuch-fails /
`

// TestFind: a step is found with the layers of its result, and the environment of its place.
func TestFind(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	p.build("FROM scratch\nENV PATH=/other\nUSER 9\nWORKDIR /base\nSHELL [\"/bin/ksh\", \"-c\"]\nONBUILD ENV TRIGGERED=1\nCOPY a /\n", buildspec.Spec{Tags: []string{"base"}})
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "a"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	contexts := map[string]string{"other": other}
	b := p.build(recorded, buildspec.Spec{BuildArgs: map[string]string{"V": "7", "API_TOKEN": "s3cret"}, Contexts: contexts})
	based := p.build("FROM base\nCOPY a /b\n", buildspec.Spec{})
	named := p.build("FROM renamed\nCOPY a /b\n", buildspec.Spec{Contexts: map[string]string{"renamed": "docker-image://base"}})
	const sh = `["/bin/sh" "-c" ":"]`
	env := `["PATH=/bin" "V=7" "API_TOKEN=" "E=two"]`
	for _, c := range []struct {
		build      *history.Build
		step, want string
	}{
		{b, "8", "1 layers, " + env + ` /w "" ` + sh + ", without [API_TOKEN]"},
		{b, "9", "2 layers, " + env + ` /w "" ` + sh + ", without [API_TOKEN]"},
		{b, "11", "3 layers, " + env + ` /w "" ["/bin/bash" "-c" ":"], without [API_TOKEN]`},
		{b, "13", "4 layers, " + env + ` /w "1:2" ["/bin/bash" "-c" ":"], without [API_TOKEN]`},
		{b, "16", "5 layers, " + `["V=7" "API_TOKEN=" "PATH=/bin" "E=two" "GLOBAL=g"]` + ` /w "1:2" ["/bin/bash" "-c" ":"], without [API_TOKEN]`},
		{b, "17", "5 layers, " + `["V=7" "API_TOKEN=" "PATH=/bin" "E=two" "GLOBAL=g"]` + ` /w "1:2" ["/bin/bash" "-c" ":"], before, without [API_TOKEN]`},
		{based, "1", `2 layers, ["PATH=/other" "TRIGGERED=1"] /base "9" ["/bin/ksh" "-c" ":"]`},
		{based, "2", `3 layers, ["PATH=/other" "TRIGGERED=1"] /base "9" ["/bin/ksh" "-c" ":"]`},
		{named, "2", `3 layers, ["PATH=/other" "TRIGGERED=1"] /base "9" ["/bin/ksh" "-c" ":"]`},
	} {
		if got, err := p.find(c.build, c.step); err != nil || got != c.want {
			t.Errorf("%s: %s, %v, want %s", c.step, got, err, c.want)
		}
	}
}

// TestFindLayouts: the image of a layout is found when its directory is gone, as that of a target of a bake file. Contexts that a step does
// not use are not missed. Each build names the layout once: BuildKit's compiler resolves the images of a Dockerfile at once, with a data race
// of its own (resolvecache.go).
func TestFindLayouts(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	p.write("Dockerfile", "FROM scratch\nENV L=linked\nCOPY a /l\n")
	dir := filepath.Join(t.TempDir(), "layout")
	spec := buildspec.Spec{Path: p.dir, Network: "none", Outputs: []buildspec.Output{{Type: buildspec.OutputOCI, Dest: dir, Directory: true}}}
	if _, err := p.b.Build(t.Context(), builder.Options{Spec: spec, Context: builder.DirContext{Dir: p.dir}}); err != nil {
		t.Fatal(err)
	}
	contexts := map[string]string{"linked": "oci-layout://" + dir, "unused": "oci-layout://" + dir, "gone": "docker-image://gone"}
	based := p.build("FROM scratch AS unused\nFROM scratch AS gone\nFROM linked\nCOPY a /a\n", buildspec.Spec{Contexts: contexts})
	copied := p.build("FROM scratch\nCOPY a /a\nCOPY --from=linked l /b\n", buildspec.Spec{Contexts: contexts})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		build      *history.Build
		step, want string
	}{
		{based, "4", `2 layers, ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" "L=linked"] / "" ["/bin/sh" "-c" ":"]`},
		{copied, "3", `2 layers, ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"] / "" ["/bin/sh" "-c" ":"]`},
	} {
		if got, err := p.find(c.build, c.step); err != nil || got != c.want {
			t.Errorf("%s: %s, %v, want %s", c.step, got, err, c.want)
		}
	}
}

// TestFindNothing: a step without layers in the store, or without a place in the Dockerfile, has no state.
func TestFindNothing(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	b := p.build("FROM scratch\nCOPY a /1\nCOPY nosuch-fails /\nCOPY a /2\n", buildspec.Spec{})
	if got, err := p.find(b, "4"); err == nil || err.Error() != "step [3/3] COPY a /2 was not reached" {
		t.Errorf("a step that was not reached: %s, %v", got, err)
	}
	if got, err := p.find(b, "3"); err != nil || !strings.HasPrefix(got, "1 layers") || !strings.HasSuffix(got, ", before") {
		t.Errorf("a step that failed: %s, %v", got, err)
	}
	step, err := b.SelectOne("2")
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func(b *history.Build, s *history.Step){
		"no text":        func(b *history.Build, _ *history.Step) { b.Text = "" },
		"no line":        func(_ *history.Build, s *history.Step) { s.Line = 0 },
		"another line":   func(_ *history.Build, s *history.Step) { s.Line = 9 },
		"no Dockerfile":  func(b *history.Build, _ *history.Step) { b.Text = "FROM scratch\nNONSENSE\n" },
		"another base":   func(b *history.Build, _ *history.Step) { b.Text = "FROM other\nCOPY a /1\n" },
		"another result": func(_ *history.Build, s *history.Step) { s.Output = "sha256:" + digest.Digest(strings.Repeat("0", 64)) },
		"an invalid key": func(_ *history.Build, s *history.Step) { s.Key = "../x" },
		"no key":         func(_ *history.Build, s *history.Step) { s.Key = "" },
	} {
		build, one := *b, *step
		damage(&build, &one)
		if st, err := Find(t.Context(), p.b.Store, p.b.Layers, &build, &one); err == nil {
			t.Errorf("%s: %+v", name, st)
		}
	}
	if err := buildcache.New(p.b.Store).Remove(step.Key); err != nil {
		t.Fatal(err)
	}
	_, err = p.find(b, "2")
	var gone *GoneError
	if !errors.As(err, &gone) || err.Error() != "the result of step [1/3] COPY a /1 is not in the store" {
		t.Errorf("a record that was pruned: %v", err)
	}
}
