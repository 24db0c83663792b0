package registrycmd

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/registry/registrytest"
)

func TestManifestInspect(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	index, ours, _ := f.reg.PutPlatforms("app", "1")
	raw := string(f.reg.Manifest("app", "1").Data)
	f.test(t, NewManifestCommand, "inspect --raw REG/app:1", outcome{out: raw})
	f.test(t, NewManifestCommand, "inspect --raw REG/app@"+index.Digest, outcome{out: raw})
	f.test(t, NewManifestCommand, "inspect --raw --insecure REG/any REG/app:1", outcome{out: raw})
	got := f.run(NewManifestCommand, "inspect REG/app:1")
	if !strings.HasPrefix(got.out, "{\n\t\"schemaVersion\": 2,\n\t\"mediaType\": \"application/vnd.oci.image.index.v1+json\",\n\t\"manifests\": [\n\t\t{\n") ||
		!strings.HasSuffix(got.out, "\n\t]\n}\n") || got.err != "" {
		t.Errorf("%+v", got)
	}
	f.fails(t, NewManifestCommand, map[string]string{
		"inspect REG/nosuch": "manifest for REG/nosuch:latest not found: manifest unknown",
		"inspect A":          badName,
	})
	if got := f.run(NewManifestCommand, "inspect -v REG/app@"+ours.Digest); !strings.HasPrefix(got.out, "{\n\t\"Descriptor\": {\n") {
		t.Errorf("of one image: %+v", got)
	}
}

// TestManifestInspectVerbose: a list of docker's records, of which each has its manifest under the name for its media type.
func TestManifestInspectVerbose(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, ours, theirs := f.reg.PutPlatforms("app", "1")
	docker := f.reg.PutImage("app", "", "riscv64", func(c *registrytest.Contents) {
		c.MediaType = "application/vnd.docker.distribution.manifest.v2+json"
	}, registrytest.Layer(t, "f", nil))
	f.reg.PutIndex("app", "2", ours, theirs, docker)
	var list []struct {
		Ref                           string
		Descriptor                    ocispec.Descriptor
		Raw                           []byte
		OCIManifest, SchemaV2Manifest json.RawMessage
	}
	got := f.run(NewManifestCommand, "inspect -v REG/app:2")
	if err := json.Unmarshal([]byte(got.out), &list); err != nil || got.err != "" || len(list) != 3 {
		t.Fatalf("%v, %+v", err, got)
	}
	for i, want := range []registrytest.Descriptor{ours, theirs, docker} {
		l := list[i]
		isDocker := i == 2
		if l.Ref != "REG/app:2" || l.Descriptor.Digest.String() != want.Digest || l.Descriptor.Platform == nil || string(l.Raw) != string(f.reg.Manifest("app", want.Digest).Data) ||
			(l.SchemaV2Manifest != nil) != isDocker || (l.OCIManifest == nil) != isDocker {
			t.Errorf("%d: %+v", i, l)
		}
	}
}

// TestManifestList: a list is made, annotated, shown, pushed and removed.
func TestManifestList(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	one, _ := f.putImage(t, "app", "amd64", "x")
	two, _ := f.putImage(t, "app", "other", "y")
	f.test(t, NewManifestCommand, "create REG/app:list REG/app:amd64", outcome{out: "Created manifest list REG/app:list\n"})
	f.fails(t, NewManifestCommand, map[string]string{
		"create REG/app:list REG/app:other":     "refusing to amend an existing manifest list with no --amend flag",
		"create -a REG/app:list REG/app:nosuch": "manifest for REG/app:nosuch not found: manifest unknown",
	})
	f.test(t, NewManifestCommand, "create --amend REG/app:list REG/app:other", outcome{out: "Created manifest list REG/app:list\n"})
	f.test(t, NewManifestCommand, "annotate --os linux --arch arm --variant v7 REG/app:list REG/app:other", outcome{})
	f.test(t, NewManifestCommand, "annotate --os-version 10 --os-features a,b REG/app:list REG/app:amd64", outcome{})
	want := map[string]ocispec.Platform{
		one: {OS: "linux", Architecture: "amd64", OSVersion: "10", OSFeatures: []string{"a", "b"}},
		two: {OS: "linux", Architecture: "arm", Variant: "v7"},
	}
	if diff := cmp.Diff(want, platformsOf(t, f.run(NewManifestCommand, "inspect REG/app:list").out)); diff != "" {
		t.Error(diff)
	}
}

// platformsOf are the platforms of an index by the digests of its images.
func platformsOf(t *testing.T, text string) map[string]ocispec.Platform {
	t.Helper()
	var index ocispec.Index
	if err := json.Unmarshal([]byte(text), &index); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	all := map[string]ocispec.Platform{}
	for _, m := range index.Manifests {
		all[m.Digest.String()] = *m.Platform
	}
	return all
}

func TestManifestPush(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	one, _ := f.putImage(t, "app", "amd64", "x")
	f.run(NewManifestCommand, "create REG/list:1 REG/app:amd64")
	got := f.run(NewManifestCommand, "push REG/list:1")
	pushed := f.reg.Manifest("list", "1").Data
	if got.out != registrytest.Digest(pushed)+"\n" || got.err != "" || platformsOf(t, string(pushed))[one].Architecture != "amd64" {
		t.Errorf("%+v, %s", got, pushed)
	}
	f.test(t, NewManifestCommand, "inspect --raw REG/list:1", outcome{out: string(pushed)})
	if got := f.run(NewManifestCommand, "push --purge REG/list:1"); got.err != "" {
		t.Errorf("%+v", got)
	}
	if got := f.run(NewManifestCommand, "push REG/list:1"); !strings.Contains(got.err, "REG/list:1") {
		t.Errorf("after --purge: %+v", got)
	}
}

func TestManifestRm(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.putImage(t, "app", "1", "x")
	f.run(NewManifestCommand, "create REG/list:1 REG/app:1")
	f.run(NewManifestCommand, "create REG/list:2 REG/app:1")
	f.test(t, NewManifestCommand, "rm REG/list:1 REG/list:3 REG/list:2", outcome{err: "No such manifest: REG/list:3"})
	f.fails(t, NewManifestCommand, map[string]string{
		"rm REG/list:1": "No such manifest: REG/list:1", "rm REG/list:2": "No such manifest: REG/list:2", "rm A": badName,
	})
}

func TestManifestFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.putImage(t, "app", "1", "x")
	digested := "REG/app@sha256:" + strings.Repeat("0", 64)
	f.fails(t, NewManifestCommand, map[string]string{
		"dance":                             "mica: unknown command: manifest dance\n\nUsage:  manifest [flags]\n\nRun 'manifest --help' for more information",
		"create " + digested + " REG/app:1": digested + ": a name with a digest cannot be given to anything",
		"create A REG/app:1":                badName,
		"create REG/list A":                 badName,
		"annotate A REG/app:1":              badName,
		"annotate REG/list A":               badName,
		"push A":                            badName,
		"create REG/list":                   "mica: 'manifest create' requires at least 2 arguments\n\nUsage:  manifest create MANIFEST_LIST MANIFEST [MANIFEST...] [flags]\n\nSee 'manifest create --help' for more information",
	})
	for _, args := range []string{"annotate REG/list REG/app:1", "push REG/list"} {
		if got := f.run(NewManifestCommand, args); got.err == "" || got.out != "" {
			t.Errorf("%s: %+v", args, got)
		}
	}
}
