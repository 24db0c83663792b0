package builder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/sourcepolicy"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/solver/ops"
)

// A Resolver finds what a source is now, without asking the policy of the client.
type Resolver func(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt) (*sourceresolver.MetaResponse, error)

// A PolicyClient decides about a source of a build: it returns the source to use in its place, nil for none, or an error if it is not allowed.
type PolicyClient func(ctx context.Context, op *pb.Op, resolve Resolver) (*pb.SourceOp, error)

// maxPolicyRounds is how often a source may be replaced.
const maxPolicyRounds = 10

// policies decide which sources a build may have.
type policies struct {
	static []*spb.Policy
	client PolicyClient
}

func (p policies) none() bool { return len(p.static) == 0 && p.client == nil }

// with adds the policies of a call of a front end.
func (p policies) with(more []*spb.Policy) (policies, error) {
	for _, policy := range more {
		if err := checkPolicy(policy); err != nil {
			return p, err
		}
	}
	p.static = append(p.static[:len(p.static):len(p.static)], more...)
	return p, nil
}

// checkPolicy refuses policies that lack what their engine relies on.
func checkPolicy(p *spb.Policy) error {
	if p == nil {
		return errors.New("invalid nil policy")
	}
	for _, r := range p.Rules {
		switch {
		case r == nil:
			return errors.New("invalid nil rule in policy")
		case r.Selector == nil:
			return errors.New("invalid nil selector in policy")
		}
		for _, c := range r.Selector.Constraints {
			if c == nil {
				return errors.New("invalid nil constraint in policy")
			}
		}
	}
	return nil
}

// apply asks the policies about the source of an operation, and replaces it as they want.
func (p policies) apply(ctx context.Context, op *pb.Op, resolve Resolver) error {
	source := op.GetSource()
	if source == nil || p.none() {
		return nil
	}
	engine := sourcepolicy.NewEngine(p.static)
	for range maxPolicyRounds {
		source.Identifier = fullIdentifier(source.Identifier)
		if _, err := engine.Evaluate(ctx, source); err != nil {
			return err
		}
		source.Identifier = fullIdentifier(source.Identifier)
		if p.client == nil {
			return nil
		}
		other, err := p.client(ctx, op, resolve)
		if err != nil || other == nil {
			return err
		}
		source.Identifier, source.Attrs = other.Identifier, maps.Clone(other.Attrs)
	}
	return fmt.Errorf("too many policy requests: the source %s is replaced again and again", source.Identifier)
}

// fullIdentifier gives the name of an image its registry and tag, and the directory of a repository its shortest path: policies are written for
// these.
func fullIdentifier(identifier string) string {
	if repo, fragment, ok := strings.Cut(identifier, "#"); ok && strings.HasPrefix(repo, "git://") {
		ref, dir, _ := strings.Cut(fragment, ":")
		if dir = path.Join("/", dir)[1:]; dir != "" {
			ref += ":" + dir
		}
		return repo + "#" + ref
	}
	ref, ok := imageRef(identifier)
	if !ok {
		return identifier
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return identifier
	}
	return strings.TrimSuffix(identifier, ref) + reference.TagNameOnly(named).String()
}

// maxPolicyCalls is how many sources of a graph the policies decide on at once: each may need an answer of the client and of a registry.
const maxPolicyCalls = 16

// applyAll applies the policies to all sources of a graph, before any of it runs.
func (p policies) applyAll(ctx context.Context, def *pb.Definition, resolve Resolver) (*pb.Definition, error) {
	if p.none() {
		return def, nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxPolicyCalls)
	sources := map[string]*pb.Op{}
	for _, data := range def.Def {
		op := &pb.Op{}
		if err := op.UnmarshalVT(data); err != nil {
			return nil, errors.Join(fmt.Errorf("invalid definition: %w", err), g.Wait())
		}
		if d := digest.FromBytes(data).String(); op.GetSource() != nil && sources[d] == nil {
			sources[d] = op
			g.Go(crash.Guard(func() error { return p.apply(ctx, op, resolve) }))
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return rewrite(def, func(d string, op *pb.Op) {
		if source := sources[d]; source != nil {
			op.Op = source.Op
		}
	})
}

// proxyNetwork is the network of steps if the proxy network is asked for; nil otherwise.
func (o *Options) proxyNetwork(p policies, resolve Resolver) *ops.ProxyNetwork {
	if !o.ProxyNetwork {
		return nil
	}
	return &ops.ProxyNetwork{Policy: func(ctx context.Context, op *pb.Op) error { return p.apply(ctx, op, resolve) }}
}

// platformOf is the platform for which a source is resolved.
func platformOf(opt sourceresolver.Opt) *pb.Platform {
	var p *ocispec.Platform
	switch {
	case opt.ImageOpt != nil && opt.ImageOpt.Platform != nil:
		p = opt.ImageOpt.Platform
	case opt.OCILayoutOpt != nil && opt.OCILayoutOpt.Platform != nil:
		p = opt.OCILayoutOpt.Platform
	default:
		return nil
	}
	return &pb.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures}
}

// resolvable is the source that the policies leave of one whose metadata a front end asks for. The front end gets it in the answer.
func (f *frontend) resolvable(ctx context.Context, source *pb.SourceOp, opt sourceresolver.Opt) (*pb.SourceOp, error) {
	p, err := f.policies.with(opt.SourcePolicies)
	if err != nil || p.none() {
		return source, err
	}
	op := &pb.Op{Op: &pb.Op_Source{Source: source.CloneVT()}, Platform: platformOf(opt)}
	if err := p.apply(ctx, op, f.metadata); err != nil {
		return nil, fmt.Errorf("could not resolve image due to policy: %w", err)
	}
	return op.GetSource(), nil
}
