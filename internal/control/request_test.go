package control

import (
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/protobuf/proto"
)

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
