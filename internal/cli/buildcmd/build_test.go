package buildcmd

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/history"
)

// project is mica beside a directory with Dockerfiles whose builds start no process. In arguments, DIR is the directory.
type project struct {
	*commandtest.Mica
	dir string
}

func newProject(t *testing.T) *project {
	t.Helper()
	p := &project{commandtest.New(t), t.TempDir()}
	for name, text := range map[string]string{
		"Dockerfile":       "# a build\nFROM scratch AS base\nARG V=1\nCOPY a /\nFROM base AS last\nLABEL v=$V\nCOPY b /dir/\n",
		"bad.Dockerfile":   "FROM scratch\nCOPY nosuch /\n",
		"worse.Dockerfile": "FROM scratch\nNONSENSE x\n",
		"lint.Dockerfile":  "from scratch\nCOPY a /\nMAINTAINER x\n",
		"a":                "text a", "b": "text b",
	} {
		p.write(t, name, text)
	}
	return p
}

func (p *project) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (p *project) read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

func (p *project) run(t *testing.T, newCommand func(*command.App) *cobra.Command, args string) commandtest.Result {
	t.Helper()
	return p.RunWith(t.Context(), strings.NewReader(""), newCommand, strings.Fields(strings.ReplaceAll(args, "DIR", p.dir))...)
}

// build runs a build that succeeds, quietly, and returns the image's ID.
func (p *project) build(t *testing.T, args string) string {
	t.Helper()
	got := p.run(t, NewBuildCommand, "-q "+args)
	id, ok := strings.CutSuffix(got.Stdout, "\n")
	if got.Err != nil || got.Stderr != "" || !ok || !strings.HasPrefix(id, "sha256:") {
		t.Fatalf("%s: %+v", args, got)
	}
	return id
}

// TestBuildNames: a quiet build prints the image's ID alone; the names point at the image.
func TestBuildNames(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	id := p.build(t, "-t app -t registry.test/app:2 DIR")
	for _, name := range []string{"app", "registry.test/app:2"} {
		if img, err := p.Images.Find(t.Context(), name); err != nil || img.ID.String() != id || img.Config.Config.Labels["v"] != "1" {
			t.Errorf("%s: %+v, %v, want %s", name, img, err, id)
		}
	}
	if again := p.build(t, "-t app DIR"); again != id {
		t.Errorf("again it is %s, before %s", again, id)
	}
	if other := p.build(t, "--build-arg V=2 -t app --label l=m DIR"); other == id {
		t.Error("another argument makes the same image")
	}
	if img, err := p.Images.Find(t.Context(), "app"); err != nil || !cmp.Equal(img.Config.Config.Labels, map[string]string{"v": "2", "l": "m"}) {
		t.Errorf("%+v, %v", img, err)
	}
}

func TestBuildIDFile(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	if id := p.build(t, "--iidfile DIR/iid --target base DIR"); p.read(t, "iid") != id {
		t.Errorf("%q, want %q", p.read(t, "iid"), id)
	}
}

// TestBuildProgress: the lines are buildx's.
func TestBuildProgress(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	got := p.run(t, NewBuildCommand, "--progress plain -t app DIR")
	if got.Err != nil || got.Stdout != "" {
		t.Fatalf("%+v", got)
	}
	for _, line := range []string{
		"#1 [internal] load build definition from Dockerfile", "#2 [internal] load .dockerignore", "[base 1/1] COPY a /", "[last 1/1] COPY b /dir/",
		"exporting to image", "naming to docker.io/library/app:latest",
	} {
		if !strings.Contains(got.Stderr, line) {
			t.Errorf("no line %q in\n%s", line, got.Stderr)
		}
	}
	if again := p.run(t, NewBuildCommand, "--progress plain DIR"); strings.Count(again.Stderr, " CACHED\n") != 2 {
		t.Errorf("again:\n%s", again.Stderr)
	}
	if again := p.run(t, NewBuildCommand, "--progress plain --no-cache DIR"); strings.Contains(again.Stderr, " CACHED\n") {
		t.Errorf("without the cache:\n%s", again.Stderr)
	}
	if got := p.run(t, NewBuildCommand, "--progress loud DIR"); commandtest.Text(got.Err) != `invalid progress mode "loud": use auto, plain, tty, quiet or rawjson` {
		t.Errorf("%+v", got)
	}
}

