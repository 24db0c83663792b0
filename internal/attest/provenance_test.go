package attest

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/solver/llbsolver/provenance/types"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	hex40    = "1111111111111111111111111111111111111111"
	hex64    = "2222222222222222222222222222222222222222222222222222222222222222"
	otherHex = "3333333333333333333333333333333333333333333333333333333333333333"
)

// program makes a definition of operations. All of them are inputs of the last one, which is the result.
func program(t *testing.T, ops ...*pb.Op) *pb.Definition {
	t.Helper()
	def := &pb.Definition{}
	add := func(op *pb.Op) *pb.Input {
		raw, err := op.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		def.Def = append(def.Def, raw)
		return &pb.Input{Digest: digest.FromBytes(raw).String()}
	}
	last := ops[len(ops)-1].CloneVT()
	for _, op := range ops[:len(ops)-1] {
		last.Inputs = append(last.Inputs, add(op))
	}
	add(&pb.Op{Inputs: []*pb.Input{add(last)}})
	return def
}

func source(identifier string, attrs map[string]string) *pb.Op {
	return &pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: identifier, Attrs: attrs}}}
}

func process(e *pb.ExecOp) *pb.Op {
	e.Meta = &pb.Meta{Args: []string{"true"}}
	return &pb.Op{Op: &pb.Op_Exec{Exec: e}}
}

// newBuild makes a build of operations, whose sources resolve to pin.
func newBuild(t *testing.T, pin Pin, ops ...*pb.Op) *Build {
	t.Helper()
	return &Build{
		Request: Request{Frontend: "dockerfile.v0", Args: map[string]string{"filename": "Dockerfile"}}, Definition: program(t, ops...),
		Pin:     func(digest.Digest) (Pin, bool) { return pin, true },
		Layers:  func(digest.Digest) map[int][]ocispec.Descriptor { return nil },
		Started: time.Unix(1, 0).UTC(), Finished: time.Unix(2, 0).UTC(), ID: "run",
	}
}

// predicate makes the provenance of a build and parses it.
func predicate(t *testing.T, b *Build, attrs map[string]string) *types.ProvenancePredicateSLSA1 {
	t.Helper()
	a, err := Provenance(t.Context(), b, attrs)
	if err != nil {
		t.Fatal(err)
	}
	p := &types.ProvenancePredicateSLSA1{}
	if err := json.Unmarshal(a.Predicate, p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProvenanceMaterials(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		op         *pb.Op
		pin        Pin
		want       string // URI and digest, "" for no material
		incomplete bool
	}{
		"image": {
			op:   source("docker-image://docker.io/library/app:1@sha256:"+hex64, nil),
			want: "pkg:docker/app@1?digest=sha256:" + hex64 + " sha256:" + hex64,
		},
		"image for a platform": {
			op: &pb.Op{
				Op:       &pb.Op_Source{Source: &pb.SourceOp{Identifier: "docker-image://docker.io/library/app:1@sha256:" + hex64}},
				Platform: &pb.Platform{OS: "linux", Architecture: "arm", Variant: "v7"},
			},
			want: "pkg:docker/app@1?digest=sha256:" + hex64 + "&platform=linux%2Farm%2Fv7 sha256:" + hex64,
		},
		"image of a layout": {
			op:   source("oci-layout://registry.example/x/app:1@sha256:"+hex64, nil),
			want: "pkg:oci/registry.example/x/app@1?digest=sha256:" + hex64 + " sha256:" + hex64,
		},
		"download": {
			op: source("https://files.example/a.tar", nil), pin: Pin{Digest: digest.Digest("sha256:" + otherHex)},
			want: "https://files.example/a.tar sha256:" + otherHex,
		},
		"repository by URL": {
			op:  source("git://git.example/x.git#main:dir", map[string]string{pb.AttrFullRemoteURL: "https://git.example/x.git"}),
			pin: Pin{Commit: hex40}, want: "https://git.example/x.git#main sha1:" + hex40,
		},
		"repository by identifier": {
			op: source("git://git.example/x.git#v1", nil), pin: Pin{Commit: hex40}, want: "git.example/x.git#v1 sha1:" + hex40,
		},
		"repository without a ref": {
			op: source("git://git.example/x.git", nil), pin: Pin{Commit: hex40}, want: "git.example/x.git sha1:" + hex40,
		},
		"context":        {op: source("local://context", nil), incomplete: true},
		"unknown source": {op: source("magnet://x", nil), incomplete: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := predicate(t, newBuild(t, test.pin, test.op), map[string]string{"mode": "min"})
			got := ""
			for _, m := range p.BuildDefinition.ResolvedDependencies {
				got += m.URI
				for _, a := range slices.Sorted(maps.Keys(m.Digest)) {
					got += " " + a + ":" + m.Digest[a]
				}
			}
			if got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			if c := p.RunDetails.Metadata.Completeness; c.ResolvedDependencies == test.incomplete {
				t.Errorf("complete: %t", c.ResolvedDependencies)
			}
		})
	}
}

