package control

import (
	"context"
	"fmt"

	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/moby/buildkit/sourcepolicy/policysession"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// policy returns the policy that a client keeps in its session; nil for none.
func (c *sessionClient) policy(session string) func(context.Context, *pb.Op) error {
	if session == "" {
		return nil
	}
	owner := &sessionClient{sessions: c.sessions, id: session}
	return func(ctx context.Context, op *pb.Op) error { return owner.allows(ctx, op) }
}

// allows asks the client whether a source may be used.
func (c *sessionClient) allows(ctx context.Context, op *pb.Op) error {
	caller, err := c.caller(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := answering(ctx)
	defer cancel()
	source := op.GetSource()
	resp, err := policysession.NewPolicyVerifierClient(caller.Conn()).CheckPolicy(caller.Context(ctx), &policysession.CheckPolicyRequest{
		Platform: op.Platform, Source: &gwpb.ResolveSourceMetaResponse{Source: source},
	})
	if err != nil {
		return fmt.Errorf("check policy of %s: %w", source.Identifier, err)
	}
	switch decision := resp.GetDecision(); {
	case resp.GetRequest() != nil:
		return status.Errorf(codes.Unimplemented, "the policy asks for the metadata of %s: only policies that decide by the name of a source are supported", source.Identifier)
	case decision.GetAction() == spb.PolicyAction_ALLOW:
		return nil
	case decision.GetAction() == spb.PolicyAction_CONVERT:
		return status.Errorf(codes.Unimplemented, "the policy replaces %s: only policies that allow or deny are supported", source.Identifier)
	default:
		err := fmt.Errorf("source %q not allowed by policy: action %s", source.Identifier, decision.GetAction())
		return policysession.WrapDenyMessages(err, decision.GetDenyMessages())
	}
}
