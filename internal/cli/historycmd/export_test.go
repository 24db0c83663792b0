package historycmd

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/history"
)

// TestExported: the builds that are exported: those with the names, in their order, or the newest that has ended, or all that have.
func TestExported(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	for i, status := range []history.Status{history.Completed, history.Failed, history.Canceled, history.Running} {
		add(t, m, &history.Build{Ref: fmt.Sprintf("build%d", i), Line: "line", Started: time.Now().Add(time.Duration(i-10) * time.Minute), Status: status})
	}
	for args, want := range map[string]struct{ refs, err string }{
		"":                     {"build2", ""},
		"--all":                {"build2 build1 build0", ""},
		"build0":               {"build0", ""},
		"build1 build0":        {"build1 build0", ""},
		"^3 build2":            {"build0 build2", ""},
		"build0 build3":        {"", "build build3 is running: it can be exported when it has ended"},
		"^0":                   {"", "build build3 is running: it can be exported when it has ended"},
		"build0 nothing":       {"", "no such build: nothing (mica builds lists them)"},
		"build0 build":         {"", "4 builds begin with build: give more of the ref"},
		"build0 ^9":            {"", "no such build: ^9 (the store remembers 4 builds)"},
		"build0 ^x":            {"", `invalid build "^x": use ^N, N builds before the newest`},
		"build2 build2 build2": {"build2 build2 build2", ""},
		"build0 build1 build2": {"build0 build1 build2", ""},
		"buil":                 {"", "4 builds begin with buil: give more of the ref"},
		"--all ^^^":            {"build2 build1 build0", ""},
	} {
		names := strings.Fields(args)
		all := len(names) > 0 && names[0] == "--all"
		if all {
			names = nil
		}
		list, err := exported(history.Open(m.Store), all, names)
		var refs []string
		for _, b := range list {
			refs = append(refs, b.Ref)
		}
		if commandtest.Text(err) != want.err || strings.Join(refs, " ") != want.refs {
			t.Errorf("%q: %q, %v, want %+v", args, refs, err, want)
		}
	}
}

// TestExportFile: the file is private, has what stdout would have, and is not made after an error.
func TestExportFile(t *testing.T) {
	t.Parallel()
	m, _ := lab(t)
	path := filepath.Join(t.TempDir(), "x.dockerbuild")
	if got := m.Run(commands, "builds", "export", "-o", path, "nothing"); got.Err == nil {
		t.Error("a build that does not exist is exported")
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("there is a file after an error")
	}
	got := m.Run(commands, "builds", "export", "-o", path, "abc1")
	info, err := os.Stat(path)
	if got.Err != nil || got.Stdout != "" || err != nil || info.Size() == 0 || info.Mode() != 0o600 {
		t.Errorf("%+v, %+v, %v", got, info, err)
	}
}

