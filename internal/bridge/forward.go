package bridge

import (
	"context"

	"github.com/moby/buildkit/client/buildid"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Forwarder is the service for many builds. The metadata of a call name its build.
type Forwarder struct {
	gwpb.UnimplementedLLBBridgeServer
	// Find waits for the bridge of a build.
	Find func(ctx context.Context, build string) (*Bridge, error)
}

// errNoBuild is the error of a call without a build. Clients know it by its words.
var errNoBuild = status.Error(codes.InvalidArgument, "no buildid found in context")

func forward[Req, Resp any](
	ctx context.Context, f *Forwarder, req Req, call func(*Bridge, context.Context, Req) (*Resp, error),
) (*Resp, error) {
	id := buildid.FromIncomingContext(ctx)
	if id == "" {
		return nil, errNoBuild
	}
	b, err := f.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	return call(b, ctx, req)
}

// Ping calls the method of a build's bridge, as the others do.
func (f *Forwarder) Ping(ctx context.Context, req *gwpb.PingRequest) (*gwpb.PongResponse, error) {
	return forward(ctx, f, req, (*Bridge).Ping)
}

// Inputs is Bridge.Inputs.
func (f *Forwarder) Inputs(ctx context.Context, req *gwpb.InputsRequest) (*gwpb.InputsResponse, error) {
	return forward(ctx, f, req, (*Bridge).Inputs)
}

// Solve is Bridge.Solve.
func (f *Forwarder) Solve(ctx context.Context, req *gwpb.SolveRequest) (*gwpb.SolveResponse, error) {
	return forward(ctx, f, req, (*Bridge).Solve)
}

// Evaluate is Bridge.Evaluate.
func (f *Forwarder) Evaluate(ctx context.Context, req *gwpb.EvaluateRequest) (*gwpb.EvaluateResponse, error) {
	return forward(ctx, f, req, (*Bridge).Evaluate)
}

// Warn is Bridge.Warn.
func (f *Forwarder) Warn(ctx context.Context, req *gwpb.WarnRequest) (*gwpb.WarnResponse, error) {
	return forward(ctx, f, req, (*Bridge).Warn)
}

// Return is Bridge.Return.
func (f *Forwarder) Return(ctx context.Context, req *gwpb.ReturnRequest) (*gwpb.ReturnResponse, error) {
	return forward(ctx, f, req, (*Bridge).Return)
}

// ReadFile is Bridge.ReadFile.
func (f *Forwarder) ReadFile(ctx context.Context, req *gwpb.ReadFileRequest) (*gwpb.ReadFileResponse, error) {
	return forward(ctx, f, req, (*Bridge).ReadFile)
}

// ReadDir is Bridge.ReadDir.
func (f *Forwarder) ReadDir(ctx context.Context, req *gwpb.ReadDirRequest) (*gwpb.ReadDirResponse, error) {
	return forward(ctx, f, req, (*Bridge).ReadDir)
}

// StatFile is Bridge.StatFile.
func (f *Forwarder) StatFile(ctx context.Context, req *gwpb.StatFileRequest) (*gwpb.StatFileResponse, error) {
	return forward(ctx, f, req, (*Bridge).StatFile)
}

// ResolveImageConfig is Bridge.ResolveImageConfig.
func (f *Forwarder) ResolveImageConfig(ctx context.Context, req *gwpb.ResolveImageConfigRequest) (*gwpb.ResolveImageConfigResponse, error) {
	return forward(ctx, f, req, (*Bridge).ResolveImageConfig)
}

// ResolveSourceMeta is Bridge.ResolveSourceMeta.
func (f *Forwarder) ResolveSourceMeta(ctx context.Context, req *gwpb.ResolveSourceMetaRequest) (*gwpb.ResolveSourceMetaResponse, error) {
	return forward(ctx, f, req, (*Bridge).ResolveSourceMeta)
}

// NewContainer is Bridge.NewContainer.
func (f *Forwarder) NewContainer(ctx context.Context, req *gwpb.NewContainerRequest) (*gwpb.NewContainerResponse, error) {
	return forward(ctx, f, req, (*Bridge).NewContainer)
}

// ReleaseContainer is Bridge.ReleaseContainer.
func (f *Forwarder) ReleaseContainer(ctx context.Context, req *gwpb.ReleaseContainerRequest) (*gwpb.ReleaseContainerResponse, error) {
	return forward(ctx, f, req, (*Bridge).ReleaseContainer)
}

// ReadFileContainer is Bridge.ReadFileContainer.
func (f *Forwarder) ReadFileContainer(ctx context.Context, req *gwpb.ReadFileRequest) (*gwpb.ReadFileResponse, error) {
	return forward(ctx, f, req, (*Bridge).ReadFileContainer)
}

// ReadDirContainer is Bridge.ReadDirContainer.
func (f *Forwarder) ReadDirContainer(ctx context.Context, req *gwpb.ReadDirRequest) (*gwpb.ReadDirResponse, error) {
	return forward(ctx, f, req, (*Bridge).ReadDirContainer)
}

// StatFileContainer is Bridge.StatFileContainer.
func (f *Forwarder) StatFileContainer(ctx context.Context, req *gwpb.StatFileRequest) (*gwpb.StatFileResponse, error) {
	return forward(ctx, f, req, (*Bridge).StatFileContainer)
}

// ExecProcess is Bridge.ExecProcess.
func (f *Forwarder) ExecProcess(stream gwpb.LLBBridge_ExecProcessServer) error {
	id := buildid.FromIncomingContext(stream.Context())
	if id == "" {
		return errNoBuild
	}
	b, err := f.Find(stream.Context(), id)
	if err != nil {
		return err
	}
	return b.ExecProcess(stream)
}
