package builder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/containerd/platforms"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/imageutil"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/bridge"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/dockerfile"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/recorder"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/sources"
)

// frontend serves the Dockerfile compiler: configs of images, files, results of graphs.
type frontend struct {
	solver  *solver.Solver
	bases   *baseImages
	layouts *layouts
	opts    map[string]string
	inputs  map[string]llb.State
	events  solver.Events
	checker *dockerfile.Checker
	record  *recorder.Recorder // nil for a build that is not recorded
	until   *until             // nil for a build of the whole Dockerfile
	imports *imports
	images  *gateway     // runs front ends that are images
	by      *request     // that the results are of; nil for none that provenance describes
	made    *Requests    // by the graphs that they have made; nil for none
	kept    *bridge.Kept // of front ends in images
	// catalogs is true if mica makes the SBOMs: the compiler would run a scanner's image.
	catalogs   bool
	containers *containers
	// defers makes the failure of a step an error of the reference and not of Solve, as in BuildKit, which runs steps when their result is
	// needed: a front end elsewhere may look into the failure.
	defers   bool
	policies policies
	// sorts is true if the parameters of scanners are put in order.
	sorts bool
	// untrusted is true for a front end that is not the user's own program, or that such a one has asked for.
	untrusted bool
}

var _ client.Client = (*frontend)(nil)

// build runs the compiler, or another front end.
func (f *frontend) build(ctx context.Context, other client.BuildFunc) (*client.Result, error) {
	if other != nil {
		res, err := other(ctx, f)
		if err != nil {
			return nil, err
		}
		return res, evaluate(ctx, res)
	}
	res, err := builder.Build(ctx, f)
	if ignoreErr := f.checker.IgnoreError(); ignoreErr != nil {
		return nil, ignoreErr
	}
	if f.until != nil && f.until.err != nil {
		return nil, f.until.err
	}
	f.until.restore(err)
	return res, err
}

// BuildOpts returns the options and the capabilities of this host: all of LLB. The solver refuses operations that it lacks by
// their names.
func (f *frontend) BuildOpts() client.BuildOpts {
	return client.BuildOpts{
		Opts:      maps.Clone(f.opts),
		SessionID: sources.BuildSession,
		Product:   "mica",
		Workers:   []client.WorkerInfo{{ID: "mica", Platforms: []ocispec.Platform{platforms.Normalize(platforms.DefaultSpec())}}},
		LLBCaps:   pb.Caps.CapSet(pb.Caps.All()),
		Caps:      gwpb.Caps.CapSet(gwpb.Caps.All()),
	}
}

func (f *frontend) Inputs(context.Context) (map[string]llb.State, error) { return f.inputs, nil }

// The methods that the compiler calls from its own goroutines recover panics.

// Solve runs a graph, or another frontend: a `# syntax=` line asks for gateway.v0 with an image. For docker/dockerfile that is the compiler
// that is built in.
func (f *frontend) Solve(ctx context.Context, req client.SolveRequest) (_ *client.Result, err error) {
	defer crash.Recover(&err)
	if err := f.imports.add(ctx, req.CacheImports, f.untrusted); err != nil {
		return nil, err
	}
	switch req = builtIn(req); req.Frontend {
	case "":
		return f.solve(ctx, req)
	case dockerfileFrontend:
		return f.nested(ctx, req)
	case gatewayFrontend:
		if dockerfile.KnownFrontend(req.FrontendOpt[optSource]) {
			return f.nested(ctx, req)
		}
		return f.gateway(ctx, req)
	}
	return nil, fmt.Errorf("frontend %s is not supported", req.Frontend)
}

// builtIn is a request as it is understood: one for gateway.v0 whose source is not an image but the name of the compiler is for the compiler.
func builtIn(req client.SolveRequest) client.SolveRequest {
	source := req.FrontendOpt[optSource]
	if req.Frontend != gatewayFrontend || source != dockerfileFrontend || hasContext(req.FrontendOpt, source) {
		return req
	}
	req.Frontend, req.FrontendOpt = dockerfileFrontend, maps.Clone(req.FrontendOpt)
	delete(req.FrontendOpt, optSource)
	return req
}

// hasContext reports whether the options name a context, for some platform or for all.
func hasContext(opts map[string]string, name string) bool {
	for k := range opts {
		if context, _, _ := strings.Cut(k, "::"); context == "context:"+name {
			return true
		}
	}
	return false
}