// TestBuildError: the lines of the Dockerfile are shown, and then the error of the build.
func TestBuildError(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	for args, c := range map[string]struct{ excerpt, err string }{
		"-f DIR/bad.Dockerfile DIR": {
			"bad.Dockerfile:2\n--------------------\n   1 |     FROM scratch\n   2 | >>> COPY nosuch /\n   3 |     \n--------------------\n",
			"failed to build: bad.Dockerfile:2: failed to solve: failed to compute cache key: \"/nosuch\": not found",
		},
		"-f DIR/worse.Dockerfile DIR": {
			"worse.Dockerfile:2\n--------------------\n   1 |     FROM scratch\n   2 | >>> NONSENSE x\n   3 |     \n--------------------\n",
			"failed to build: worse.Dockerfile:2: failed to solve: dockerfile parse error on line 2: unknown instruction: NONSENSE",
		},
		"--target nosuch DIR": {"", `failed to build: failed to solve: target stage "nosuch" could not be found`},
	} {
		got := p.run(t, NewBuildCommand, args)
		var failed command.FailedBuild
		if !strings.HasSuffix(got.Stderr, c.excerpt) || commandtest.Text(got.Err) != c.err || !errors.As(got.Err, &failed) || got.Stdout != "" {
			t.Errorf("%s: %v, want %q\n%s", args, got.Err, c.err, got.Stderr)
		}
	}
	if images, err := p.Images.List(t.Context()); len(images) > 0 || err != nil {
		t.Errorf("%d images, %v", len(images), err)
	}
}

// TestBuildKeepsTheNameOfAnOldImage: a build that fails changes nothing.
func TestBuildKeepsTheNameOfAnOldImage(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	id := p.build(t, "-t app --iidfile DIR/iid DIR")
	if got := p.run(t, NewBuildCommand, "-t app --iidfile DIR/iid --metadata-file DIR/meta -f DIR/bad.Dockerfile DIR"); got.Err == nil {
		t.Fatalf("%+v", got)
	}
	if img, err := p.Images.Find(t.Context(), "app"); err != nil || img.ID.String() != id || p.read(t, "iid") != id {
		t.Errorf("%+v, %v, iid %s, want %s", img, err, p.read(t, "iid"), id)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "meta")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("metadata: %v", err)
	}
}

func TestBuildWarnings(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	got := p.run(t, NewBuildCommand, "--progress plain -f DIR/lint.Dockerfile DIR")
	want := "\n 2 warnings found:\n - ConsistentInstructionCasing: Command 'from' should match the case of the command majority (uppercase) (line 1)\n" +
		" - MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 3)\n"
	if !strings.HasSuffix(got.Stderr, want) || got.Err != nil {
		t.Errorf("%+v", got)
	}
	if got := p.run(t, NewBuildCommand, "-q --squash --security-opt y DIR"); got.Err != nil || got.Stderr !=
		"WARNING: --security-opt is not used, \"RUN --security=insecure\" is\nWARNING: --squash is not used, for one layer copy from a stage\n" {
		t.Errorf("%+v", got)
	}
}

