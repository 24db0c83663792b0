//go:build e2e

// Package buildx builds with docker buildx and its default driver on mica's socket, with the flags that build actions and bake use.
package buildx

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/test/rig"
)

// bench is a docker whose engine is mica with a base image, and a directory to build.
type bench struct {
	*rig.Client
	t        *testing.T
	address  string
	dir, out string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	m, dir := rig.NewMica(t), rig.TempDir(t)
	rig.ImportBusybox(t, m, "base")
	address := rig.Serve(t, m, dir)
	b := &bench{Client: rig.NewClient(t, address, dir), t: t, address: address, dir: rig.TempDir(t), out: rig.TempDir(t)}
	b.write("Dockerfile", "FROM base\nARG V=1\nRUN echo value $V >/v\nCOPY f /\n")
	b.write("f", "of the context\n")
	return b
}

func (b *bench) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// build builds the directory and returns the progress.
func (b *bench) build(args ...string) string {
	b.t.Helper()
	out := b.Try(nil, append(append([]string{"buildx", "build", "--progress", "plain"}, args...), b.dir)...)
	if out.Code != 0 {
		b.t.Fatalf("docker buildx build %s: exit code %d\n%s", strings.Join(args, " "), out.Code, out.Stderr)
	}
	return out.Stderr
}

func (b *bench) read(name string) string {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.out, name))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(data)
}

func (b *bench) file(name string) string { return filepath.Join(b.out, name) }

func (b *bench) metadata(name string) map[string]any {
	b.t.Helper()
	m := map[string]any{}
	if err := json.Unmarshal([]byte(b.read(name)), &m); err != nil {
		b.t.Fatal(err)
	}
	return m
}

// contains requires texts in a command's output.
func contains(t *testing.T, output string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(output, text) {
			t.Errorf("no %q in:\n%s", text, output)
		}
	}
}

// TestActions builds as docker/build-push-action does: into the engine, and with attestations to a registry.
func TestActions(t *testing.T) {
	b, registry := newBench(t), registrytest.New(t)
	b.build("--iidfile", b.file("iid"), "--metadata-file", b.file("meta"), "--tag", "web", "--attest", "type=provenance,mode=max")
	id := b.read("iid")
	if got := strings.TrimSpace(b.Run("images", "-q", "--no-trunc", "web")); got != id || b.metadata("meta")["containerimage.digest"] != id {
		t.Errorf("the image is %s, not %s: %s", got, id, b.read("meta"))
	}
	if got := b.Run("run", "--rm", id, "cat", "/v", "/f"); got != "value 1\nof the context\n" {
		t.Errorf("the image has %q", got)
	}
	if got := strings.TrimSpace(b.Run("build", "-q", b.dir)); got != id {
		t.Errorf("docker build -q: %s, want %s", got, id)
	}

	name := registry.Name("web:1")
	b.build("--push", "--tag", name, "--metadata-file", b.file("pushed"), "--provenance", "mode=max", "--sbom", "true", "--label", "a=b")
	digest, _ := b.metadata("pushed")["containerimage.digest"].(string)
	contains(t, b.Run("buildx", "imagetools", "inspect", name), "Digest:    "+digest, "attestation-manifest", "linux/amd64")
	contains(t, b.Run("buildx", "imagetools", "inspect", name, "--format", "{{json .Provenance}}"), `"buildType"`, `"buildConfig"`)
	contains(t, b.Run("buildx", "imagetools", "inspect", name, "--format", "{{json .SBOM}}"), `"SPDX"`)
	b.Run("buildx", "imagetools", "create", "--tag", registry.Name("web:2"), name)
	if got := b.Run("image", "inspect", "-f", "{{.Id}} {{.Config.Labels.a}}", digest); !strings.HasPrefix(got, "sha256:") || !strings.HasSuffix(got, " b\n") {
		t.Errorf("the digest that was pushed finds %q", got)
	}
}

// TestOutputs writes what each kind of --output names, and several at once.
func TestOutputs(t *testing.T) {
	b := newBench(t)
	b.build("--output", "type=local,dest="+b.file("tree"), "--output", "type=tar,dest="+b.file("tree.tar"), "--output", "type=oci,dest="+b.file("oci.tar"),
		"--output", "type=docker,dest="+b.file("docker.tar"), "--output", "type=image,name=made:1")
	if got := b.read("tree/v"); got != "value 1\n" {
		t.Errorf("%q", got)
	}
	contains(t, rig.Must(t, "tar", "-tf", b.file("tree.tar")), "v\n")
	id := b.Run("images", "-q", "made:1")
	for _, archive := range []string{"oci.tar", "docker.tar"} {
		contains(t, b.Run("load", "-i", b.file(archive)), strings.TrimSpace(id))
	}
	b.build("--load", "--tag", "loaded")
	b.build("--platform", "linux/amd64,linux/arm64", "--tag", "multi", "--build-arg", "V=2", "-f", b.dockerfile("FROM scratch\nCOPY f /\n"))
	contains(t, b.Run("images", "--tree"), "linux/amd64", "linux/arm64")
}

