//go:build e2e

package remotecache

import (
	"context"
	"io"
	"os"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/micabuild/mica/internal/view"
)

// A host answers what the Dockerfile compiler asks.
var _ client.Client = (*host)(nil)

func (h *host) BuildOpts() client.BuildOpts {
	return client.BuildOpts{
		Opts: h.opts, SessionID: "test", Product: "mica",
		Workers: []client.WorkerInfo{{ID: "mica", Platforms: []ocispec.Platform{platforms.Normalize(platforms.DefaultSpec())}}},
		LLBCaps: pb.Caps.CapSet(pb.Caps.All()), Caps: gwpb.Caps.CapSet(gwpb.Caps.All()),
	}
}

func (h *host) Inputs(context.Context) (map[string]llb.State, error) { return nil, nil }

func (h *host) Solve(ctx context.Context, req client.SolveRequest) (*client.Result, error) {
	res := client.NewResult()
	if req.Definition == nil || len(req.Definition.Def) == 0 {
		res.SetRef((*result)(nil))
		return res, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	e, err := h.solve(ctx, req.Definition)
	if err != nil {
		return nil, err
	}
	res.SetRef(&result{h, e})
	return res, nil
}

func (h *host) ResolveSourceMetadata(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	_, d, config, err := h.ResolveImageConfig(ctx, strings.TrimPrefix(op.Identifier, "docker-image://"), opt)
	return &sourceresolver.MetaResponse{Op: op, Image: &sourceresolver.ResolveImageResponse{Digest: d, Config: config}}, err
}

func (h *host) ResolveImageConfig(ctx context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	img, err := h.image(ctx, ref)
	if err != nil {
		return "", "", nil, err
	}
	return ref, img.Target.Digest, img.RawConfig, nil
}

func (h *host) Warn(context.Context, digest.Digest, string, client.WarnOpts) error { return nil }

func (h *host) NewContainer(context.Context, client.NewContainerRequest) (client.Container, error) {
	return nil, os.ErrInvalid
}

// result is a solved edge as the compiler sees it.
type result struct {
	h *host
	*edge
}

func (r *result) ToState() (llb.State, error) { return llb.Scratch(), nil }

func (r *result) Evaluate(context.Context) error { return nil }

func (r *result) ReadFile(ctx context.Context, req client.ReadRequest) ([]byte, error) {
	v, err := r.view(ctx)
	if err != nil {
		return nil, err
	}
	f, err := v.Open(ctx, view.Clean(req.Filename))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(f)
}

func (r *result) StatFile(context.Context, client.StatRequest) (*fstypes.Stat, error) {
	return nil, os.ErrInvalid
}

func (r *result) ReadDir(context.Context, client.ReadDirRequest) ([]*fstypes.Stat, error) {
	return nil, os.ErrInvalid
}
