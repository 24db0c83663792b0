package control

import (
	"strings"
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/solver/llbsolver/compat"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/protobuf/proto"

	"github.com/micabuild/mica/internal/compression"
)

// TestArchivesAreCompressed: clients expect compressed layers unless they ask for others.
func TestArchivesAreCompressed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind, attribute string
		want            compression.Algorithm
	}{
		{"oci", "", compression.Gzip}, {"docker", "", compression.Gzip}, {"oci", "uncompressed", compression.None},
		{"oci", "zstd", compression.Zstd}, {"moby", "", ""},
	} {
		e := &controlapi.Exporter{Type: c.kind, Attrs: map[string]string{"compression": c.attribute}}
		o, err := output(0, e, &exporterDefaults{version: compat.CompatibilityVersionCurrent})
		if err != nil || o.Form.Compression != c.want {
			t.Errorf("%s, compression %q: %+v, %v", c.kind, c.attribute, o, err)
		}
	}
}

// TestCompatibility: the defaults of exporters are those of the version that the client asks for.
func TestCompatibility(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		version          int64
		kind, compressed string
		attests          bool
		docker, artifact bool // of the output
		err              string
	}{
		"current":                   {kind: "image", artifact: true},
		"30":                        {version: 30, kind: "docker", artifact: true},
		"moby":                      {kind: "moby"},
		"20":                        {version: 20, kind: "image", docker: true},
		"20, docker":                {version: 20, kind: "docker", docker: true},
		"20, oci":                   {version: 20, kind: "oci"},
		"20 and attestations":       {version: 20, kind: "image", attests: true},
		"20 and zstd":               {version: 20, kind: "oci", compressed: "zstd"},
		"10 and zstd":               {version: 10, kind: "oci", compressed: "zstd", err: "unsupported compatibility-version 10 feature oci exporter compression=zstd"},
		"10 and files":              {version: 10, kind: "tar"},
		"a version of the future":   {version: 40, kind: "image", err: "unsupported compatibility-version 40: upgrade buildkit (max supported: 30)"},
		"a version that is unknown": {version: -1, kind: "image", err: "unsupported compatibility-version -1 (supported: [10 20 30])"},
	} {
		req := &controlapi.SolveRequest{CompatibilityVersion: c.version, Exporters: []*controlapi.Exporter{{Type: c.kind, Attrs: map[string]string{}}}}
		if c.compressed != "" {
			req.Exporters[0].Attrs["compression"] = c.compressed
		}
		if c.attests {
			req.FrontendAttrs = map[string]string{"attest:provenance": "mode=max"}
		}
		o, err := options(req, nil)
		if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", name, err, c.err)
		}
		if err != nil {
			continue
		}
		if f := o.Outputs[0].Form; f.DockerTypes != c.docker || f.Artifact != c.artifact {
			t.Errorf("%s: Docker's types %t, artifacts %t", name, f.DockerTypes, f.Artifact)
		}
	}
}

// TestProxyNetwork: a client that limits the network of its steps does not get the whole network.
func TestProxyNetwork(t *testing.T) {
	t.Parallel()
	for _, want := range []bool{false, true} {
		if o, err := options(&controlapi.SolveRequest{ProxyNetwork: want}, nil); err != nil || o.ProxyNetwork != want {
			t.Errorf("%+v, %v, want %t", o, err, want)
		}
	}
}

// FuzzSolveRequest: a request of any form is a build or an error, and names no file of the host.
func FuzzSolveRequest(f *testing.F) {
	for _, req := range []*controlapi.SolveRequest{
		{Ref: "a", Frontend: "dockerfile.v0", FrontendAttrs: map[string]string{"build-arg:A": "1", "attest:sbom": "generator=x", "platform": "linux/amd64,linux/arm64"}},
		{Definition: &pb.Definition{Def: [][]byte{{1}}}, Frontend: "gateway.v0", Entitlements: []string{"network.host", "device=x"}},
		{Exporters: []*controlapi.Exporter{{Type: "oci", Attrs: map[string]string{"dest": "/etc/passwd", "compression": "zstd"}}, nil, {Type: "image", Attrs: map[string]string{"name": "a,b", "push": "true"}}}},
		{ExporterDeprecated: "local", ExporterAttrsDeprecated: map[string]string{"x": "y"}, Cache: &controlapi.CacheOptions{
			ExportRefDeprecated: "a/b", ImportRefsDeprecated: []string{""}, Imports: []*controlapi.CacheOptionsEntry{nil, {Type: "local", Attrs: map[string]string{"src": "/"}}, {Type: "gha"}},
		}},
	} {
		data, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		req := &controlapi.SolveRequest{}
		if proto.Unmarshal(data, req) != nil {
			t.Skip()
		}
		o, err := options(req, []string{"network.host"})
		if err != nil {
			return
		}
		for _, out := range o.Outputs {
			if out.Dest != "" && !isOutput(out.Dest) {
				t.Errorf("the output %q is a file of the host", out.Dest)
			}
		}
		for _, e := range o.Allow {
			if e != "network.host" {
				t.Errorf("the entitlement %q was not granted", e)
			}
		}
		_, _ = frontendOf(req, nil) // an error or a front end
	})
}

func isOutput(dest string) bool {
	return len(dest) > len(outputPrefix) && dest[:len(outputPrefix)] == outputPrefix
}
