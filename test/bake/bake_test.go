//go:build e2e

// Package bake builds the targets of bake files, as `docker buildx bake` does. It needs root, for the base image.
package bake

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// project is a directory with files, and a mica that has the base image.
func project(t *testing.T, files map[string]string) (*rig.Mica, func(args ...string) rig.Output) {
	t.Helper()
	m, dir := rig.NewMica(t), rig.TempDir(t)
	rig.ImportBusybox(t, m, "base")
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return m, func(args ...string) rig.Output {
		cmd := m.Command(append([]string{"bake"}, args...)...)
		cmd.Dir = dir
		return rig.Run(t, cmd)
	}
}

const hcl = `
variable "TAG" { default = "v1" }
group "default" { targets = ["app", "tool"] }
target "common" {
  labels = { made = "here" }
}
target "base" {
  inherits = ["common"]
  dockerfile-inline = "FROM base\nRUN echo base >/b"
}
target "app" {
  inherits = ["common"]
  contexts = { b = "target:base", data = "data" }
  dockerfile-inline = "FROM b\nARG X\nCOPY --from=data f /f\nRUN --mount=type=secret,id=s cat /run/secrets/s | wc -c >/n; echo $X >/x"
  args = { X = upper("hi") }
  secret = ["id=s,src=secret"]
  tags = ["app:${TAG}"]
}
target "tool" {
  name = "tool-${v}"
  matrix = { v = ["1", "2"] }
  dockerfile-inline = "FROM base\nRUN echo ${v} >/v"
  tags = ["tool:${v}"]
}
`

func TestTargets(t *testing.T) {
	m, bake := project(t, map[string]string{"docker-bake.hcl": hcl, "data/f": "data\n", "secret": "12345"})
	if out := bake("--metadata-file", filepath.Join(m.Root, "..", "meta.json")); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	if got := m.Run("run", "--rm", "app:v1", "cat", "/x", "/b", "/f", "/n"); got != "HI\nbase\ndata\n5\n" {
		t.Errorf("app holds %q", got)
	}
	for _, v := range []string{"1", "2"} {
		if got := m.Run("run", "--rm", "tool:"+v, "cat", "/v"); got != v+"\n" {
			t.Errorf("tool:%s holds %q", v, got)
		}
	}
	if got := m.Run("inspect", "-f", "{{.Config.Labels.made}}", "app:v1"); got != "here\n" {
		t.Errorf("the label that is inherited is %q", got)
	}
	data, err := os.ReadFile(filepath.Join(m.Root, "..", "meta.json"))
	var meta map[string]map[string]any
	if err == nil {
		err = json.Unmarshal(data, &meta)
	}
	if err != nil || meta["app"]["containerimage.digest"] == nil {
		t.Errorf("metadata %s: %v", data, err)
	}
	// Nothing but what the command line changes is another build.
	if out := bake("--set", "app.args.X=set", "--set", "app.tags=other", "app"); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	if got := m.Run("run", "--rm", "other", "cat", "/x"); got != "set\n" {
		t.Errorf("set by the command line, it holds %q", got)
	}
}

func TestPrint(t *testing.T) {
	_, bake := project(t, map[string]string{"docker-bake.hcl": hcl})
	out := bake("--print", "--var", "TAG=v2", "app")
	var got struct {
		Target map[string]struct {
			Args map[string]string
			Tags []string
		}
	}
	if err := json.Unmarshal([]byte(out.Stdout), &got); err != nil || got.Target["app"].Args["X"] != "HI" || got.Target["app"].Tags[0] != "app:v2" {
		t.Errorf("%v: %s%s", err, out.Stdout, out.Stderr)
	}
	if out := bake("--list", "targets"); !strings.HasPrefix(out.Stdout, "TARGET") || !strings.Contains(out.Stdout, "tool-2") {
		t.Errorf("%s%s", out.Stdout, out.Stderr)
	}
}

func TestCompose(t *testing.T) {
	m, bake := project(t, map[string]string{
		"compose.yaml":   "services:\n  web:\n    image: web:1\n    build:\n      context: web\n      args: {X: composed}\n",
		"web/Dockerfile": "FROM base\nARG X\nRUN echo $X >/x\n",
	})
	if out := bake(); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	if got := m.Run("run", "--rm", "web:1", "cat", "/x"); got != "composed\n" {
		t.Errorf("it holds %q", got)
	}
}

