package attest

import (
	"errors"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/errdefs"
	provenancetypes "github.com/moby/buildkit/solver/llbsolver/provenance/types"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// What processes request by the proxy network are materials; what is not known of it is listed, and refused where all must be known.
func TestRequested(t *testing.T) {
	t.Parallel()
	exec := func(name string, net pb.NetMode) *pb.Op {
		return &pb.Op{Op: &pb.Op_Exec{Exec: &pb.ExecOp{Network: net, Meta: &pb.Meta{Args: []string{name}}}}}
	}
	whole, ran, cached := exec("whole", pb.NetMode_UNSET), exec("ran", pb.NetMode_HOST), exec("cached", pb.NetMode_UNSET)
	file := provenancetypes.HTTPSource{URL: "https://a.example/f", Digest: digest.FromString("f")}
	requested := map[digest.Digest]Requested{
		idOf(t, whole): {Files: []provenancetypes.HTTPSource{file}},
		idOf(t, ran):   {Gaps: []provenancetypes.ProxyCaptureIncomplete{{Method: "POST", URI: "https://a.example/p", Reason: "method_not_materializable"}}},
	}
	build := func(ops ...*pb.Op) *Build {
		b := newBuild(t, Pin{}, ops...)
		b.Requested = func(op digest.Digest) (Requested, bool) {
			r, ok := requested[op]
			return r, ok
		}
		return b
	}

	p := predicate(t, build(whole, exec("offline", pb.NetMode_NONE)), map[string]string{"complete-materials": "true"})
	if deps := p.BuildDefinition.ResolvedDependencies; len(deps) != 1 || deps[0].URI != file.URL || deps[0].Digest["sha256"] != file.Digest.Encoded() {
		t.Errorf("materials: %+v", deps)
	}
	if n := p.RunDetails.Metadata.BuildKitMetadata.Network; n == nil || n.Mode != "proxy" || n.Proxy != nil {
		t.Errorf("network: %+v", n)
	}

	p = predicate(t, build(whole, ran, cached), nil)
	if p.RunDetails.Metadata.Completeness.ResolvedDependencies {
		t.Error("the materials are called complete")
	}
	gaps := p.RunDetails.Metadata.BuildKitMetadata.Network.Proxy.Incomplete
	if len(gaps) != 2 {
		t.Fatalf("gaps: %+v", gaps)
	}
	for _, g := range gaps {
		want := map[string]string{"ran": "method_not_materializable", "cached": "cached"}[g.Name]
		if g.Reason != want || g.Op == "" {
			t.Errorf("gap: %+v", g)
		}
	}

	_, err := Provenance(t.Context(), build(whole, ran, cached), map[string]string{"complete-materials": "true"})
	var incomplete *errdefs.ProvenanceMaterialsIncompleteError
	if !errors.As(err, &incomplete) || len(incomplete.Incomplete) != 2 || !strings.Contains(err.Error(), "POST https://a.example/p of \"ran\"") {
		t.Errorf("incomplete: %v", err)
	}
	_, err = Provenance(t.Context(), newBuild(t, Pin{}, source("local://context", nil)), map[string]string{"complete-materials": "1"})
	if err == nil || !strings.Contains(err.Error(), "the local directory context") {
		t.Errorf("a local directory: %v", err)
	}
	if _, err = Provenance(t.Context(), build(whole), map[string]string{"complete-materials": "all"}); err == nil {
		t.Error("a value that is neither true nor false is taken")
	}
}

// idOf is the digest of an operation.
func idOf(t *testing.T, op *pb.Op) digest.Digest {
	t.Helper()
	raw, err := op.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	return digest.FromBytes(raw)
}
