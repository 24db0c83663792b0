package control_test

import (
	"context"
	"strings"
	"testing"

	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/moby/buildkit/sourcepolicy/policysession"
)

// TestPolicyOfSession: the client allows, denies and replaces sources, and may ask what they are.
func TestPolicyOfSession(t *testing.T) {
	t.Parallel()
	s := start(t)
	for name, test := range map[string]struct {
		decide func(source string) (*policysession.DecisionResponse, *gwpb.ResolveSourceMetaRequest)
		want   string // in the error; "" for none
	}{
		"allowed": {func(string) (*policysession.DecisionResponse, *gwpb.ResolveSourceMetaRequest) {
			return &policysession.DecisionResponse{Action: spb.PolicyAction_ALLOW}, nil
		}, ""},
		"a denied context": {func(source string) (*policysession.DecisionResponse, *gwpb.ResolveSourceMetaRequest) {
			if source == "local://context" {
				return &policysession.DecisionResponse{Action: spb.PolicyAction_DENY}, nil
			}
			return &policysession.DecisionResponse{Action: spb.PolicyAction_ALLOW}, nil
		}, `source "local://context" not allowed by policy: action DENY`},
		"another source": {func(source string) (*policysession.DecisionResponse, *gwpb.ResolveSourceMetaRequest) {
			if source == "local://context" {
				return &policysession.DecisionResponse{Action: spb.PolicyAction_CONVERT, Update: &pb.SourceOp{Identifier: "local://none"}}, nil
			}
			return &policysession.DecisionResponse{Action: spb.PolicyAction_ALLOW}, nil
		}, "none"},
		"nothing in its place": {func(string) (*policysession.DecisionResponse, *gwpb.ResolveSourceMetaRequest) {
			return &policysession.DecisionResponse{Action: spb.PolicyAction_CONVERT}, nil
		}, "by nothing"},
		"replaced for ever": {func(source string) (*policysession.DecisionResponse, *gwpb.ResolveSourceMetaRequest) {
			return &policysession.DecisionResponse{Action: spb.PolicyAction_CONVERT, Update: &pb.SourceOp{Identifier: source + "x"}}, nil
		}, "too many policy requests"},
		"no decision": {func(string) (*policysession.DecisionResponse, *gwpb.ResolveSourceMetaRequest) { return nil, nil }, "no decision"},
		"asks for another": {func(string) (*policysession.DecisionResponse, *gwpb.ResolveSourceMetaRequest) {
			return nil, &gwpb.ResolveSourceMetaRequest{Source: &pb.SourceOp{Identifier: "local://other"}}
		}, "different source identifier"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}))
			o.SourcePolicyProvider = policysession.NewPolicyProvider(func(_ context.Context, req *policysession.CheckPolicyRequest) (*policysession.DecisionResponse, *gwpb.ResolveSourceMetaRequest, error) {
				decision, ask := test.decide(req.Source.Source.Identifier)
				return decision, ask, nil
			})
			_, _, err := s.solve(t, nil, o)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// TestMissingFile: clients know by the words of the error that a file of a result is missing.
func TestMissingFile(t *testing.T) {
	t.Parallel()
	s := start(t)
	o := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}))
	_, err := s.build(t, o, func(ctx context.Context, c gwclient.Client) (*gwclient.Result, error) {
		res, err := c.Solve(ctx, gwclient.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: c.BuildOpts().Opts})
		if err != nil {
			return nil, err
		}
		for name, read := range map[string]func(gwclient.Reference) error{
			"stat": func(r gwclient.Reference) error {
				_, err := r.StatFile(ctx, gwclient.StatRequest{Path: "none"})
				return err
			},
			"read": func(r gwclient.Reference) error {
				_, err := r.ReadFile(ctx, gwclient.ReadRequest{Filename: "none"})
				return err
			},
			"list": func(r gwclient.Reference) error {
				_, err := r.ReadDir(ctx, gwclient.ReadDirRequest{Path: "none"})
				return err
			},
		} {
			if err := read(res.Ref); err == nil || !strings.Contains(err.Error(), "no such file or directory") {
				t.Errorf("%s: %v", name, err)
			}
		}
		return res, nil
	})
	if err != nil {
		t.Error(err)
	}
}
