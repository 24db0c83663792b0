package attest

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	dockerfileversion "github.com/moby/buildkit/frontend/dockerfile/version"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/llbsolver/provenance"
	provenancetypes "github.com/moby/buildkit/solver/llbsolver/provenance/types"
	"github.com/moby/buildkit/solver/pb"
	srctypes "github.com/moby/buildkit/source/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/redact"
)

// Build describes a build for one platform.
type Build struct {
	Request
	// Root is the request of the whole build, if a front end that it has asked for has made this one; nil otherwise.
	Root       *Request
	Definition *pb.Definition
	// Others are graphs that the front end has solved to make this one, the Dockerfile and the ignore file for example.
	Others []*pb.Definition
	// Pin returns what a source resolved to. op is the digest of its operation.
	Pin func(op digest.Digest) (Pin, bool)
	// Requested returns what the process of an operation has requested, and whether it has run; nil for a build without the proxy network.
	Requested func(op digest.Digest) (Requested, bool)
	// Images are the images that the front end resolved.
	Images []provenancetypes.ImageSource
	// Environment is what the operator of the builder says of it: internal parameters with names of their own (Environment).
	Environment map[string]any
	// Compatibility is the version of BuildKit's behaviour that the client has asked for (solver/llbsolver/compat).
	Compatibility     int
	Started, Finished time.Time
	ID                string // of the invocation
	// Layers returns the layers of an operation that are in the image, by the operation's output.
	Layers func(op digest.Digest) map[int][]ocispec.Descriptor
}

// Request is what a front end was asked for.
type Request struct {
	Frontend string            // DockerfileFrontend, or the name of another; "" for a client that is the front end itself
	Args     map[string]string // its options
	// Inputs are the requests that have made its inputs, as far as they are known.
	Inputs map[string]*provenancetypes.RequestProvenance
}

// describe describes a request of a build with these sources.
func (r *Request) describe(s provenancetypes.Sources) *provenancetypes.RequestProvenance {
	p := provenance.RequestProvenance(r.Frontend, provenance.FilterArgs(r.Args), s)
	p.Request.Inputs = r.Inputs
	return p
}

// empty reports whether there is nothing to describe.
func empty(p *provenancetypes.RequestProvenance) bool {
	return p.Request.Frontend == "" && len(p.Request.Args) == 0 && len(p.Request.Inputs) == 0
}

// Describe describes the request that has made a graph which is the input of another front end.
func Describe(b *Build) (*provenancetypes.RequestProvenance, error) {
	c, err := b.capture()
	if err != nil {
		return nil, err
	}
	return b.Request.describe(c.Sources), nil
}

// DockerfileFrontend is the name of the compiler of Dockerfiles in this process.
const DockerfileFrontend = "dockerfile.v0"

// Pin is what a source resolved to.
type Pin struct {
	Digest digest.Digest // of a file
	Commit string        // of a repository
}

// Provenance makes the provenance of a build. attrs are those of `--attest type=provenance`: mode (min or max), version
// (v1 or v0.2), builder-id, reproducible, complete-materials, filename.
func Provenance(ctx context.Context, b *Build, attrs map[string]string) (*Attestation, error) {
	c, err := b.capture()
	if err != nil {
		return nil, err
	}
	p, err := provenance.NewPredicate(c)
	if err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	if err := checkComplete(p, c, attrs); err != nil {
		return nil, err
	}
	meta := p.RunDetails.Metadata
	meta.StartedOn, meta.FinishedOn, meta.InvocationID = &b.Started, &b.Finished, b.ID
	if v, ok := attrs["reproducible"]; ok {
		if meta.Reproducible, err = strconv.ParseBool(v); err != nil {
			return nil, fmt.Errorf("provenance: reproducible is true or false, not %q", v)
		}
	}
	p.RunDetails.Builder.ID = attrs["builder-id"]
	p.BuildDefinition.ExternalParameters.Request.CompatibilityVersion = b.Compatibility
	internal := &p.BuildDefinition.InternalParameters
	internal.ProvenanceCustomEnv = b.Environment
	if b.Frontend == DockerfileFrontend {
		internal.DockerfileVersion = dockerfileversion.Version()
	}
	switch mode := attrs["mode"]; mode {
	case "min":
		if scrub(&p.BuildDefinition.ExternalParameters.Request) {
			meta.Completeness.Request = false
		}
	case "", "max", "full":
		if err := b.describe(ctx, p, c); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("provenance: unknown mode %q: use min or max", mode)
	}
	a := &Attestation{Name: "provenance.json", PredicateType: ProvenanceV1}
	if name := attrs["filename"]; name != "" {
		a.Name = name
	}
	var predicate any = p
	switch v := attrs["version"]; v {
	case "", "v1":
	case "v0.2":
		predicate, a.PredicateType = p.ConvertToSLSA02(), ProvenanceV02
	default:
		return nil, fmt.Errorf("provenance: unknown version %q: use v1 or v0.2", v)
	}
	if a.Predicate, err = json.MarshalIndent(predicate, "", "  "); err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	a.Predicate = []byte(redact.URLs(string(a.Predicate)))
	return a, nil
}

