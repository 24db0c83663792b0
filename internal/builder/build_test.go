package builder

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	bkclient "github.com/moby/buildkit/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/store"
)

var amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}

// newBuilder is a builder with an empty store. It runs no process, and so needs no runtime.
func newBuilder(t *testing.T) *Builder {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	host, err := sandbox.NewHost(s, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	layers := layer.New(s)
	return &Builder{Store: s, Layers: layers, Images: image.New(s, layers), Host: host, Registry: registry.New(registry.Options{})}
}

// memorySink is a file in memory.
type memorySink struct {
	bytes.Buffer
	committed bool
}

func (m *memorySink) Commit() error { m.committed = true; return nil }
func (*memorySink) Close() error    { return nil }

// build builds a directory with outputs in the form of --output. Archives are returned by their names.
func build(t *testing.T, b *Builder, dir string, spec buildspec.Spec, outputs ...string) (*Result, map[string]*memorySink, error) {
	t.Helper()
	var err error
	if spec.Outputs, err = buildspec.ParseOutputs(outputs); err != nil {
		t.Fatal(err)
	}
	files := map[string]*memorySink{}
	create := func(dest string) (Sink, error) {
		files[dest] = &memorySink{}
		return files[dest], nil
	}
	res, err := b.Build(t.Context(), Options{Spec: spec, Context: DirContext{Dir: dir}, Create: create})
	return res, files, err
}

// mustBuild is build without an error.
func mustBuild(t *testing.T, b *Builder, dir string, spec buildspec.Spec, outputs ...string) (*Result, map[string]*memorySink) {
	t.Helper()
	res, files, err := build(t, b, dir, spec, outputs...)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range files {
		if !f.committed {
			t.Errorf("%s was not committed", name)
		}
	}
	return res, files
}

// members lists a tar's files with their content, and directories without.
func members(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	all := map[string]string{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		all[h.Name] = string(data)
	}
}

// filesBelow lists the regular files of a directory with their content.
func filesBelow(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, relErr := filepath.Rel(dir, path)
		all[rel] = string(data)
		return errors.Join(err, relErr)
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestBuildImage(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	dir := writeFiles(t, map[string]string{
		"Dockerfile": "FROM scratch AS base\nARG V=1\nLABEL v=$V\nCOPY a /\nFROM base\nCOPY b /dir/\nENV E=x\n", "a": "a", "b": "b",
	})
	res, _ := mustBuild(t, b, dir, buildspec.Spec{
		Tags: []string{"app:1", "other"}, BuildArgs: map[string]string{"V": "2"}, Labels: map[string]string{"l": "m"},
	}, "type=image,name=third")
	if want := []string{"docker.io/library/app:1", "docker.io/library/other:latest", "docker.io/library/third:latest"}; !slices.Equal(res.Names, want) {
		t.Errorf("names %v, want %v", res.Names, want)
	}
	if !res.Written || res.Root.Digest != res.Image.Target.Digest || oci.IsIndex(res.Root.MediaType) {
		t.Errorf("written %t, root %v, image %v", res.Written, res.Root, res.Image.Target)
	}
	for _, name := range []string{"app:1", "other", "third"} {
		img, err := b.Images.Find(t.Context(), name)
		if err != nil || img.ID != res.Image.ID {
			t.Errorf("%s: %v, %v", name, img, err)
		}
	}
	config := res.Image.Config
	if diff := cmp.Diff(map[string]string{"v": "2", "l": "m"}, config.Config.Labels); diff != "" {
		t.Error(diff)
	}
	if !slices.Contains(config.Config.Env, "E=x") || len(config.RootFS.DiffIDs) != 2 {
		t.Errorf("env %v, layers %v", config.Config.Env, config.RootFS.DiffIDs)
	}
	var empty []bool
	for _, h := range config.History {
		empty = append(empty, h.EmptyLayer)
	}
	if want := []bool{true, true, false, false, true}; !slices.Equal(empty, want) {
		t.Errorf("empty layers of the history %v, want %v", empty, want)
	}
	again, _ := mustBuild(t, b, dir, buildspec.Spec{BuildArgs: map[string]string{"V": "2"}, Labels: map[string]string{"l": "m"}})
	if again.Image.ID != res.Image.ID {
		t.Errorf("built again, the image is %s, not %s", again.Image.ID, res.Image.ID)
	}
}

func TestBuildFiles(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY . /d/\n", "a": "a", "ignored": "x", ".dockerignore": "ignored\n.dockerignore\nDockerfile\n"})
	out := filepath.Join(t.TempDir(), "out")
	if err := os.MkdirAll(out, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(out, "old"), []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	res, archives := mustBuild(t, b, dir, buildspec.Spec{}, "type=tar,dest=x", "type=local,dest="+out)
	if res.Written || res.Image == nil {
		t.Errorf("written %t, image %v: files alone have an ID, and are not an image", res.Written, res.Image)
	}
	if diff := cmp.Diff(map[string]string{"d/": "", "d/a": "a"}, members(t, archives["x"])); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"d/a": "a", "old": "old"}, filesBelow(t, out)); diff != "" {
		t.Error(diff)
	}
	mustBuild(t, b, dir, buildspec.Spec{}, "type=local,mode=delete,dest="+out)
	if diff := cmp.Diff(map[string]string{"d/a": "a"}, filesBelow(t, out)); diff != "" {
		t.Error(diff)
	}
}

func TestBuildArchives(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "a"})
	layout := filepath.Join(t.TempDir(), "layout")
	res, archives := mustBuild(t, b, dir, buildspec.Spec{Tags: []string{"app"}},
		"type=oci,dest=oci,annotation.a=b", "type=docker,dest=docker", "type=oci,tar=false,dest="+layout)
	if !res.Written {
		t.Error("an archive is an image")
	}
	if m := members(t, archives["oci"]); m["oci-layout"] == "" || !strings.Contains(m["index.json"], "app:latest") {
		t.Errorf("OCI archive: %v", m["index.json"])
	}
	if m := members(t, archives["docker"]); !strings.Contains(m["manifest.json"], `"app:latest"`) {
		t.Errorf("Docker archive: %v", m["manifest.json"])
	}
	if m := filesBelow(t, layout); m["oci-layout"] == "" || m["index.json"] == "" {
		t.Errorf("layout: %v", slices.Sorted(maps.Keys(m)))
	}
	// A layout is a context for another build.
	user := writeFiles(t, map[string]string{"Dockerfile": "FROM base\nCOPY b /\n", "b": "b"})
	_, archives = mustBuild(t, newBuilder(t), user, buildspec.Spec{Contexts: map[string]string{"base": "oci-layout://" + layout}}, "type=tar,dest=x")
	if diff := cmp.Diff(map[string]string{"a": "a", "b": "b"}, members(t, archives["x"])); diff != "" {
		t.Error(diff)
	}
}