func (f *frontend) solve(ctx context.Context, req client.SolveRequest) (*client.Result, error) {
	res, def := client.NewResult(), req.Definition
	if def == nil || len(def.Def) == 0 {
		res.SetRef((*resultRef)(nil))
		return res, nil
	}
	if err := f.checker.IgnoreError(); err != nil {
		return nil, err
	}
	policies, err := f.policies.with(req.SourcePolicies)
	if err == nil && f.sorts {
		def, err = sortParameters(def)
	}
	if err != nil {
		return nil, err
	}
	if def, err = policies.applyAll(ctx, def, f.metadata); err != nil {
		return nil, err
	}
	if def, err = f.withoutNetwork(def); err != nil {
		return nil, err
	}
	f.record.Graph(def)
	f.by.solved(def)
	if f.until.ends(def) {
		res.SetRef((*resultRef)(nil))
		return res, f.until.reach(ctx, f.solver, def)
	}
	out, err := f.solver.Solve(ctx, def)
	err = f.withMounts(err)
	if errors.Is(err, solver.ErrPlanned) {
		res.SetRef((*resultRef)(nil)) // the compiler goes on with an empty filesystem
		return res, nil
	}
	if err != nil && (req.Evaluate || !f.defers && !isLocal(def) || ctx.Err() != nil || !stepFailed(err)) {
		return nil, err
	}
	f.made.add(&maker{f.containers.worker, def, f.by})
	res.SetRef(&resultRef{f.solver, out, def, f.checker, f.until, f.by, err})
	return res, nil
}

// isLocal reports whether a graph is a local source alone. The compiler reads files of a context before it knows whether the build has one,
// an ignore file for example: only what is read has to be there.
func isLocal(def *pb.Definition) bool {
	if len(def.Def) != 2 { // the source, and the end of the graph
		return false
	}
	op := &pb.Op{}
	return op.UnmarshalVT(def.Def[0]) == nil && strings.HasPrefix(op.GetSource().GetIdentifier(), "local://")
}

// stepFailed reports whether an error is that of a step.
func stepFailed(err error) bool {
	var failed *errdefs.VertexError
	return errors.As(err, &failed)
}

// evaluate returns the error of a reference of a result.
func evaluate(ctx context.Context, res *client.Result) error {
	if res == nil {
		return nil
	}
	return res.EachRef(func(ref client.Reference) error { return ref.Evaluate(ctx) })
}

// nested runs the compiler for another front end.
func (f *frontend) nested(ctx context.Context, req client.SolveRequest) (*client.Result, error) {
	inner, err := f.within(req)
	if err != nil {
		return nil, err
	}
	inner.checker = dockerfile.NewChecker(inner.opts)
	if req.Frontend == dockerfileFrontend { // and not by the name of its image, which changes nothing
		inner.by = f.by.child(req, f.made)
	}
	res, err := builder.Build(ctx, inner)
	if ignoreErr := inner.checker.IgnoreError(); ignoreErr != nil {
		return nil, ignoreErr
	}
	if err == nil && req.Evaluate {
		err = evaluate(ctx, res)
	}
	return res, err
}

// within is the client of a front end that this one has asked for. It has no other options than those of the request.
func (f *frontend) within(req client.SolveRequest) (*frontend, error) {
	f.record.Asked(req.FrontendOpt)
	inner := *f
	inner.sorts = f.sorts || strings.Count(req.FrontendOpt["attest:"+buildspec.AttestSBOM], ",") > 1
	policies, err := f.policies.with(req.SourcePolicies)
	if err != nil {
		return nil, err
	}
	inner.policies = policies
	inner.opts = maps.Clone(req.FrontendOpt)
	if inner.opts == nil {
		inner.opts = map[string]string{}
	}
	if f.catalogs {
		delete(inner.opts, "attest:"+buildspec.AttestSBOM)
	}
	if len(req.FrontendInputs) > 0 {
		inner.inputs = map[string]llb.State{}
		for name, def := range req.FrontendInputs {
			st, err := stateOf(name, def)
			if err != nil {
				return nil, err
			}
			inner.inputs[name] = st
		}
	}
	return &inner, nil
}