// TestProvenanceSources of the front end and of the Dockerfile are materials too.
func TestProvenanceSources(t *testing.T) {
	t.Parallel()
	b := newBuild(t, Pin{}, source("docker-image://docker.io/library/app:1", nil))
	b.Definition.Source = &pb.Source{Infos: []*pb.SourceInfo{{
		Filename: "Dockerfile", Definition: program(t, source("local://dockerfile", nil)),
	}}}
	b.Images = []types.ImageSource{{Ref: "docker.io/library/frontend:2"}}
	p := predicate(t, b, nil)
	var uris []string
	for _, m := range p.BuildDefinition.ResolvedDependencies {
		uris = append(uris, m.URI)
	}
	if want := []string{"pkg:docker/app@1", "pkg:docker/frontend@2"}; !slices.Equal(uris, want) {
		t.Errorf("materials %v, want %v", uris, want)
	}
	if l := p.BuildDefinition.ExternalParameters.Request.Locals; len(l) != 1 || l[0].Name != "dockerfile" {
		t.Errorf("directories %v", l)
	}
	s := p.RunDetails.Metadata.BuildKitMetadata.Source
	if s == nil || len(s.Infos) != 1 || s.Infos[0].Filename != "Dockerfile" {
		t.Errorf("source %+v", s)
	}
}

// TestProvenanceProcesses: secrets, SSH agents and the network of processes.
func TestProvenanceProcesses(t *testing.T) {
	t.Parallel()
	secret := &pb.Mount{MountType: pb.MountType_SECRET, SecretOpt: &pb.SecretOpt{ID: "token", Optional: true}}
	agent := &pb.Mount{MountType: pb.MountType_SSH, SSHOpt: &pb.SSHOpt{ID: "default"}}
	for name, test := range map[string]struct {
		exec         *pb.ExecOp
		secrets, ssh []string
		hermetic     bool
	}{
		"network":             {exec: &pb.ExecOp{}},
		"no network":          {exec: &pb.ExecOp{Network: pb.NetMode_NONE}, hermetic: true},
		"mounts":              {exec: &pb.ExecOp{Network: pb.NetMode_NONE, Mounts: []*pb.Mount{secret, agent, {}}}, secrets: []string{"token?"}, ssh: []string{"default"}, hermetic: true},
		"environment":         {exec: &pb.ExecOp{Network: pb.NetMode_NONE, Secretenv: []*pb.SecretEnv{{ID: "key"}}}, secrets: []string{"key"}, hermetic: true},
		"mount, environment":  {exec: &pb.ExecOp{Mounts: []*pb.Mount{secret}, Secretenv: []*pb.SecretEnv{{ID: "key"}}}, secrets: []string{"key", "token?"}},
		"needed and optional": {exec: &pb.ExecOp{Mounts: []*pb.Mount{secret}, Secretenv: []*pb.SecretEnv{{ID: "token"}}}, secrets: []string{"token"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := predicate(t, newBuild(t, Pin{}, process(test.exec)), nil)
			var secrets, ssh []string
			for _, s := range p.BuildDefinition.ExternalParameters.Request.Secrets {
				secrets = append(secrets, s.ID+map[bool]string{true: "?"}[s.Optional])
			}
			for _, s := range p.BuildDefinition.ExternalParameters.Request.SSH {
				ssh = append(ssh, s.ID+map[bool]string{true: "?"}[s.Optional])
			}
			if !slices.Equal(secrets, test.secrets) || !slices.Equal(ssh, test.ssh) || p.RunDetails.Metadata.Hermetic != test.hermetic {
				t.Errorf("secrets %v, ssh %v, hermetic %t", secrets, ssh, p.RunDetails.Metadata.Hermetic)
			}
		})
	}
}