func TestBuildPlatforms(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	platforms, err := buildspec.ParsePlatforms([]string{"linux/amd64,linux/arm64"})
	if err != nil {
		t.Fatal(err)
	}
	spec := buildspec.Spec{Platforms: platforms}
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "a"})
	res, archives := mustBuild(t, b, dir, spec, "type=image,annotation-index.k=v", "type=tar,dest=split", "type=oci,dest=oci")
	if !oci.IsIndex(res.Root.MediaType) {
		t.Fatalf("root is %s", res.Root.MediaType)
	}
	raw, err := b.Store.ReadBlob(res.Root.Digest)
	if err != nil {
		t.Fatal(err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil || len(index.Manifests) != 2 || index.Manifests[1].Platform.Architecture != "arm64" {
		t.Errorf("%s, %v", raw, err)
	}
	if diff := cmp.Diff(map[string]string{"linux_amd64/": "", "linux_amd64/a": "a", "linux_arm64/": "", "linux_arm64/a": "a"}, members(t, archives["split"])); diff != "" {
		t.Error(diff)
	}
	out := t.TempDir()
	for output, want := range map[string]string{
		"type=docker,dest=x":                          "docker exporter does not support exporting manifest lists, use type=oci or type=image instead",
		"type=local,platform-split=false,dest=" + out: "cannot overwrite a from linux/amd64 with linux/arm64 when split option is disabled: omit platform-split=false",
	} {
		if _, _, err := build(t, b, dir, spec, output); text(err) != want {
			t.Errorf("%s: %v, want %q", output, err, want)
		}
	}
}

func TestBuildAttestations(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "a"})
	spec := buildspec.Spec{Attests: buildspec.Attests{"provenance": {"mode": "max"}}}
	res, archives := mustBuild(t, b, dir, spec, "type=image", "type=tar,dest=x,attestation-prefix=p.")
	if !oci.IsIndex(res.Root.MediaType) {
		t.Errorf("an image with attestations has an index, not %s", res.Root.MediaType)
	}
	files := members(t, archives["x"])
	var statement struct {
		PredicateType string `json:"predicateType"`
		Subject       []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(files["p.provenance.json"]), &statement); err != nil {
		t.Fatalf("%v in %v", err, slices.Sorted(maps.Keys(files)))
	}
	if !strings.HasPrefix(statement.PredicateType, "https://slsa.dev/provenance/") || len(statement.Subject) != 1 || statement.Subject[0].Name != "a" {
		t.Errorf("%+v", statement)
	}
	// Without attestations, the record has the provenance all the same.
	o := Options{Spec: buildspec.Spec{Outputs: []buildspec.Output{{Type: buildspec.OutputNone}}}, Context: DirContext{Dir: dir}, Record: true}
	res, err := b.Build(t.Context(), o)
	if err != nil || !strings.Contains(string(res.Provenance[""]), "buildType") || res.Written {
		t.Errorf("%s, %v", res.Provenance[""], err)
	}
}

