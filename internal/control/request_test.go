package control

import (
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
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
		o, err := output(0, e)
		if err != nil || o.Form.Compression != c.want {
			t.Errorf("%s, compression %q: %+v, %v", c.kind, c.attribute, o, err)
		}
	}
}

// TestProxyNetworkIsRefused: a client that limits the network of its steps does not get the whole network.
func TestProxyNetworkIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := options(&controlapi.SolveRequest{ProxyNetwork: true}, nil); status.Code(err) != codes.Unimplemented {
		t.Errorf("%v", err)
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
