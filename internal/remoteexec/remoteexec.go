// Package remoteexec runs the processes of a build's steps on another mica, by BuildKit's API. What a process finds goes there through a
// repository of a registry, layer by layer, and what it writes comes back as a layer in that repository: neither is sent twice, and the
// caller need not have it.
package remoteexec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"
	"oras.land/oras-go/v2/content"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/solver/ops"
)

// Repository is the repository by which layers come and go. A Fetcher in it reads manifests and blobs.
type Repository interface {
	content.Fetcher
	// Name returns its name.
	Name() string
	// Manifest reads the manifest that has a tag or a digest.
	Manifest(ctx context.Context, ref string) (*registry.Manifest, error)
	// Blob writes a small blob, unless it is there.
	Blob(ctx context.Context, d ocispec.Descriptor, raw []byte) error
	// PutTag writes a manifest under a tag or its digest.
	PutTag(ctx context.Context, d ocispec.Descriptor, raw []byte, ref string) error
}

// Options say where processes run.
type Options struct {
	// Connect returns a connection to a mica that runs processes of a platform, another one than lost, which is nil or does not work any more.
	// The caller of New closes it.
	Connect func(ctx context.Context, p ocispec.Platform, lost *bkclient.Client) (*bkclient.Client, error)
	// Repository is one that both sides reach. Insecure lets the other side speak to it without TLS.
	Repository Repository
	Insecure   bool
	// Layer writes a layer into the repository, unless it is there, and returns its blob.
	Layer func(ctx context.Context, id digest.Digest) (ocispec.Descriptor, error)
	// Made is called with the layers of a result, which are in the repository.
	Made func(layers []remotecache.ImportedLayer)
	// Credential returns the credentials for the registry, which the other side asks for.
	Credential func(ctx context.Context, host string) (user, secret string, err error)
}

// Executor runs processes elsewhere. It is an ops.Elsewhere, safe for concurrent use.
type Executor struct {
	o      Options
	images *images
}

// New returns an executor. It opens no connection before there is a process to run.
func New(o Options) *Executor { return &Executor{o: o, images: newImages(&o)} }

var _ ops.Elsewhere = (*Executor)(nil)

// Run runs a process.
func (x *Executor) Run(ctx context.Context, p *ops.RemoteProcess) ([]buildcache.Link, error) {
	platform := platforms.DefaultSpec()
	if p.Platform != nil {
		platform = p.Platform.Spec()
	}
	platform = platforms.Normalize(platform)
	made, err := x.try(ctx, p, platform)
	if err != nil {
		return nil, err
	}
	layers, err := x.images.read(ctx, made)
	if err != nil {
		return nil, fmt.Errorf("run elsewhere: read the result: %w", err)
	}
	x.o.Made(layers)
	links := make([]buildcache.Link, len(layers))
	for i, l := range layers {
		links[i] = l.Layer
	}
	return links, nil
}

// maxTries is how often a process is begun whose worker goes away: a node of a cluster may.
const maxTries = 3

// try runs a process, again if its worker goes away, and returns the digest of the image that was made of the result. A process that has failed
// is not run again.
func (x *Executor) try(ctx context.Context, p *ops.RemoteProcess, platform ocispec.Platform) (digest.Digest, error) {
	var lost *bkclient.Client
	for n := 1; ; n++ {
		c, err := x.o.Connect(ctx, platform, lost)
		if err != nil {
			return "", fmt.Errorf("run elsewhere: %w", err)
		}
		g, err := x.graph(ctx, p, platform)
		if err != nil {
			return "", fmt.Errorf("run elsewhere: %w", err)
		}
		made, err := x.solve(ctx, c, g, p)
		if err == nil || ctx.Err() != nil || grpcerrors.Code(err) != codes.Unavailable || n == maxTries {
			return made, err
		}
		lost = c
		fmt.Fprintf(p.Stderr, "WARNING: the connection to where the step runs was lost: the step begins again\n")
	}
}

// graph returns the definition of a process whose inputs are images in the repository.
func (x *Executor) graph(ctx context.Context, p *ops.RemoteProcess, platform ocispec.Platform) (*graph, error) {
	g := newGraph(platform)
	exec := p.Op.CloneVT()
	for i, m := range exec.Mounts {
		if m.Input < 0 {
			continue
		}
		if p.Chains[i].Len() == 0 {
			m.Input = int64(pb.Empty)
			continue
		}
		image, err := x.images.of(ctx, p.Chains[i], platform)
		if err != nil {
			return nil, err
		}
		if m.Input, err = g.input("docker-image://" + x.o.Repository.Name() + "@" + image.String()); err != nil {
			return nil, err
		}
	}
	return g, g.finish(exec, p.Meta)
}

// solve runs a definition and returns the digest of the image that was made of its result.
func (x *Executor) solve(ctx context.Context, c *bkclient.Client, g *graph, p *ops.RemoteProcess) (digest.Digest, error) {
	def := &llb.Definition{}
	def.FromPB(g.def)
	insecure := strconv.FormatBool(x.o.Insecure)
	opt := bkclient.SolveOpt{
		Exports: []bkclient.ExportEntry{{Type: bkclient.ExporterImage, Attrs: map[string]string{
			string(exptypes.OptKeyName): x.o.Repository.Name(), string(exptypes.OptKeyPush): "true", string(exptypes.OptKeyPushByDigest): "true",
			string(exptypes.OptKeyInsecure): insecure,
		}}},
		Session:             []session.Attachable{&secretsOf{p.Secret}, &agentsOf{p.SSH}, &credentialsOf{x.o.Repository.Name(), x.o.Credential}},
		AllowedEntitlements: needs(p.Op),
	}
	if x.o.Insecure { // what the registry of an image is allowed, a cache says before it is pulled
		opt.CacheImports = []bkclient.CacheOptionsEntry{{Type: "registry", Attrs: map[string]string{
			"ref": x.o.Repository.Name(), "mode": "steps", string(exptypes.OptKeyInsecure): insecure,
		}}}
	}
	progress := make(chan *bkclient.SolveStatus)
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		show(progress, g.exec, p.Stdout, p.Stderr)
	}()
	resp, err := c.Solve(ctx, def, opt, progress)
	<-shown
	if err != nil {
		return "", bare(err)
	}
	made, err := digest.Parse(resp.ExporterResponse[exptypes.ExporterImageDigestKey])
	if err != nil {
		return "", errors.New("run elsewhere: the answer names no image")
	}
	return made, nil
}

// bare returns an error of Solve without what the client adds in front of the server's words.
func bare(err error) error {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		if !strings.HasPrefix(inner.Error(), "failed to solve: ") {
			return inner
		}
	}
	return err
}

// show writes the output of a process.
func show(progress <-chan *bkclient.SolveStatus, process digest.Digest, stdout, stderr io.Writer) {
	for st := range progress {
		for _, l := range st.Logs {
			switch {
			case l.Vertex != process:
			case l.Stream == 1:
				_, _ = stdout.Write(l.Data)
			default:
				_, _ = stderr.Write(l.Data)
			}
		}
	}
}

// needs are the entitlements of a process, which the user has granted already.
func needs(op *pb.ExecOp) (list []string) {
	if op.Network == pb.NetMode_HOST {
		list = append(list, string(entitlements.EntitlementNetworkHost))
	}
	if op.Security == pb.SecurityMode_INSECURE {
		list = append(list, string(entitlements.EntitlementSecurityInsecure))
	}
	return slices.Clip(list)
}