func TestBuildEpoch(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "a"})
	spec := buildspec.Spec{BuildArgs: map[string]string{"SOURCE_DATE_EPOCH": "60"}}
	res, archives := mustBuild(t, newBuilder(t), dir, spec, "type=image,rewrite-timestamp=true", "type=tar,dest=x", "type=tar,dest=y,source-date-epoch=30")
	if at := res.Image.Config.Created; at == nil || at.Unix() != 60 {
		t.Errorf("created %v", at)
	}
	for name, want := range map[string]int64{"x": 60, "y": 30} {
		h, err := tar.NewReader(archives[name]).Next()
		if err != nil || h.ModTime.Unix() != want {
			t.Errorf("%s: %v, %v, want %d", name, h, err, want)
		}
	}
	again, _ := mustBuild(t, newBuilder(t), dir, spec, "type=image,rewrite-timestamp=true")
	if again.Root.Digest != res.Root.Digest {
		t.Errorf("in another store the image is %s, not %s", again.Root.Digest, res.Root.Digest)
	}
}

// TestEpochSources: an output has its own SOURCE_DATE_EPOCH, or that of the request, or that which the front end has found in the Dockerfile.
func TestEpochSources(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, map[string]string{"Dockerfile": "ARG SOURCE_DATE_EPOCH=60\nFROM scratch\nCOPY a /\n", "a": "a"})
	b := newBuilder(t)
	for name, c := range map[string]struct {
		arg, output string
		want        string // "" for no limit
	}{
		"Dockerfile":                     {want: "60"},
		"argument":                       {arg: "50", want: "50"},
		"output":                         {arg: "50", output: ",source-date-epoch=40", want: "40"},
		"no limit":                       {arg: "50", output: ",source-date-epoch="},
		"a value that the front end has": {arg: "context"}, // a directory has no time
	} {
		spec := buildspec.Spec{}
		if c.arg != "" {
			spec.BuildArgs = map[string]string{"SOURCE_DATE_EPOCH": c.arg}
		}
		res, archives := mustBuild(t, b, dir, spec, "type=oci,dest=x,rewrite-timestamp=true"+c.output)
		var m ocispec.Manifest
		if err := json.Unmarshal([]byte(members(t, archives["x"])["blobs/sha256/"+res.Root.Digest.Encoded()]), &m); err != nil {
			t.Fatal(err)
		}
		if got := m.Layers[0].Annotations[clampedNote]; got != c.want {
			t.Errorf("%s: the layer has the times of %q, want %q", name, got, c.want)
		}
		if at := res.Image.Config.Created.Unix(); c.want != "" && strconv.FormatInt(at, 10) != c.want {
			t.Errorf("%s: created at %d, want %s", name, at, c.want)
		}
	}
}