// ResolveSourceMetadata finds what a source is now, a base image for example.
func (f *frontend) ResolveSourceMetadata(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt) (_ *sourceresolver.MetaResponse, err error) {
	defer crash.Recover(&err)
	if op, err = f.resolvable(ctx, op, opt); err != nil {
		return nil, err
	}
	return f.metadata(ctx, op, opt)
}

// metadata finds what a source is now, whatever the policies of the build.
func (f *frontend) metadata(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	switch scheme, _, _ := strings.Cut(op.Identifier, "://"); scheme {
	case "local":
		return &sourceresolver.MetaResponse{Op: op}, nil // it changes while it is read: there is nothing to pin
	case "http", "https", "git":
		return f.remoteMetadata(ctx, op, opt)
	}
	var found sourceresolver.ResolveImageResponse
	if ref, ok := imageRef(op.Identifier); ok && wantsChain(opt.ImageOpt) {
		root, chain, err := f.bases.attestationChain(ctx, ref, opt.ImageOpt)
		if err != nil {
			return nil, err
		}
		found.Digest, found.AttestationChain = root, chain
		if opt.ImageOpt.NoConfig {
			return &sourceresolver.MetaResponse{Op: op, Image: &found}, nil
		}
	}
	ref, img, err := f.imageMetadata(ctx, op, opt)
	if err == nil {
		err = f.checker.Base(img.RawConfig)
	}
	if err != nil {
		return nil, err
	}
	f.record.Image(ref, img.Target.Digest, img.RawConfig)
	found.Digest = img.Target.Digest
	if opt.ImageOpt == nil || !opt.ImageOpt.NoConfig {
		found.Config = img.RawConfig
	}
	return &sourceresolver.MetaResponse{Op: op, Image: &found}, nil
}

// imageMetadata finds the image of a source, and its name.
func (f *frontend) imageMetadata(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt) (ref string, img *image.Image, err error) {
	if ref, ok := imageRef(op.Identifier); ok {
		img, err = f.bases.resolve(ctx, ref, opt.ImageOpt)
		return ref, img, err
	}
	ref, ok := strings.CutPrefix(op.Identifier, layoutScheme)
	if !ok {
		return "", nil, fmt.Errorf("source %s is not supported", op.Identifier)
	}
	_, d, _ := strings.Cut(ref, "@")
	var platform *ocispec.Platform
	if opt.OCILayoutOpt != nil {
		platform = opt.OCILayoutOpt.Platform
	}
	img, err = f.layouts.resolve(ctx, sources.SessionOf(op.Attrs[pb.AttrOCILayoutSessionID]), op.Attrs[pb.AttrOCILayoutStoreID], digest.Digest(d), platform)
	return ref, img, err
}

// ResolveImageConfig is ResolveSourceMetadata of an image. The name in the answer is the one that the policies have left.
func (f *frontend) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (_ string, _ digest.Digest, _ []byte, err error) {
	defer crash.Recover(&err)
	op := &pb.SourceOp{Identifier: "docker-image://" + ref}
	if l := opt.OCILayoutOpt; l != nil {
		op = &pb.SourceOp{Identifier: layoutScheme + ref, Attrs: map[string]string{pb.AttrOCILayoutStoreID: l.Store.StoreID}}
		if l.Store.SessionID != "" {
			op.Attrs[pb.AttrOCILayoutSessionID] = l.Store.SessionID
		}
	}
	meta, err := f.ResolveSourceMetadata(ctx, op, opt)
	if err != nil {
		return "", "", nil, err
	}
	if meta.Image == nil { // a policy has put another source in its place
		return "", "", nil, &imageutil.ResolveToNonImageError{Ref: ref, Updated: meta.Op.Identifier}
	}
	name := ref
	if meta.Op.Identifier != op.Identifier {
		_, name, _ = strings.Cut(meta.Op.Identifier, "://")
	}
	return name, meta.Image.Digest, meta.Image.Config, nil
}

// Warn passes a lint warning on to the display.
func (f *frontend) Warn(_ context.Context, vertex digest.Digest, msg string, opts client.WarnOpts) error {
	if f.events != nil {
		f.events(&solver.Status{Warnings: []*bkclient.VertexWarning{{
			Vertex: vertex, Level: opts.Level, Short: []byte(msg), Detail: opts.Detail, URL: opts.URL,
			SourceInfo: opts.SourceInfo, Range: opts.Range,
		}}})
	}
	return nil
}