// capture collects the sources, secrets and SSH agents of the operations (BuildKit, solver/llbsolver/provenance.go, captureProvenance).
func (b *Build) capture() (*provenance.Capture, error) {
	c := &provenance.Capture{}
	c.Request.Frontend, c.Request.Args, c.Request.Inputs = b.Frontend, provenance.FilterArgs(b.Args), b.Inputs
	// The Dockerfile has a source too.
	definitions := append([]*pb.Definition{b.Definition}, b.Others...)
	for _, info := range b.Definition.GetSource().GetInfos() {
		definitions = append(definitions, info.Definition)
	}
	for _, def := range definitions {
		if err := b.captureOperations(c, def); err != nil {
			return nil, err
		}
	}
	for _, i := range b.Images {
		c.AddImage(i)
	}
	if err := c.OptimizeImageSources(); err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	c.Sort()
	if b.Root != nil {
		if root := b.Root.describe(c.Sources); !empty(root) && !root.Equal(b.Request.describe(c.Sources)) {
			c.Request.Root = root
		}
	}
	return c, nil
}

func (b *Build) captureOperations(c *provenance.Capture, def *pb.Definition) error {
	for _, raw := range def.GetDef() {
		op := &pb.Op{}
		if err := op.UnmarshalVT(raw); err != nil {
			return fmt.Errorf("provenance: %w", err)
		}
		if e := op.GetExec(); e != nil {
			captureExec(c, e)
			b.captureRequested(c, e, digest.FromBytes(raw))
		}
		if s := op.GetSource(); s != nil {
			b.captureSource(c, op, s, digest.FromBytes(raw))
		}
	}
	return nil
}

func captureExec(c *provenance.Capture, e *pb.ExecOp) {
	for _, m := range e.Mounts {
		switch m.MountType {
		case pb.MountType_SECRET:
			c.AddSecret(provenancetypes.Secret{ID: m.SecretOpt.GetID(), Optional: m.SecretOpt.GetOptional()})
		case pb.MountType_SSH:
			c.AddSSH(provenancetypes.SSH{ID: m.SSHOpt.GetID(), Optional: m.SSHOpt.GetOptional()})
		}
	}
	for _, s := range e.Secretenv {
		c.AddSecret(provenancetypes.Secret{ID: s.GetID(), Optional: s.GetOptional()})
	}
	if e.Network != pb.NetMode_NONE {
		c.NetworkAccess = true
	}
}

func (b *Build) captureSource(c *provenance.Capture, op *pb.Op, s *pb.SourceOp, id digest.Digest) {
	scheme, rest, _ := strings.Cut(s.Identifier, "://")
	pin, _ := b.Pin(id)
	switch scheme {
	case "local":
		c.AddLocal(provenancetypes.LocalSource{Name: rest})
	case "docker-image", "oci-layout":
		_, d, _ := strings.Cut(rest, "@")
		c.AddImage(provenancetypes.ImageSource{Ref: rest, Platform: platformOf(op), Digest: digest.Digest(d), Local: scheme == "oci-layout"})
	case srctypes.DockerImageBlobScheme, srctypes.OCIBlobScheme:
		_, d, _ := strings.Cut(rest, "@")
		c.AddImageBlob(provenancetypes.ImageBlobSource{Ref: rest, Digest: digest.Digest(d), Local: scheme == srctypes.OCIBlobScheme})
	case "http", "https":
		c.AddHTTP(provenancetypes.HTTPSource{URL: s.Identifier, Digest: pin.Digest})
	case "git":
		url := s.Attrs[pb.AttrFullRemoteURL]
		if url == "" {
			url, _, _ = strings.Cut(rest, "#")
		}
		if _, ref, ok := strings.Cut(rest, "#"); ok {
			ref, _, _ = strings.Cut(ref, ":")
			url += "#" + ref
		}
		git := provenancetypes.GitSource{URL: url, Commit: pin.Commit}
		if b := s.Attrs[pb.AttrGitBundle]; b != "" {
			git.Bundle = &provenancetypes.GitBundle{URL: b}
		}
		c.AddGit(git)
	default:
		c.IncompleteMaterials = true
	}
}

func platformOf(op *pb.Op) *ocispec.Platform {
	p := op.Platform
	if p == nil {
		return nil
	}
	return &ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures}
}

// scrub removes what may be confidential from the request, and reports whether the request is now incomplete
// (scrubMinRequest).
func scrub(r *provenancetypes.Parameters) (incomplete bool) {
	args := map[string]string{}
	for k, v := range r.Args {
		if strings.HasPrefix(k, "build-arg:") || strings.HasPrefix(k, "label:") {
			incomplete = true
			continue
		}
		args[k] = v
	}
	if r.Args != nil {
		r.Args = args
	}
	r.Secrets, r.SSH = nil, nil
	for _, in := range r.Inputs {
		incomplete = scrub(in.Request) || incomplete
	}
	if r.Root != nil {
		incomplete = scrub(r.Root.Request) || incomplete
	}
	return incomplete
}

// describe adds the operations, their places in the Dockerfile, and their layers.
func (b *Build) describe(ctx context.Context, p *provenancetypes.ProvenancePredicateSLSA1, c *provenance.Capture) error {
	def := b.Definition
	if def == nil { // scratch, without a step
		def = &pb.Definition{}
	}
	steps, err := provenance.AddBuildConfig(ctx, p, c, definition{def: def}, false)
	if err != nil {
		return fmt.Errorf("provenance: %w", err)
	}
	layers := map[string][][]ocispec.Descriptor{}
	for op, step := range steps {
		for output, descs := range b.Layers(op) {
			layers[fmt.Sprintf("step%d:%d", step, output)] = [][]ocispec.Descriptor{descs}
		}
	}
	if len(layers) > 0 {
		p.RunDetails.Metadata.BuildKitMetadata.Layers = layers
	}
	return nil
}

// definition is a result that has only a definition.
type definition struct {
	solver.ResultProxy
	def *pb.Definition
}

func (d definition) Definition() *pb.Definition { return d.def }