func TestBuildCall(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, map[string]string{"Dockerfile": "from scratch\nCOPY a /\n"})
	res, _ := mustBuild(t, newBuilder(t), dir, buildspec.Spec{Call: buildspec.Call{Name: "lint"}})
	if !strings.Contains(string(res.Response["result.json"]), "ConsistentInstructionCasing") || res.Image != nil {
		t.Errorf("%s", res.Response["result.json"])
	}
}

func TestBuildErrors(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	before, _ := mustBuild(t, b, writeFiles(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}), buildspec.Spec{Tags: []string{"app"}})
	for name, c := range map[string]struct {
		files map[string]string
		spec  buildspec.Spec
		want  string
	}{
		"no Dockerfile": {want: "failed to solve: failed to read dockerfile: open "},
		"no file":       {files: map[string]string{"Dockerfile": "FROM scratch\nCOPY f /\n"}, want: "failed to solve: "},
		"instruction":   {files: map[string]string{"Dockerfile": "FROM scratch\nCOPPY f /\n"}, want: "failed to solve: dockerfile parse error on line 2: unknown instruction: COPPY"},
		"stage":         {files: map[string]string{"Dockerfile": "FROM scratch\n"}, spec: buildspec.Spec{Target: "t"}, want: "failed to solve: target stage \"t\" could not be found"},
		"tag":           {files: map[string]string{"Dockerfile": "FROM scratch\n"}, spec: buildspec.Spec{Tags: []string{"A"}}, want: `invalid tag "A"`},
		"entitlement":   {files: map[string]string{"Dockerfile": "FROM scratch\n"}, spec: buildspec.Spec{Allow: []string{"x"}}, want: "unknown entitlement x"},
		"layout": {
			files: map[string]string{"Dockerfile": "FROM a\n"}, spec: buildspec.Spec{Contexts: map[string]string{"a": "oci-layout:///no/such:1@sha256:x"}},
			want: "context a: oci-layout:///no/such:1@sha256:x: no such file or directory",
		},
		"ignore file": {
			files: map[string]string{"Dockerfile": "FROM scratch\nCOPY . /\n", ".dockerignore": "a\n!\n"},
			want:  `failed to solve: .dockerignore:2: invalid pattern "!": illegal exclusion pattern: "!"`,
		},
		"long ignore file": {
			files: map[string]string{"Dockerfile": "FROM scratch\nCOPY . /\n", ".dockerignore": strings.Repeat("a\n", 20_000)},
			want:  "failed to solve: .dockerignore has 20000 lines: at most 10000 patterns are supported",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.spec.Tags = append(c.spec.Tags, "app")
			_, _, err := build(t, b, writeFiles(t, c.files), c.spec)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if img, err := b.Images.Find(t.Context(), "app"); err != nil || img.ID != before.Image.ID {
				t.Errorf("a failed build moved the name: %v, %v", img, err)
			}
		})
	}
}

// TestBuildEvents: steps and exports are shown, each with its end.
func TestBuildEvents(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	ended := map[string]bool{}
	var warnings []*bkclient.VertexWarning
	events := func(st *solver.Status) {
		mu.Lock()
		defer mu.Unlock()
		for _, v := range st.Vertexes {
			ended[v.Name] = v.Completed != nil
		}
		warnings = append(warnings, st.Warnings...)
	}
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM scratch\ncopy a /\n", "a": "a"})
	_, err := newBuilder(t).Build(t.Context(), Options{Context: DirContext{Dir: dir}, Events: events})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"[internal] load build definition from Dockerfile", "[1/1] COPY a /", "exporting to image"} {
		if !ended[name] {
			t.Errorf("%q has not ended: %v", name, ended)
		}
	}
	if len(warnings) != 1 || !strings.Contains(string(warnings[0].Short), "ConsistentInstructionCasing") {
		t.Errorf("%d warnings", len(warnings))
	}
}