// dockerfile is a Dockerfile outside of the directory.
func (b *bench) dockerfile(text string) string {
	b.t.Helper()
	path := b.file("Other.Dockerfile")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// TestCaches builds from what another build has exported, after the engine has forgotten it.
func TestCaches(t *testing.T) {
	b, registry := newBench(t), registrytest.New(t)
	for kind, cache := range map[string][2]string{
		"registry": {"type=registry,mode=max,ref=" + registry.Name("cache"), "type=registry,ref=" + registry.Name("cache")},
		"local":    {"type=local,mode=max,dest=" + b.file("cache"), "type=local,src=" + b.file("cache")},
		"inline":   {"type=inline", registry.Name("inline:1")},
	} {
		t.Run(kind, func(t *testing.T) {
			b.build("--cache-to", cache[0], "--tag", registry.Name("inline:1"), "--push")
			b.Run("image", "rm", registry.Name("inline:1"))
			b.Run("builder", "prune", "-af")
			out := b.build("--cache-from", cache[1], "--output", "type=local,dest="+b.file("cached-"+kind))
			run := regexp.MustCompile(`(?m)^(#\d+) \[2/3\] RUN `).FindStringSubmatch(out)
			if run == nil || !strings.Contains(out, run[1]+" CACHED\n") {
				t.Errorf("built again:\n%s", out)
			}
		})
	}
}

// TestBake: the matrix of a file, what it prints, and a target for each value.
func TestBake(t *testing.T) {
	b := newBench(t)
	b.write("docker-bake.hcl", `
target "default" {
  name = "app-${v}"
  matrix = { v = ["a", "b"] }
  context = "`+b.dir+`"
  args = { V = v }
  tags = ["app:${v}"]
}
`)
	file := filepath.Join(b.dir, "docker-bake.hcl")
	contains(t, b.Run("buildx", "bake", "--file", file, "--allow", "fs.read="+b.dir, "--print"), `"app-a"`, `"app-b"`, `"V": "b"`)
	b.Run("buildx", "bake", "--file", file, "--allow", "fs.read="+b.dir, "--metadata-file", b.file("bake"), "--set", "*.labels.x=y")
	for _, v := range []string{"a", "b"} {
		if got := b.Run("run", "--rm", "app:"+v, "cat", "/v"); got != "value "+v+"\n" {
			t.Errorf("app:%s has %q", v, got)
		}
	}
	if m := b.metadata("bake"); m["app-a"] == nil || m["app-b"] == nil {
		t.Errorf("metadata: %s", b.read("bake"))
	}
}

// TestHistory: what buildx knows of builds that have ended.
func TestHistory(t *testing.T) {
	b := newBench(t)
	b.build("--provenance", "mode=max", "--tag", "web")
	failed := b.Try(nil, "buildx", "build", "-f", b.dockerfile("FROM base\nRUN exit 3\n"), b.dir)
	contains(t, failed.Stderr, `did not complete successfully: exit code: 3`, ">>> RUN exit 3")
	list := b.Run("buildx", "history", "ls", "--format", "{{.Ref}} {{.Status}}")
	refs := regexp.MustCompile(`(?m)^(\S+) (Completed|Error)$`).FindAllStringSubmatch(list, -1)
	if len(refs) != 2 {
		t.Fatalf("history:\n%s", list)
	}
	for _, r := range refs {
		ref := r[1][strings.LastIndex(r[1], "/")+1:]
		status := map[string]string{"Completed": "exporting to image", "Error": "RUN exit 3"}[r[2]]
		contains(t, b.Run("buildx", "history", "logs", "--progress", "plain", ref)+b.Try(nil, "buildx", "history", "logs", ref).Stderr, status)
		contains(t, b.Run("buildx", "history", "inspect", ref), "Build Steps:")
		b.Run("buildx", "history", "export", "-o", b.file(ref), ref)
		if r[2] == "Completed" {
			contains(t, b.Run("buildx", "history", "trace", ref), `"traceID"`)
			contains(t, b.Run("buildx", "history", "inspect", "attachment", "--type", "provenance", ref), "buildType")
		}
		b.Run("buildx", "history", "rm", ref)
	}
	if got := b.Run("buildx", "history", "ls", "--format", "{{.Ref}}"); got != "" {
		t.Errorf("left: %s", got)
	}
}

// TestUsage: what buildx counts and removes.
func TestUsage(t *testing.T) {
	b := newBench(t)
	b.build()
	inspected := b.Run("buildx", "inspect")
	contains(t, inspected, "Driver:", "running", "linux/amd64")
	// build-push-action attests by default only if it finds such a version.
	if !regexp.MustCompile(`BuildKit version: +v0\.\d+\.\d+\S*-moby\n`).MatchString(inspected) {
		t.Errorf("no version of BuildKit:\n%s", inspected)
	}
	b.Run("buildx", "create", "--name", "remote", "--driver", "remote", b.address)
	if remote := b.Run("buildx", "inspect", "--bootstrap", "--builder", "remote"); strings.Contains(remote, "-moby") ||
		!regexp.MustCompile(`BuildKit version: +v0\.\d+\.\d+`).MatchString(remote) {
		t.Errorf("no version of BuildKit:\n%s", remote)
	}
	contains(t, b.Run("buildx", "ls"), "default")
	if got := b.Run("buildx", "du"); strings.Contains(got, "Total:\t\t0B") {
		t.Errorf("du:\n%s", got)
	}
	contains(t, b.Run("buildx", "prune", "-af"), "Total:")
	contains(t, b.Run("buildx", "du"), "Total:\t\t0B")
}

// TestInvoke: a shell in the result of a build, and in what a step that failed has left.
func TestInvoke(t *testing.T) {
	b := newBench(t)
	for name, test := range map[string]struct{ dockerfile, on string }{
		"result": {"FROM base\nRUN echo in the image >/said\n", "always"},
		"error":  {"FROM base\nRUN echo in the image >/said && exit 3\n", "error"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := b.Program("env", "BUILDX_EXPERIMENTAL=1", "docker", "buildx", "debug", "--invoke", "/bin/sh", "--on", test.on, "build", "-f", b.dockerfile(test.dockerfile), b.dir)
			c := rig.NewConsole(t)
			c.Start(cmd)
			c.Expect("# ")
			c.Type("cat /sai*\n")
			c.Expect("in the image")
			c.Type("exit\n")
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
}
