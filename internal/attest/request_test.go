package attest

import (
	"testing"

	"github.com/moby/buildkit/solver/llbsolver/provenance/types"
	"github.com/moby/buildkit/solver/pb"
)

// Provenance has the request of the user and those that have made inputs, without what mode=min leaves out, and the sources of other graphs that
// the front end has read.
func TestProvenanceOfRequests(t *testing.T) {
	t.Parallel()
	secret := map[string]string{"target": "x", "build-arg:A": "1"}
	b := newBuild(t, Pin{Commit: hex40}, source("local://context", nil))
	b.Others = append(b.Others, program(t, source("git://git.example/x.git#v1", map[string]string{pb.AttrFullRemoteURL: "https://git.example/x.git"})))
	b.Root = &Request{Args: map[string]string{"context": "https://git.example/x.git#v1", "build-arg:B": "1"}}
	input, err := Describe(&Build{Request: Request{Frontend: "gateway.v0", Args: secret}})
	if err != nil {
		t.Fatal(err)
	}
	b.Inputs = map[string]*types.RequestProvenance{"base": input}
	for mode, want := range map[string]int{"min": 1, "max": 2} {
		p := predicate(t, b, map[string]string{"mode": mode})
		request := p.BuildDefinition.ExternalParameters.Request
		in := request.Inputs["base"]
		if in == nil || in.Request.Frontend != "gateway.v0" || len(in.Request.Args) != want || len(request.Root.Request.Args) != want-1 {
			t.Errorf("%s: %+v", mode, request)
		}
		if root := request.Root.ConfigSource; root.URI != "https://git.example/x.git#v1" || root.Digest["sha1"] != hex40 {
			t.Errorf("%s: root %+v", mode, root)
		}
		if deps := p.BuildDefinition.ResolvedDependencies; len(deps) != 1 || p.RunDetails.Metadata.Completeness.Request != (mode == "max") {
			t.Errorf("%s: %+v", mode, deps)
		}
	}
	if len(input.Request.Args) != 2 {
		t.Errorf("the request that others describe too has %v", input.Request.Args)
	}
	b.Root = &b.Request
	if root := predicate(t, b, nil).BuildDefinition.ExternalParameters.Request.Root; root != nil {
		t.Errorf("a build of the user's front end has the root %+v", root)
	}
}