// TestManifestOf: the document of an image, with its type, from the store.
func TestManifestOf(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	text := `{"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}`
	good, err := m.Store.WriteBlob([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	bad, err := m.Store.WriteBlob([]byte("not JSON"))
	if err != nil {
		t.Fatal(err)
	}
	m.Run(func(app *command.App) *cobra.Command {
		return &cobra.Command{Use: "mica", RunE: func(cmd *cobra.Command, _ []string) error {
			if err := app.Open(cmd.Context()); err != nil {
				return err
			}
			if mediaType, raw, err := manifestOf(app, good); mediaType != "application/vnd.oci.image.manifest.v1+json" || string(raw) != text || err != nil {
				t.Errorf("%s, %s, %v", mediaType, raw, err)
			}
			for _, d := range []digest.Digest{bad, digest.FromString("no blob"), ""} {
				if _, _, err := manifestOf(app, d); err == nil {
					t.Errorf("%q is a manifest", d)
				}
			}
			return nil
		}}
	})
}

// TestListFormats: the columns of a list, and what templates and scripts see.
func TestListFormats(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	started := time.Now().Add(-80 * time.Minute)
	steps := []*history.Step{{Vertex: "a", State: history.StepCached}, {Vertex: "b", State: history.StepRan}, {Vertex: "c"}}
	long := strings.Repeat("long", 12)
	add(t, m, &history.Build{Ref: "one", Line: "l", Context: "/x/" + long, Started: started, Completed: started.Add(1500 * time.Millisecond), Status: history.Completed, Steps: steps})
	w := add(t, m, &history.Build{Ref: "two", Line: "l", Context: "/y/web", Started: started.Add(time.Minute), Status: history.Running})
	for args, want := range map[string]string{
		"--format {{.Ref}};{{.Status}};{{.Duration}};{{.Steps}}": "two;Running;1h 19m+;0 (0 cached)\none;Completed;1.5s;2 (1 cached)\n",
		"--format {{.CreatedAt}}":                                "About an hour ago\nAbout an hour ago\n",
		"-q --format table":                                      "two\none\n",
		"-q":                                                     "two\none\n",
		"--format {{.Name}}":                                     "web\n" + long[:35] + "…\n",
		"--no-trunc --format {{.Name}}":                          "web\n" + long + "\n",
		"--format json":                                          `{"CreatedAt":"About an hour ago","Duration":"1h 19m+","Name":"web","Ref":"two","Status":"Running","Steps":"0 (0 cached)"}` + "\n" + `{"CreatedAt":"About an hour ago","Duration":"1.5s","Name":"` + long[:35] + `…","Ref":"one","Status":"Completed","Steps":"2 (1 cached)"}` + "\n",
	} {
		got := m.Run(commands, append([]string{"builds", "ls"}, strings.Fields(args)...)...)
		if got.Stdout != want || got.Err != nil {
			t.Errorf("%s: %q, %v, want %q", args, got.Stdout, got.Err, want)
		}
	}
	header := commandtest.Columns(m.Run(commands, "builds", "list", "--format", "table {{.Steps}}\t{{.Ref}}").Stdout)
	if header != "STEPS  BUILD ID\n0 (0 cached)  two\n2 (1 cached)  one\n" {
		t.Errorf("%q", header)
	}
	if got := m.Run(commands, "builds", "ls", "--format", "{{.No}}"); got.Err == nil {
		t.Error("a field that does not exist is shown")
	}
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
}

// TestCosts: what the steps of several builds have cost, for people and for scripts; a step of one build, and the limits of the flag.
func TestCosts(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	layer := digest.FromString("layer")
	for i := range 3 {
		started := time.Now().Add(time.Duration(i-10) * time.Minute)
		copied := &history.Step{Vertex: "sha256:copy", Name: "[2/3] COPY . .", Line: 2, State: history.StepRan, Started: started, Completed: started.Add(100 * time.Millisecond), Layer: layer, Size: 1000}
		ran := &history.Step{
			Vertex: "sha256:run", Name: "[3/3] RUN npm ci", Line: 3, State: history.StepRan, Inputs: []digest.Digest{"sha256:copy"}, Started: started, Completed: started.Add(20 * time.Second), Layer: layer, Size: 5000000,
		}
		if i > 0 {
			copied.Causes = []history.Cause{{Kind: history.File, Name: "main.js", Change: history.Content}}
			ran.Causes = []history.Cause{{Kind: history.Result, Step: copied.Vertex}}
		}
		add(t, m, &history.Build{
			Ref: fmt.Sprintf("build%d", i), Line: "line", Started: started, Completed: started.Add(time.Minute), Status: history.Completed, Text: "FROM a\nCOPY . .\nRUN npm ci\n",
			Steps: []*history.Step{copied, ran},
		})
	}
	got := commandtest.Columns(m.Run(commands, "why", "--cost").Stdout)
	want := "STEP  RAN  TIME  WRITTEN  CACHE\n[2/3] COPY . .  3 of 3  0.3s  3kB  0B\n[3/3] RUN npm ci  3 of 3  1m 0s  15MB  0B\n\n" +
		"RUN npm ci (line 3) ran 2 times because of COPY . . (line 2), 40.0s; none of package.json, package-lock.json, npm-shrinkwrap.json, .npmrc changed\n"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for args, want := range map[string]string{
		"--cost ^2 --format {{range.Steps}}{{.Ran}}/{{.Builds}},{{end}}":                                 "1/1,1/1,\n",
		"--cost ^0 npm --format {{range.Steps}}{{.Line}},{{.Time}},{{.Size}}{{end}}":                     "3,1m0s,15000000\n",
		"--cost --format {{range.Steps}}{{range.Reruns}}{{.Times}},{{.ForThem}},{{.Copy}}{{end}}{{end}}": "2,0,[2/3] COPY . .\n",
	} {
		if got := m.Run(commands, append([]string{"why"}, strings.Fields(args)...)...); got.Stdout != want || got.Err != nil {
			t.Errorf("%s: %q, %v, want %q", args, got.Stdout, got.Err, want)
		}
	}
	for _, args := range [][]string{{"--cost", "--against", "build0"}, {"--cost", "^0", "nothing"}, {"--cost", "--format", "{{.No}}"}} {
		if got := m.Run(commands, append([]string{"why"}, args...)...); got.Err == nil || slices.Contains(args, "nothing") && got.Stdout != "" {
			t.Errorf("%q: %+v", args, got)
		}
	}
}
