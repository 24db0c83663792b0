// Package bridge lets a front end elsewhere build: the service LLBBridge of BuildKit's API (frontend/gateway/pb) in front of the client of
// a front end in this process (frontend/gateway/client).
package bridge

import (
	"context"
	"errors"
	"sync"

	apitypes "github.com/moby/buildkit/api/types"
	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	capspb "github.com/moby/buildkit/util/apicaps/pb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxRefs is how many results are kept of a front end until its build ends.
const maxRefs = 10000

// Bridge is the service for one build. It is safe for concurrent use.
type Bridge struct {
	gwpb.UnimplementedLLBBridgeServer

	client client.Client
	inputs map[string]*pb.Definition
	kept   *Kept

	mu     sync.Mutex
	refs   map[string]client.Reference
	mounts map[string]client.Reference // of failed steps
	// containers are those of the front end, by their IDs.
	containers map[string]heldContainer
	processes  int            // that run in them
	result     *client.Result // what the front end returned
	err        error
	set        bool // the front end has returned

	returned chan struct{}   // closed when the front end has returned
	ended    context.Context // ends with the build
	end      context.CancelCauseFunc
	calls    sync.WaitGroup
}

// New returns a bridge to a client, with the inputs of the front end. What is kept of the front end is accounted for in the account of its build.
func New(c client.Client, inputs map[string]*pb.Definition, kept *Kept) *Bridge {
	b := &Bridge{client: c, inputs: inputs, kept: kept, refs: map[string]client.Reference{}, returned: make(chan struct{})}
	b.mounts, b.containers = map[string]client.Reference{}, map[string]heldContainer{}
	b.ended, b.end = context.WithCancelCause(context.Background())
	return b
}

// Wait waits for the front end to return, and gives its result. It ends the bridge.
func (b *Bridge) Wait(ctx context.Context) (*client.Result, error) {
	defer b.Close()
	return b.Result(ctx)
}

// Result waits for the front end to return, and gives its result. The bridge goes on: a client may read the result that it has returned.
func (b *Bridge) Result(ctx context.Context) (*client.Result, error) {
	select {
	case <-b.returned:
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.set {
		return nil, context.Cause(ctx)
	}
	return b.result, b.err
}

// keepBytes accounts for a call with n bytes of which something is kept until the build ends.
func (b *Bridge) keepBytes(n int) error { return b.kept.Grow(n + callSize) }

// dropBytes gives n bytes of a call back: nothing of them is kept any more. What the call has left beside them stays.
func (b *Bridge) dropBytes(n int) {
	_ = b.kept.Grow(-n) // which fails only after the end of the build
}

// errEnded is the error of calls after the build's end.
var errEnded = status.Error(codes.Canceled, "the build has ended")

// Close ends the bridge: calls that still run are canceled.
func (b *Bridge) Close() {
	b.mu.Lock()
	b.end(errEnded)
	b.mu.Unlock()
	b.calls.Wait()
	b.releaseAll()
}

// call begins a call of the front end, whose context ends with the build.
func (b *Bridge) call(ctx context.Context) (_ context.Context, done func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended.Err() != nil {
		return nil, nil, errEnded
	}
	b.calls.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(b.ended, func() { cancel(errEnded) })
	return ctx, func() {
		stop()
		cancel(nil)
		b.calls.Done()
	}, nil
}

// Ping describes the host and what it can do.
func (b *Bridge) Ping(context.Context, *gwpb.PingRequest) (*gwpb.PongResponse, error) {
	var workers []*apitypes.WorkerRecord
	for _, w := range b.client.BuildOpts().Workers {
		workers = append(workers, &apitypes.WorkerRecord{ID: w.ID, Labels: w.Labels, Platforms: pb.PlatformsFromSpec(w.Platforms)})
	}
	return &gwpb.PongResponse{FrontendAPICaps: Caps(), LLBCaps: pb.Caps.All(), Workers: workers}, nil
}

// Caps are the capabilities of the bridge.
func Caps() []*capspb.APICap { return gwpb.Caps.All() }

// Inputs returns the inputs of the front end.
func (b *Bridge) Inputs(context.Context, *gwpb.InputsRequest) (*gwpb.InputsResponse, error) {
	return &gwpb.InputsResponse{Definitions: b.inputs}, nil
}

// Solve runs a graph, or another front end.
func (b *Bridge) Solve(ctx context.Context, req *gwpb.SolveRequest) (*gwpb.SolveResponse, error) {
	ctx, done, err := b.call(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if req.Final || !req.AllowResultReturn {
		return nil, status.Error(codes.Unimplemented, "this client is older than BuildKit 0.8: it is not supported")
	}
	if err := b.keepBytes(req.SizeVT()); err != nil {
		return nil, err
	}
	var imports []client.CacheOptionsEntry
	for _, e := range req.CacheImports {
		if e == nil {
			return nil, status.Error(codes.InvalidArgument, "a cache import has no value")
		}
		imports = append(imports, client.CacheOptionsEntry{Type: e.Type, Attrs: e.Attrs})
	}
	res, err := b.client.Solve(ctx, client.SolveRequest{
		Evaluate: req.Evaluate, Definition: req.Definition, Frontend: req.Frontend, FrontendOpt: req.FrontendOpt,
		FrontendInputs: req.FrontendInputs, CacheImports: imports, SourcePolicies: req.SourcePolicies,
	})
	if err != nil {
		return nil, b.solveError(err)
	}
	out, err := b.toPB(res, req.AllowResultArrayRef)
	if err != nil {
		return nil, err
	}
	return &gwpb.SolveResponse{Result: out}, nil
}

// Evaluate returns the error of a result.
func (b *Bridge) Evaluate(ctx context.Context, req *gwpb.EvaluateRequest) (*gwpb.EvaluateResponse, error) {
	ref, err := b.ref(req.Ref)
	if err != nil || ref == nil {
		return &gwpb.EvaluateResponse{}, err
	}
	ctx, done, err := b.call(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := ref.Evaluate(ctx); err != nil {
		return nil, b.solveError(err)
	}
	return &gwpb.EvaluateResponse{}, nil
}

// Warn passes a warning on to the display.
func (b *Bridge) Warn(ctx context.Context, req *gwpb.WarnRequest) (*gwpb.WarnResponse, error) {
	ctx, done, err := b.call(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	for _, r := range req.Ranges {
		if r == nil {
			return nil, status.Error(codes.InvalidArgument, "a range of the warning has no value")
		}
	}
	if err := b.keepBytes(req.SizeVT()); err != nil {
		return nil, err
	}
	err = b.client.Warn(ctx, digestOf(req.Digest), string(req.Short), client.WarnOpts{
		Level: int(req.Level), SourceInfo: req.Info, Range: req.Ranges, Detail: req.Detail, URL: req.Url,
	})
	return &gwpb.WarnResponse{}, err
}

// Return ends the build with the result of the front end, or with its error.
func (b *Bridge) Return(_ context.Context, req *gwpb.ReturnRequest) (*gwpb.ReturnResponse, error) {
	res, failure, err := b.fromPB(req)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.set {
		return nil, errors.New("the front end has returned before")
	}
	b.result, b.err, b.set = res, failure, true
	close(b.returned)
	return &gwpb.ReturnResponse{}, nil
}