// TestBuildxGrammar has what buildx takes in targets and their outputs, and public files have.
func TestBuildxGrammar(t *testing.T) {
	m, bake := project(t, map[string]string{"docker-bake.hcl": `
target "base" {
  dockerfile-inline = "FROM base"
  platforms = ["local"]
  output = [""]
}
target "app" {
  contexts = { base = "target:base" }
  dockerfile-inline = "FROM base\nRUN echo app >/x"
  platforms = ["local"]
  targets = ["base"]
  output = ["", "type=image,name=app:v1,buildinfo=false,insecure=true,registry.insecure=true,store=true,unpack="]
}
target "both" {
  dockerfile-inline = "FROM scratch\nCOPY docker-bake.hcl /"
  platforms = ["linux/amd64,linux/arm64"]
  tags = ["both"]
}
target "typo" {
  dockerfile-inline = "FROM scratch\nCOPY docker-bake.hcl /"
  output = ["type=image,name=typo,pusg=true"]
}
`})
	if out := bake("--print", "base"); strings.Contains(out.Stdout, "output") || !strings.Contains(out.Stdout, `"local"`) {
		t.Errorf("%s%s", out.Stdout, out.Stderr)
	}
	out := bake("app")
	if out.Code != 0 || !strings.Contains(out.Stderr, `WARNING: docker-bake.hcl:11,3-10: Unsupported argument; An argument named "targets"`) {
		t.Fatalf("exit code %d: %s", out.Code, out.Stderr)
	}
	if got := m.Run("run", "--rm", "app:v1", "cat", "/x"); got != "app\n" {
		t.Errorf("app holds %q", got)
	}
	if out := bake("both", "--set", "both.output="); out.Code != 0 {
		t.Error(out.Stderr)
	}
	if got := m.Run("images", "--tree", "both"); !strings.Contains(got, "linux/arm64") {
		t.Errorf("of both platforms there is %s", got)
	}
	if out := bake("typo"); out.Code != 0 || !strings.Contains(out.Stderr, `WARNING: output type image has no attribute "pusg": it is not used`) {
		t.Errorf("exit code %d: %s", out.Code, out.Stderr)
	}
}

// TestMetadata: the metadata of each target is under its name, and a warning of several appears once.
func TestMetadata(t *testing.T) {
	_, bake := project(t, map[string]string{"docker-bake.hcl": `
group "default" { targets = ["app", "both", "files"] }
target "base" { dockerfile-inline = "FROM base as b" }
target "app" {
  contexts = { x = "target:base" }
  dockerfile-inline = "FROM x"
  tags = ["app", "app:v2"]
}
target "both" {
  dockerfile-inline = "FROM scratch as b\nCOPY docker-bake.hcl /"
  platforms = ["linux/amd64", "linux/arm64"]
}
target "files" {
  dockerfile-inline = "FROM base as b"
  output = ["out"]
}
`})
	t.Setenv("BUILDX_METADATA_WARNINGS", "1")
	file := filepath.Join(rig.TempDir(t), "metadata.json")
	if out := bake("--metadata-file", file); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	data, err := os.ReadFile(file)
	var meta map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(data, &meta)
	}
	if err != nil {
		t.Fatal(err)
	}
	const image = "buildx.build.ref containerimage.descriptor containerimage.digest "
	for name, want := range map[string]string{
		"base":  "buildx.build.provenance buildx.build.ref",
		"app":   "buildx.build.provenance " + image + "containerimage.config.digest image.name",
		"both":  "buildx.build.provenance/linux/amd64 buildx.build.provenance/linux/arm64 " + image,
		"files": "buildx.build.provenance buildx.build.ref",
	} {
		var got map[string]any
		if err := json.Unmarshal(meta[name], &got); err != nil {
			t.Fatal(err)
		}
		for key := range strings.FieldsSeq(want) {
			if got[key] == nil {
				t.Errorf("%s has no %s", name, key)
			}
			delete(got, key)
		}
		if len(got) > 0 {
			t.Errorf("%s has %v, too", name, got)
		}
	}
	var warnings []any
	if err := json.Unmarshal(meta["buildx.build.warnings"], &warnings); err != nil || len(warnings) != 2 || len(meta) != 5 {
		t.Errorf("%v: %s", err, data)
	}
	if out := bake("--metadata-file", "no/such/file"); out.Code == 0 || !strings.Contains(out.Stderr, "--metadata-file no/such/file: no such directory: no/such") {
		t.Errorf("exit code %d: %s", out.Code, out.Stderr)
	}
}

// TestBadInput: a mistake in a file is one line and exit code 1. Unit tests have the mistakes.
func TestBadInput(t *testing.T) {
	_, bake := project(t, map[string]string{"docker-bake.hcl": `target "a" {`})
	out := bake()
	if out.Code != 1 || strings.Count(out.Stderr, "\n") != 1 || !strings.Contains(out.Stderr, "docker-bake.hcl:1,12-13: Unclosed configuration block") {
		t.Errorf("exit code %d: %s", out.Code, out.Stderr)
	}
}