// TestProvenanceModes: min has neither arguments nor labels nor secrets nor operations; max has all of them.
func TestProvenanceModes(t *testing.T) {
	t.Parallel()
	args := map[string]string{"target": "app", "build-arg:A": "1", "label:l": "2", "attest:sbom": "x", "platform": "linux/arm64"}
	for name, test := range map[string]struct {
		mode     string
		args     map[string]string
		want     []string
		complete bool
		full     bool
	}{
		"min":                   {"min", args, []string{"target"}, false, false},
		"min without arguments": {"min", map[string]string{"target": "x"}, []string{"target"}, true, false},
		"max":                   {"max", args, []string{"build-arg:A", "label:l", "target"}, true, true},
		"full":                  {"full", args, []string{"build-arg:A", "label:l", "target"}, true, true},
		"default":               {"", args, []string{"build-arg:A", "label:l", "target"}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBuild(t, Pin{}, process(&pb.ExecOp{Secretenv: []*pb.SecretEnv{{ID: "key"}}}))
			b.Args = test.args
			layer := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.Digest("sha256:" + hex64), Size: 1}
			run := digest.FromBytes(b.Definition.Def[0])
			b.Layers = func(op digest.Digest) map[int][]ocispec.Descriptor {
				if op != run {
					return nil
				}
				return map[int][]ocispec.Descriptor{0: {layer}}
			}
			p := predicate(t, b, map[string]string{"mode": test.mode})
			request := p.BuildDefinition.ExternalParameters.Request
			if got := slices.Sorted(maps.Keys(request.Args)); !slices.Equal(got, test.want) {
				t.Errorf("arguments %v, want %v", got, test.want)
			}
			if p.RunDetails.Metadata.Completeness.Request != test.complete {
				t.Errorf("complete: %t", !test.complete)
			}
			config, layers := p.BuildDefinition.InternalParameters.BuildConfig, p.RunDetails.Metadata.BuildKitMetadata.Layers
			if (config != nil) != test.full || (len(layers) > 0) != test.full || (len(request.Secrets) > 0) != test.full {
				t.Errorf("operations %v, layers %v, secrets %v", config, layers, request.Secrets)
			}
			if test.full && !reflect.DeepEqual(layers, map[string][][]ocispec.Descriptor{"step0:0": {{layer}}}) {
				t.Errorf("layers %v", layers)
			}
		})
	}
}

// FROM scratch and nothing else has no definition.
func TestProvenanceOfNothing(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"min", "max"} {
		b := newBuild(t, Pin{}, source("https://files.example/a.tar", nil))
		b.Definition = nil
		p := predicate(t, b, map[string]string{"mode": mode})
		if len(p.BuildDefinition.ResolvedDependencies) != 0 || p.BuildDefinition.ExternalParameters.Request.Frontend != "dockerfile.v0" {
			t.Errorf("%s: %+v", mode, p.BuildDefinition)
		}
	}
}