func TestBuildCall(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	for args, c := range map[string]struct {
		out  string // the beginning
		code int
	}{
		"--check DIR":                        {out: "Check complete, no warnings found.\n"},
		"--check -f DIR/lint.Dockerfile DIR": {"Check complete, 2 warnings have been found!\n\nWARNING: ConsistentInstructionCasing - https://docs.docker.com/", 1},
		"--call check,ignorestatus=true -f DIR/lint.Dockerfile DIR": {out: "Check complete, 2 warnings have been found!\n"},
		"--call outline DIR":                {out: "TARGET: last\n\nBUILD ARG   VALUE   DESCRIPTION\nV           1       \n"},
		"--call targets DIR":                {out: "TARGET         DESCRIPTION\nbase           \nlast (default) \n"},
		"--call targets,format=json DIR":    {out: "{\n  \"targets\": [\n    {\n      \"name\": \"base\",\n"},
		"--print outline --target base DIR": {out: "TARGET: base\n"},
	} {
		got := p.run(t, NewBuildCommand, args)
		var exit *command.ExitError
		if !strings.HasPrefix(got.Stdout, c.out) || (got.Err != nil) != (c.code != 0) || errors.As(got.Err, &exit) && (exit.Code != c.code || exit.Err != nil) {
			t.Errorf("%s: %+v, want %q, exit code %d", args, got, c.out, c.code)
		}
	}
	if images, err := p.Images.List(t.Context()); len(images) > 0 || err != nil {
		t.Errorf("a call builds %d images, %v", len(images), err)
	}
}

// tarMembers are the regular files of a tar, with their content.
func tarMembers(t *testing.T, data string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for r := tar.NewReader(strings.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		if _, err := io.Copy(&text, r); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			all[h.Name] = text.String()
		}
	}
}

