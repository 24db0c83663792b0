package bake

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/compression"
)

// specOf is the build of the target default of a file.
func specOf(t *testing.T, file string, call buildspec.Call) (*buildspec.Spec, error) {
	t.Helper()
	def, err := read(file)
	if err != nil {
		t.Fatal(err)
	}
	return def.Targets["default"].Spec(call)
}

func TestSpec(t *testing.T) {
	t.Parallel()
	memory := int64(64 << 20)
	image := []buildspec.Output{{Type: buildspec.OutputImage, Lazy: true}}
	for name, c := range map[string]struct {
		file string
		want buildspec.Spec // BuildArgs, Labels, Contexts and Attests that are nil are empty
	}{
		"nothing": {file: `target "default" {}`, want: buildspec.Spec{Path: ".", Dockerfile: "Dockerfile", Outputs: image}},
		"files": {
			file: `target "default" {
  context = "dir"
  dockerfile = "D"
  contexts = { "a:latest" = "./b/", "c" = "docker-image://d", "e" = "cwd://f" }
}`,
			want: buildspec.Spec{Path: "dir", Dockerfile: "dir/D", Outputs: image, Contexts: map[string]string{"a": "b", "c": "docker-image://d", "e": "f"}},
		},
		"remote files": {
			file: "target \"default\" {\n context = \"https://h/x.git\"\n dockerfile = \"D\"\n}",
			want: buildspec.Spec{Path: "https://h/x.git", Dockerfile: "D", Outputs: image},
		},
		"remote Dockerfile": {
			file: `target "default" { dockerfile = "https://h/D" }`, want: buildspec.Spec{Path: ".", Dockerfile: "https://h/D", Outputs: image},
		},
		"inline": {
			file: `target "default" { dockerfile-inline = "FROM scratch" }`,
			want: buildspec.Spec{Path: ".", Inline: []byte("FROM scratch"), Outputs: image},
		},
		"arguments": {
			file: `target "default" {
  args = { A = "1", B = null }
  labels = { l = "m" }
  target = "stage"
  no-cache = true
  pull = true
  no-cache-filter = ["a,b", "c"]
  network = "none"
  tags = ["t"]
}`,
			want: buildspec.Spec{
				Path: ".", Dockerfile: "Dockerfile", Outputs: image, BuildArgs: map[string]string{"A": "1"}, Labels: map[string]string{"l": "m"}, Target: "stage",
				NoCache: true, Pull: true, NoCacheFilter: []string{"a", "b", "c"}, Network: "none", Tags: []string{"t"},
			},
		},
		"limits": {
			file: `target "default" {
  shm-size = "1m"
  ulimits = ["nofile=1:2"]
  resources = { memory = "64m" }
  platforms = ["linux/arm64"]
  extra-hosts = { h = "1.2.3.4" }
  entitlements = ["network.host"]
}`,
			want: buildspec.Spec{
				Path: ".", Dockerfile: "Dockerfile", Outputs: image, ShmSize: 1 << 20, Ulimits: []string{"nofile=1:2"}, Limits: buildspec.Limits{Memory: &memory},
				Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}, Hosts: []buildspec.Host{{Name: "h", Addresses: []string{"1.2.3.4"}}},
				Allow: []string{"network.host"},
			},
		},
		"secrets": {
			file: `target "default" {
  secret = ["id=a,src=f", { id = "b", env = "E" }]
  ssh = ["default", "x=/sock,raw=true"]
}`,
			want: buildspec.Spec{
				Path: ".", Dockerfile: "Dockerfile", Outputs: image, Secrets: []buildspec.Secret{{ID: "a", Src: "f"}, {ID: "b", Env: "E"}},
				SSH: []buildspec.SSH{{ID: "default"}, {ID: "x", Paths: []string{"/sock"}, Raw: true}},
			},
		},
		"caches and attestations": {
			file: `target "default" {
  cache-from = ["a,b"]
  cache-to = [{ type = "inline" }]
  attest = ["type=sbom", "type=provenance,disabled=true"]
}`,
			want: buildspec.Spec{
				Path: ".", Dockerfile: "Dockerfile", Outputs: image, CacheFrom: []buildspec.Cache{
					{Type: "registry", Ref: "a", Compression: compression.Gzip}, {Type: "registry", Ref: "b", Compression: compression.Gzip},
				},
				CacheTo: []buildspec.Cache{{Type: "inline", Compression: compression.Gzip}}, Attests: buildspec.Attests{"sbom": {}},
			},
		},
		"outputs": {
			file: "target \"default\" {\n output = [\"out\", \"type=oci,dest=x\", \"type=cacheonly\"]\n annotations = [\"a=b\"]\n}",
			want: buildspec.Spec{Path: ".", Dockerfile: "Dockerfile", Outputs: []buildspec.Output{
				{Type: "local", Dest: "out", Directory: true, Form: buildspec.Form{Annotations: map[string]string{}}},
				{Type: "oci", Dest: "x", Form: buildspec.Form{Annotations: map[string]string{"annotation.a": "b"}}},
			}},
		},
		"for the cache": {
			file: "target \"default\" {\n output = [\"type=cacheonly\"]\n tags = [\"t\"]\n}",
			want: buildspec.Spec{Path: ".", Dockerfile: "Dockerfile", Outputs: []buildspec.Output{{Type: "image", Unnamed: true}}},
		},
		"call": {
			file: `target "default" { call = "check" }`,
			want: buildspec.Spec{Path: ".", Dockerfile: "Dockerfile", Outputs: image, Call: buildspec.Call{Name: "lint", JSON: true}},
		},
		"build": {
			file: `target "default" { call = "build" }`, want: buildspec.Spec{Path: ".", Dockerfile: "Dockerfile", Outputs: image},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := specOf(t, c.file, buildspec.Call{JSON: true})
			if err != nil {
				t.Fatal(err)
			}
			want := c.want
			want.AllowDelete = true
			for _, m := range []*map[string]string{&want.BuildArgs, &want.Labels, &want.Contexts} {
				if *m == nil {
					*m = map[string]string{}
				}
			}
			if want.Attests == nil {
				want.Attests = buildspec.Attests{}
			}
			if diff := cmp.Diff(&want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSpecErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file, want string
		printed    bool // mica does not support it, and prints it all the same
	}{
		"context on stdin":    {file: `context = "-"`, want: "context from stdin not allowed in bake"},
		"Dockerfile on stdin": {file: `dockerfile = "-"`, want: "dockerfile from stdin not allowed in bake"},
		"Dockerfile by git":   {file: `dockerfile = "git@h:x.git"`, want: "dockerfile git@h:x.git: only http and https URLs are read"},
		"context of an image": {file: `contexts = { a = "docker-image:b" }`, want: "context a: docker-image:b is not supported"},
		"name of a context":   {file: `contexts = { A = "b" }`, want: "invalid context name A: invalid reference format: repository name (library/A) must be lowercase"},
		"size":                {file: `shm-size = "x"`, want: "invalid value x for shm-size: invalid size: 'x'"},
		"limit":               {file: `ulimits = ["x"]`, want: "invalid ulimit x: invalid ulimit argument: x"},
		"memory":              {file: `resources = { memory = "x" }`, want: `invalid resource "memory=x": invalid size: 'x'`},
		"platform":            {file: `platforms = ["a/b/c/d"]`, want: `invalid platform "a/b/c/d": "a/b/c/d": cannot parse platform specifier: invalid argument`},
		"network":             {file: `network = "bridge"`, want: `network mode "bridge" is not supported: use default, host or none`, printed: true},
		"host":                {file: `extra-hosts = { h = "x" }`, want: `invalid host h=x: "x" is not an IP address`, printed: true},
		"agent":               {file: `ssh = ["a=b,raw=x"]`, want: `invalid ssh "a": raw is true or false, not "x"`, printed: true},
		"cache":               {file: `cache-from = ["type=other"]`, want: `invalid cache "type=other": unknown cache type "other": use registry, local, gha, s3 or azblob, or inline to write one`, printed: true},
		"attestation":         {file: `attest = ["type=x"]`, want: `invalid attestation "type=x": the type is provenance or sbom`, printed: true},
		"output":              {file: `output = ["type=cake"]`, want: `unknown output type "cake": use image, registry, oci, docker, tar, local or cacheonly`, printed: true},
		"annotation":          {file: `annotations = ["x"]`, want: `invalid annotation "x", expected key=value`, printed: true},
		"call":                {file: `call = "dance"`, want: `unknown call "dance": use build, check, outline or targets`, printed: true},
		"policy":              {file: `policy = ["type=x"]`, want: "policy is not supported", printed: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := "target \"default\" {\n" + c.file + "\n}"
			if _, err := specOf(t, file, buildspec.Call{}); err == nil || err.Error() != c.want {
				t.Errorf("%v, want %q", err, c.want)
			}
			def, err := read(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := def.Targets["default"].Check(); (err == nil) != c.printed {
				t.Errorf("printed: %v", err)
			}
		})
	}
}

// TestHidden: results that only other targets and the cache need get no name.
func TestHidden(t *testing.T) {
	t.Parallel()
	def, err := read(`
target "default" { contexts = { a = "target:linked", b = "dir" } }
target "linked" { tags = ["t"] }
`)
	if err != nil {
		t.Fatal(err)
	}
	linked := def.Targets["linked"]
	spec, err := linked.Spec(buildspec.Call{})
	if err != nil || !linked.Hidden() || !linked.Linked() || spec.Tags != nil || !spec.Outputs[0].Unnamed {
		t.Errorf("linked: %t, %+v, %v", linked.Hidden(), spec, err)
	}
	spec, err = def.Targets["default"].Spec(buildspec.Call{})
	if err != nil || def.Targets["default"].Hidden() {
		t.Error(err)
	}
	if diff := cmp.Diff(map[string]string{"b": "dir"}, spec.Contexts); diff != "" {
		t.Error(diff)
	}
}