func TestProvenanceAttributes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		attrs         map[string]string
		name, version string
		has           []string // in the text of the predicate
		err           string
	}{
		"none": {
			name: "provenance.json", version: ProvenanceV1,
			has: []string{`"startedOn": "1970-01-01T00:00:01Z"`, `"finishedOn": "1970-01-01T00:00:02Z"`, `"invocationId": "run"`},
		},
		"v1":           {attrs: map[string]string{"version": "v1"}, name: "provenance.json", version: ProvenanceV1, has: []string{`"buildDefinition"`}},
		"v0.2":         {attrs: map[string]string{"version": "v0.2"}, name: "provenance.json", version: ProvenanceV02, has: []string{`"invocation"`, `"buildInvocationID": "run"`}},
		"builder":      {attrs: map[string]string{"builder-id": "https://ci.example/7"}, name: "provenance.json", version: ProvenanceV1, has: []string{`"id": "https://ci.example/7"`}},
		"reproducible": {attrs: map[string]string{"reproducible": "true"}, name: "provenance.json", version: ProvenanceV1, has: []string{`"buildkit_reproducible": true`}},
		"filename":     {attrs: map[string]string{"filename": "p.json"}, name: "p.json", version: ProvenanceV1},
		"bad version":  {attrs: map[string]string{"version": "2"}, err: `unknown version "2": use v1 or v0.2`},
		"bad mode":     {attrs: map[string]string{"mode": "all"}, err: `unknown mode "all": use min or max`},
		"bad boolean":  {attrs: map[string]string{"reproducible": "yes"}, err: `reproducible is true or false, not "yes"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := Provenance(t.Context(), newBuild(t, Pin{}, process(&pb.ExecOp{})), test.attrs)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%v, want %s", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if a.Name != test.name || a.PredicateType != test.version {
				t.Errorf("%s of type %s", a.Name, a.PredicateType)
			}
			for _, s := range test.has {
				if !strings.Contains(string(a.Predicate), s) {
					t.Errorf("the predicate does not have %s:\n%s", s, a.Predicate)
				}
			}
		})
	}
}

// TestProvenanceRedacts credentials in URLs, wherever they are.
func TestProvenanceRedacts(t *testing.T) {
	t.Parallel()
	b := newBuild(
		t, Pin{Commit: hex40, Digest: digest.Digest("sha256:" + hex64)},
		source("https://joe:hunter2@files.example/a", nil),
		source("git://git.example/x.git", map[string]string{pb.AttrFullRemoteURL: "https://joe:hunter2@git.example/x.git"}),
		process(&pb.ExecOp{}),
	)
	b.Args = map[string]string{"context": "https://joe:hunter2@git.example/y.git", "build-arg:PROXY": "http://joe:hunter2@proxy.example"}
	a, err := Provenance(t.Context(), b, nil)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(a.Predicate), "hunter2") {
		t.Errorf("the predicate has a password:\n%s", a.Predicate)
	}
	for _, host := range []string{"files.example/a", "git.example/x.git", "git.example/y.git", "proxy.example"} {
		if !strings.Contains(string(a.Predicate), host) {
			t.Errorf("the predicate does not have %s", host)
		}
	}
}

func TestProvenanceOfDamagedDefinition(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Build){
		"operation":     func(b *Build) { b.Definition.Def = append([][]byte{{0xff}}, b.Definition.Def...) },
		"no result":     func(b *Build) { b.Definition.Def = b.Definition.Def[:1] },
		"name of image": func(b *Build) { b.Images = []types.ImageSource{{Ref: "UPPER"}} },
	} {
		b := newBuild(t, Pin{}, process(&pb.ExecOp{}))
		change(b)
		if a, err := Provenance(t.Context(), b, nil); err == nil || !strings.HasPrefix(err.Error(), "provenance: ") {
			t.Errorf("%s: %v, %v", name, a, err)
		}
	}
}