func TestBuildOutputs(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	p.build(t, "-o DIR/out -o type=tar,dest=DIR/out.tar -o type=oci,dest=DIR/oci.tar -o type=docker,dest=DIR/docker.tar,name=x:1 DIR")
	files := map[string]string{"a": "text a", "dir/b": "text b"}
	for name, want := range files {
		if got := p.read(t, "out/"+name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if diff := cmp.Diff(files, tarMembers(t, p.read(t, "out.tar"))); diff != "" {
		t.Error(diff)
	}
	if m := tarMembers(t, p.read(t, "oci.tar")); m["oci-layout"] != `{"imageLayoutVersion":"1.0.0"}` || m["index.json"] == "" {
		t.Errorf("%q", m["oci-layout"])
	}
	if m := tarMembers(t, p.read(t, "docker.tar")); !strings.Contains(m["manifest.json"], `"RepoTags":["x:1"]`) {
		t.Errorf("%s", m["manifest.json"])
	}
	got := p.run(t, NewBuildCommand, "--progress quiet -o - --target base DIR")
	if diff := cmp.Diff(map[string]string{"a": "text a"}, tarMembers(t, got.Stdout)); diff != "" || got.Err != nil {
		t.Errorf("stdout: %v\n%s", got.Err, diff)
	}
}

func TestBuildMetadataFile(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	id := p.build(t, "-t app --metadata-file DIR/meta DIR")
	var m map[string]any
	if err := json.Unmarshal([]byte(p.read(t, "meta")), &m); err != nil {
		t.Fatal(err)
	}
	if m["containerimage.config.digest"] != id || m["image.name"] != "docker.io/library/app:latest" || m["containerimage.digest"] == nil {
		t.Errorf("%v", m)
	}
	recorded, err := history.Open(p.Store).Find("")
	if err != nil {
		t.Fatal(err)
	}
	if m["buildx.build.ref"] != "default/default/"+recorded.Ref {
		t.Errorf("ref %q, want that of the build in the history, %s", m["buildx.build.ref"], recorded.Ref)
	}
	provenance, _ := m["buildx.build.provenance"].(map[string]any)
	if provenance["buildType"] != "https://mobyproject.org/buildkit@v1" || provenance["buildConfig"] != nil {
		t.Errorf("%v", provenance)
	}
	if left, err := filepath.Glob(filepath.Join(p.dir, ".meta*")); len(left) > 0 || err != nil {
		t.Errorf("temporary files: %v, %v", left, err)
	}
}

func TestBuildMetadataWarnings(t *testing.T) {
	t.Setenv("BUILDX_METADATA_WARNINGS", "true")
	t.Setenv("BUILDX_METADATA_PROVENANCE", "disabled")
	p := newProject(t)
	p.build(t, "--metadata-file DIR/meta -f DIR/lint.Dockerfile DIR")
	var m struct {
		Warnings   []struct{ Short []byte } `json:"buildx.build.warnings"`
		Provenance any                      `json:"buildx.build.provenance"`
	}
	if err := json.Unmarshal([]byte(p.read(t, "meta")), &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Warnings) != 2 || !strings.HasPrefix(string(m.Warnings[0].Short), "MaintainerDeprecated: ") || m.Provenance != nil {
		t.Errorf("%+v", m)
	}
}

// TestBuildFromStdin: a Dockerfile, or an archive.
func TestBuildFromStdin(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	got := p.RunWith(t.Context(), strings.NewReader("FROM scratch\nENV A=1\n"), NewBuildCommand, "-q", "-")
	if img, err := p.Images.Find(t.Context(), strings.TrimSpace(got.Stdout)); err != nil || !cmp.Equal(img.Config.Config.Env, []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=1"}) {
		t.Errorf("%+v: %+v, %v", got, img, err)
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for name, text := range map[string]string{"D": "FROM scratch\nCOPY f /\n", "f": "in the archive"} {
		err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg})
		if _, writeErr := io.WriteString(w, text); err != nil || writeErr != nil {
			t.Fatal(err, writeErr)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got = p.RunWith(t.Context(), &archive, NewBuildCommand, "--progress", "quiet", "-o", "-", "-f", "D", "-")
	if diff := cmp.Diff(map[string]string{"f": "in the archive"}, tarMembers(t, got.Stdout)); diff != "" || got.Err != nil {
		t.Errorf("%v\n%s", got.Err, diff)
	}
	got = p.RunWith(t.Context(), strings.NewReader("FROM scratch\nCOPY a /from-stdin\n"), NewBuildCommand, "--progress", "quiet", "-o", "-", "-f", "-", p.dir)
	if diff := cmp.Diff(map[string]string{"from-stdin": "text a"}, tarMembers(t, got.Stdout)); diff != "" || got.Err != nil {
		t.Errorf("%v\n%s", got.Err, diff)
	}
}

func TestBuilderPrune(t *testing.T) {
	t.Parallel()
	const question = "WARNING! This will remove all dangling build cache. Are you sure you want to continue? [y/N] "
	p := newProject(t)
	p.build(t, "-t app DIR")
	for _, c := range []struct {
		args, stdin string
		out, err    string // the beginning of stdout
	}{
		{"", "", question, ""},
		{"", "n\n", question, ""},
		{"", "y\n", question + "Total reclaimed space: 0B\n", ""}, // an image has the layers
		{"-a", "", "WARNING! This will remove all build cache. Are you sure you want to continue? [y/N] ", ""},
		{"-a -f --filter until=24h", "", "Total reclaimed space: 0B\n", ""},
		{"-f --keep-storage 1gb", "", "Total reclaimed space: 0B\n", ""},
		{"-f --filter x=y", "", "", `invalid filter "x=y": use until=DURATION, for example until=24h`},
		{"-f --filter x", "", "", `invalid argument "x" for "--filter" flag: bad format of filter (expected name=value)`},
		{"-f --keep-storage x", "", "", `invalid value "x" for --keep-storage: invalid size: 'x'`},
		{"-a --force", "", "Deleted build cache objects:\n", ""},
		{"-a --force", "", "Total reclaimed space: 0B\n", ""},
	} {
		got := p.RunWith(t.Context(), strings.NewReader(c.stdin), NewBuilderPruneCommand, strings.Fields(c.args)...)
		if !strings.HasPrefix(got.Stdout, c.out) || commandtest.Text(got.Err) != c.err {
			t.Errorf("%q, %q: %+v, want %q, %q", c.args, c.stdin, got, c.out, c.err)
		}
	}
	if got := p.run(t, NewBuildCommand, "--progress plain DIR"); strings.Contains(got.Stderr, " CACHED\n") {
		t.Errorf("after the prune:\n%s", got.Stderr)
	}
}
