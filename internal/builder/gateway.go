package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc/codes"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/solver/ops"
	"github.com/micabuild/mica/internal/store"
)

// The names of front ends, as in BuildKit.
const (
	dockerfileFrontend = "dockerfile.v0" // the compiler in this process
	gatewayFrontend    = "gateway.v0"    // an image
)

// Options of gateway.v0.
const (
	optSource      = "source"
	optCaps        = "frontend.caps" // that the client needs
	optDevel       = "gateway-devel" // no longer in BuildKit
	optResolveMode = "image-resolve-mode"
)

// Labels of images of front ends.
const (
	labelNoNetwork = "moby.buildkit.frontend.network.none"
	labelCaps      = "moby.buildkit.frontend.caps"
)

// capInputs is the capability that a front end with inputs needs.
const capInputs = "moby.buildkit.frontend.inputs"

// maxGateways is how many front ends in images a build runs at once, those that they ask for included.
const maxGateways = 16

// gateway runs the front ends of a build that are images.
type gateway struct {
	store  *store.Store
	worker *ops.Worker
	run    func(ctx context.Context, p *sandbox.Process) error
	// user are the options of the whole build, which front ends cannot change.
	user map[string]string

	mu      sync.Mutex
	running int
}

// limits are the user's for steps, nil for none: those of the processes of front ends, too, and of the containers that they ask for.
func (g *gateway) limits() (*pb.LinuxResources, error) {
	l, err := buildspec.LimitsOf(g.user)
	if err != nil || l == (buildspec.Limits{}) {
		return nil, err
	}
	value := func(v *int64) int64 {
		if v == nil {
			return 0
		}
		return *v
	}
	return &pb.LinuxResources{
		Memory: value(l.Memory), MemorySwap: value(l.MemorySwap), CpuShares: uint64(value(l.CPUShares)), CpuPeriod: uint64(value(l.CPUPeriod)),
		CpuQuota: value(l.CPUQuota), CpusetCpus: l.CPUs, CpusetMems: l.MemoryNodes,
	}, nil
}

// offline reports whether the user gives steps, and what front ends run, no network.
func (g *gateway) offline() bool { return g.user["force-network-mode"] == "none" }

// begin counts a front end that runs.
func (g *gateway) begin() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running >= maxGateways {
		return fmt.Errorf("a build runs at most %d front ends at once", maxGateways)
	}
	g.running++
	return nil
}

func (g *gateway) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
}

// gateway runs the front end in an image. It can do what this front end can.
func (f *frontend) gateway(ctx context.Context, req client.SolveRequest) (*client.Result, error) {
	source := req.FrontendOpt[optSource]
	_, devel := req.FrontendOpt[optDevel]
	switch {
	case devel:
		return nil, errors.New("development gateway is no longer supported")
	case source == "":
		return nil, errors.New("no source specified for gateway")
	case f.until != nil:
		return nil, fmt.Errorf("front end %s: only Dockerfiles of the built-in front end have states that can be looked into", source)
	}
	if err := f.images.begin(); err != nil {
		return nil, fmt.Errorf("front end %s: %w", source, err)
	}
	defer f.images.end()
	inner, err := f.within(req)
	if err != nil {
		return nil, err
	}
	inner.checker = nil // of the compiler in this process
	inner.by = f.by.child(req, f.made)
	inner.defers, inner.untrusted = true, true
	f.images.worker.KeepFailedMounts()
	img, err := inner.findGateway(ctx, source)
	if err != nil {
		return nil, err
	}
	if err := img.supports(inner.opts[optCaps], len(req.FrontendInputs) > 0); err != nil {
		return nil, err
	}
	res, err := inner.runGateway(ctx, img, req.FrontendInputs)
	if err == nil && (req.Evaluate || !f.defers) {
		err = evaluate(ctx, res)
	}
	if err != nil {
		return nil, err
	}
	return res, nil
}

// gatewayImage is a front end in an image.
type gatewayImage struct {
	name   string
	def    *pb.Definition // of its files
	config dockerspec.DockerOCIImageConfig
}

// findGateway finds the image of a front end: a named context of the build, or else an image as base images are found, for this host.
func (f *frontend) findGateway(ctx context.Context, source string) (*gatewayImage, error) {
	dc, err := dockerui.NewClient(f)
	if err != nil {
		return nil, err
	}
	var captured digest.Digest
	nc, err := dc.NamedContext(source, dockerui.ContextOpt{CaptureDigest: &captured})
	if err != nil {
		return nil, err
	}
	if nc != nil {
		st, config, err := nc.Load(ctx)
		if err != nil {
			return nil, err
		}
		if st != nil {
			img := &gatewayImage{name: source}
			if config != nil {
				img.config = config.Config
			}
			return img, img.marshal(ctx, *st)
		}
	}
	named, err := reference.ParseNormalizedNamed(source)
	if err != nil {
		return nil, fmt.Errorf("front end %q: %w", source, err)
	}
	return f.resolveGateway(ctx, reference.TagNameOnly(named))
}

func (f *frontend) resolveGateway(ctx context.Context, named reference.Named) (*gatewayImage, error) {
	ref, d, raw, err := f.ResolveImageConfig(ctx, named.String(), sourceresolver.Opt{
		ImageOpt: &sourceresolver.ResolveImageOpt{ResolveMode: f.opts[optResolveMode]},
	})
	if err != nil {
		return nil, err
	}
	img := &gatewayImage{name: named.String()}
	var config dockerspec.DockerOCIImage
	if err := json.Unmarshal(raw, &config); err != nil {
		return nil, fmt.Errorf("front end %s: config: %w", ref, err)
	}
	img.config = config.Config
	pinned, err := reference.ParseNormalizedNamed(ref) // as the policies of the build have left it
	if err != nil {
		return nil, fmt.Errorf("front end %s: %w", ref, err)
	}
	if _, ok := pinned.(reference.Digested); !ok {
		if pinned, err = reference.WithDigest(pinned, d); err != nil {
			return nil, fmt.Errorf("front end %s: %w", ref, err)
		}
	}
	return img, img.marshal(ctx, llb.Image(pinned.String()))
}

func (i *gatewayImage) marshal(ctx context.Context, st llb.State) error {
	def, err := st.Marshal(ctx)
	if err != nil {
		return fmt.Errorf("front end %s: %w", i.name, err)
	}
	if i.def = def.ToPB(); len(i.def.Def) == 0 {
		return fmt.Errorf("front end %s: the image has no files", i.name)
	}
	return nil
}

// supports returns an error by which clients do without a capability if the front end lacks it.
func (i *gatewayImage) supports(needed string, inputs bool) error {
	has := capsOf(i.config.Labels[labelCaps])
	needs := capsOf(needed)
	if inputs {
		needs[capInputs] = true
	}
	for c := range needs {
		if !has[c] {
			return grpcerrors.WrapCode(errdefs.NewUnsupportedFrontendCapError(c), codes.Unimplemented)
		}
	}
	return nil
}

// capsOf reads a list of capabilities: "a,b+detail".
func capsOf(list string) map[string]bool {
	caps := map[string]bool{}
	for c := range strings.SplitSeq(list, ",") {
		if name, _, _ := strings.Cut(c, "+"); name != "" {
			caps[name] = true
		}
	}
	return caps
}

// offline reports whether the image asks for no network.
func (i *gatewayImage) offline() bool {
	none, err := strconv.ParseBool(i.config.Labels[labelNoNetwork])
	return err == nil && none
}
