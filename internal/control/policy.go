package control

import (
	"context"
	"fmt"
	"maps"

	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/moby/buildkit/sourcepolicy/policysession"

	"github.com/micabuild/mica/internal/bridge"
	"github.com/micabuild/mica/internal/builder"
)

// policy returns the policy that a client keeps in its session; nil for none.
func (c *sessionClient) policy(session string) builder.PolicyClient {
	if session == "" {
		return nil
	}
	owner := &sessionClient{sessions: c.sessions, id: session}
	return owner.decide
}

// maxQuestions is how often a policy may ask for the metadata of a source.
const maxQuestions = 10

// decide asks the client whether a source may be used. The client may want to know more of the source first.
func (c *sessionClient) decide(ctx context.Context, op *pb.Op, resolve builder.Resolver) (*pb.SourceOp, error) {
	caller, err := c.caller(ctx)
	if err != nil {
		return nil, err
	}
	source := op.GetSource()
	req := &policysession.CheckPolicyRequest{Platform: op.Platform, Source: &gwpb.ResolveSourceMetaResponse{Source: source}}
	for range maxQuestions {
		asked, cancel := answering(ctx)
		resp, err := policysession.NewPolicyVerifierClient(caller.Conn()).CheckPolicy(caller.Context(asked), req)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("check policy of %s: %w", source.Identifier, err)
		}
		question := resp.GetRequest()
		if question == nil {
			return decision(source, resp.GetDecision())
		}
		if question.Source.GetIdentifier() != source.Identifier {
			return nil, fmt.Errorf("policy requested different source identifier: %q != %q", question.Source.GetIdentifier(), source.Identifier)
		}
		if !maps.Equal(question.Source.Attrs, source.Attrs) {
			return nil, fmt.Errorf("policy requested different source attrs of %q", source.Identifier)
		}
		meta, err := resolve(ctx, question.Source, bridge.MetadataOptions(question))
		if err != nil {
			return nil, fmt.Errorf("error resolving source metadata from policy request: %w", err)
		}
		req.Source = bridge.Metadata(meta)
	}
	return nil, fmt.Errorf("too many policy requests about %s", source.Identifier)
}

// decision returns the source that replaces one, nil for none, or the error of one that is not allowed.
func decision(source *pb.SourceOp, d *policysession.DecisionResponse) (*pb.SourceOp, error) {
	switch {
	case d == nil:
		return nil, fmt.Errorf("no decision in policy response about %s", source.Identifier)
	case d.GetAction() == spb.PolicyAction_ALLOW:
		return nil, nil //nolint:nilnil // see above
	case d.GetAction() == spb.PolicyAction_CONVERT:
		if d.Update == nil {
			return nil, fmt.Errorf("the policy replaces %s by nothing", source.Identifier)
		}
		return d.Update, nil
	}
	err := fmt.Errorf("source %q not allowed by policy: action %s", source.Identifier, d.GetAction())
	return nil, policysession.WrapDenyMessages(err, d.GetDenyMessages())
}
