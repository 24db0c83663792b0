//go:build e2e

package parity

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/micabuild/mica/test/rig"
)

// TestMetadata compares what both say of results, but for digests and sizes; what buildx adds is named here.
func TestMetadata(t *testing.T) {
	mica := rig.NewMica(t)
	mica.Run("load", "-i", peer.base)
	const provenance = "buildx.build.provenance"
	for i, tt := range []struct {
		name, output string
		opts, args   []string
		env          []string
		own          []string // what buildx adds beside buildx.build.ref
	}{
		{name: "image", output: "type=image,name=docker.io/library/metadata:1", own: []string{provenance}},
		{name: "no name", output: "type=image", own: []string{provenance}},
		{name: "two names", output: `type=image,"name=docker.io/library/metadata:1,docker.io/library/metadata:2"`, own: []string{provenance}},
		{name: "annotated", output: "type=image,annotation-manifest-descriptor.a=b", own: []string{provenance}},
		{
			name: "several platforms", output: "type=image,annotation-index-descriptor.a=b", opts: []string{"platform=linux/amd64,linux/386"},
			args: []string{"--platform", "linux/amd64,linux/386"}, own: []string{provenance + "/linux/amd64", provenance + "/linux/386"},
		},
		{
			name: "attested", output: "type=image,annotation-index-descriptor.a=b", opts: []string{"attest:provenance=mode=max"},
			args: []string{"--provenance", "mode=max"}, own: []string{provenance},
		},
		{name: "oci", output: "type=oci,name=docker.io/library/metadata:1,dest=$OUT/image.tar", own: []string{provenance}},
		{name: "docker", output: "type=docker,dest=$OUT/image.tar", own: []string{provenance}},
		{name: "local", output: "type=local,dest=$OUT/files", own: []string{provenance}},
		{name: "no provenance", output: "type=image", env: []string{"BUILDX_METADATA_PROVENANCE=false"}},
		{name: "disabled", output: "type=image", env: []string{"BUILDX_METADATA_PROVENANCE=disabled"}},
		{
			name: "warnings", output: "type=image", args: []string{"--build-arg", "WARN=1"}, opts: []string{"build-arg:WARN=1"},
			env: []string{"BUILDX_METADATA_WARNINGS=true"}, own: []string{provenance, "buildx.build.warnings"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := "testdata/provenance.txtar"
			if tt.name == "several platforms" {
				file = "testdata/metadata.txtar" // without a base image
			}
			c := readCase(t, file, 1300+i)
			c.ownBase = true
			if tt.name == "warnings" {
				appendTo(t, filepath.Join(c.Dir, c.Dockerfile), "FROM scratch as last\nCOPY attest-all /\n")
			}
			c.Opts, c.Args, c.Env = append(c.Opts, tt.opts...), append(c.Args, tt.args...), append(c.Env, tt.env...)
			dir := filepath.Join(c.Dir, "..")
			output := strings.ReplaceAll(tt.output, "$OUT", dir)
			if out := c.withBuildKit(t, "--output", output, "--metadata-file", dir+"/want.json"); out.Code != 0 {
				t.Fatal(out.Stderr)
			}
			if out := c.mica(t, mica, append([]string{"build", "-o", output, "--metadata-file", dir + "/got.json"}, c.Args...)...); out.Code != 0 {
				t.Fatal(out.Stderr)
			}
			want, got := readMetadata(t, dir+"/want.json"), readMetadata(t, dir+"/got.json")
			for _, key := range append(tt.own, "buildx.build.ref") {
				if got[key] == nil {
					t.Errorf("there is no %s", key)
				}
				delete(got, key)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("metadata differ (-want +got):\n%s", d)
			}
		})
	}
}

// TestProvenanceOfMetadata: it is min unless max is asked for, and there are no times and steps in it then.
func TestProvenanceOfMetadata(t *testing.T) {
	mica := rig.NewMica(t)
	mica.Run("load", "-i", peer.base)
	for i, tt := range []struct {
		env, arg string
		want     bool // steps
	}{
		{arg: "--provenance=mode=max"},
		{env: "min", arg: "--provenance=mode=max"},
		{env: "max"},
		{env: "max", arg: "--provenance=mode=max", want: true},
	} {
		c := readCase(t, "testdata/provenance.txtar", 1400+i)
		file := filepath.Join(c.Dir, "..", "metadata.json")
		if tt.arg != "" {
			c.Args = append(c.Args, tt.arg)
		}
		c.Env = append(c.Env, "BUILDX_METADATA_PROVENANCE="+tt.env)
		if out := c.mica(t, mica, append([]string{"build", "--metadata-file", file}, c.Args...)...); out.Code != 0 {
			t.Fatal(out.Stderr)
		}
		p, _ := readMetadata(t, file)["buildx.build.provenance"].(map[string]any)
		if p["buildType"] != "https://mobyproject.org/buildkit@v1" || p["materials"] == nil {
			t.Errorf("%v: it is %v", tt, p)
		}
		if (p["metadata"] != nil) != (tt.env == "max") || (p["buildConfig"] != nil) != tt.want {
			t.Errorf("%v: there are metadata %v, steps %v", tt, p["metadata"], p["buildConfig"])
		}
	}
}

func appendTo(t *testing.T, name, text string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err == nil {
		err = os.WriteFile(name, append(data, text...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// readMetadata reads a file of metadata without what no two builds have in common. There is none of nothing.
func readMetadata(t *testing.T, name string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]any{}
	}
	var m map[string]any
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"containerimage.digest", "containerimage.config.digest"} {
		if s, ok := m[key].(string); ok && strings.HasPrefix(s, "sha256:") {
			m[key] = "a digest"
		}
	}
	if d, ok := m["containerimage.descriptor"].(map[string]any); ok {
		delete(d, "digest")
		delete(d, "size")
		if notes, ok := d["annotations"].(map[string]any); ok {
			delete(notes, "org.opencontainers.image.created")
			if len(notes) == 0 {
				delete(d, "annotations")
			}
		}
	}
	return m
}
