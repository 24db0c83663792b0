// Package control has the services of BuildKit's API (moby.buildkit.v1) for one store.
package control

import (
	"context"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	"github.com/containerd/platforms"
	controlapi "github.com/moby/buildkit/api/services/control"
	apitypes "github.com/moby/buildkit/api/types"
	dockerfileversion "github.com/moby/buildkit/frontend/dockerfile/version"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/micabuild/mica/internal/bridge"
	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/grpcserver"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/store"
)

// Options are what the services work with.
type Options struct {
	Sessions *session.Manager
	Store    *store.Store
	// NewBuilder returns what builds with a client of registries. It opens the store anew, as a process of the command line does: what a
	// build holds is released with it, and a prune does not wait for builds.
	NewBuilder func(*registry.Client) (*builder.Builder, error)
	// Entitlements are those that steps may get if their client allows them.
	Entitlements []string
	// ProvenanceEnv is what the provenance of all builds says of this server.
	ProvenanceEnv map[string]any
	// Built is called with each build that has put an image into the store; nil for nothing.
	Built    func(*builder.Result)
	Version  string // of the BuildKit whose API this is
	Revision string // of mica
}

// Controller answers BuildKit's clients. It is safe for concurrent use.
type Controller struct {
	controlapi.UnimplementedControlServer
	o     Options
	jobs  *jobs
	parts *parts
	// requests are those of the front ends of builds that run.
	requests *builder.Requests
}

// New returns a Controller.
func New(o Options) *Controller {
	return &Controller{o: o, jobs: newJobs(), parts: newParts(o.Store), requests: builder.NewRequests()}
}

// Register adds the services to a server of NewServer.
func (c *Controller) Register(s *grpc.Server) {
	controlapi.RegisterControlServer(s, c)
	gwpb.RegisterLLBBridgeServer(s, &bridge.Forwarder{Find: c.findBridge})
	contentapi.RegisterContentServer(s, c.parts)
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
}

// workerID names the only worker.
const workerID = "mica"

// workerLabels names the parts of the worker. By the snapshotter buildx knows an engine whose images have several platforms and attestations,
// and that exports layouts and caches.
func workerLabels() map[string]string {
	return map[string]string{"org.mobyproject.buildkit.worker.executor": "mica", "org.mobyproject.buildkit.worker.snapshotter": "mica"}
}

// ListWorkers returns this host.
func (c *Controller) ListWorkers(ctx context.Context, _ *controlapi.ListWorkersRequest) (*controlapi.ListWorkersResponse, error) {
	host := []ocispec.Platform{platforms.Normalize(platforms.DefaultSpec())}
	return &controlapi.ListWorkersResponse{Record: []*apitypes.WorkerRecord{{
		ID: workerID, Labels: workerLabels(),
		Platforms: pb.PlatformsFromSpec(host), BuildkitVersion: c.version(ctx),
	}}}, nil
}

// Info returns the version of BuildKit's API.
func (c *Controller) Info(ctx context.Context, _ *controlapi.InfoRequest) (*controlapi.InfoResponse, error) {
	return &controlapi.InfoResponse{BuildkitVersion: c.version(ctx)}, nil
}

// version is that of BuildKit, not of mica: by it, build actions choose what they ask for. Of a Docker engine, they expect its suffix.
func (c *Controller) version(ctx context.Context) *apitypes.BuildkitVersion {
	version := c.o.Version
	if grpcserver.Upgraded(ctx) {
		version += "-moby"
	}
	return &apitypes.BuildkitVersion{
		Package: "github.com/micabuild/mica", Version: version, Revision: c.o.Revision, DockerfileVersion: dockerfileversion.Version(),
	}
}
