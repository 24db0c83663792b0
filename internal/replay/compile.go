package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/dockerfile"
	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/redact"
)

// compile sets the config of a state: that of a process at the step. The compiler gets the recorded Dockerfile up to there, with a RUN as its
// last instruction, and the base images as they are recorded. Nothing is solved.
func compile(ctx context.Context, b *history.Build, step *history.Step, st *State) error {
	if b.Text == "" || step.Line == 0 {
		return fmt.Errorf("the environment of step %s is not recorded", step.Name)
	}
	cut := dockerfile.After
	if st.Before {
		cut = func(text []byte, line int) ([]byte, error) { return dockerfile.Before(text, fmt.Sprint(line)) }
	}
	text, err := cut([]byte(b.Text), step.Line)
	if err != nil {
		return err
	}
	c := &compiler{build: b, text: text, opts: map[string]string{}, bases: map[string]*history.Step{}}
	c.addBases(step, map[digest.Digest]bool{})
	c.addOptions(step, st)
	if _, err := builder.Build(ctx, c); err != nil {
		return fmt.Errorf("find the environment of step %s: %w", step.Name, err)
	}
	if c.last == nil {
		return fmt.Errorf("the environment of step %s is not known", step.Name)
	}
	meta := c.last.Meta
	st.Config.Env, st.Config.User, st.Config.WorkingDir = meta.Env, meta.User, meta.Cwd
	st.Command = meta.Args
	return nil
}

// compiler serves the Dockerfile compiler from the record of a build.
type compiler struct {
	build *history.Build
	text  []byte
	opts  map[string]string
	bases map[string]*history.Step // the images that the step is made of, by their names
	last  *pb.ExecOp               // the last instruction
}

var _ client.Client = (*compiler)(nil)

// addOptions sets the options of the build that change the environment of a step.
func (c *compiler) addOptions(step *history.Step, st *State) {
	for _, name := range slices.Sorted(maps.Keys(c.build.Args)) {
		value := c.build.Args[name]
		if redact.IsSecret(name) { // it has the digest
			st.Hidden = append(st.Hidden, name)
			value = ""
		}
		c.opts["build-arg:"+name] = value
	}
	for name, value := range c.build.Contexts {
		c.opts["context:"+name] = c.namedContext(name, value)
	}
	if p := step.PlatformOf(c.build); p != "" {
		c.opts["platform"] = p
	}
}

// namedContext returns a named context as the compiler takes it. The directory of a layout is that of the build, which may be gone: its
// image is the one that the step is made of.
func (c *compiler) namedContext(name, value string) string {
	switch {
	case !buildspec.IsRemote(value):
		return "local:" + name
	case !strings.HasPrefix(value, layoutScheme):
		return value
	}
	name, _, _ = strings.Cut(name, "::") // a platform follows
	if ref, err := reference.ParseNormalizedNamed(name); err == nil {
		if base := c.bases[layoutScheme+ref.String()]; base != nil {
			_, d, _ := strings.Cut(base.Source.Identifier, "@")
			return layoutScheme + "layout@" + d
		}
	}
	return "local:" + name // the step does not use it
}

const layoutScheme = "oci-layout://"

// addBases finds the images among the steps that a step is made of.
func (c *compiler) addBases(step *history.Step, seen map[digest.Digest]bool) {
	if seen[step.Vertex] {
		return
	}
	seen[step.Vertex] = true
	if step.Source != nil {
		name, _, _ := strings.Cut(step.Source.Identifier, "@")
		c.bases[name] = step
	}
	for _, d := range step.Inputs {
		if in := c.build.Step(d); in != nil {
			c.addBases(in, seen)
		}
	}
}

// BuildOpts returns the options, and the capabilities of mica.
func (c *compiler) BuildOpts() client.BuildOpts {
	return client.BuildOpts{
		Opts: maps.Clone(c.opts), SessionID: "mica", Product: "mica",
		Workers: []client.WorkerInfo{{ID: "mica", Platforms: []ocispec.Platform{platforms.Normalize(platforms.DefaultSpec())}}},
		LLBCaps: pb.Caps.CapSet(pb.Caps.All()), Caps: gwpb.Caps.CapSet(gwpb.Caps.All()),
	}
}

// Inputs returns none: the context is not there.
func (c *compiler) Inputs(context.Context) (map[string]llb.State, error) { return nil, nil }

// Solve keeps the last instruction. The other graphs are directories of the host, of which the Dockerfile alone is recorded.
func (c *compiler) Solve(ctx context.Context, req client.SolveRequest) (_ *client.Result, err error) {
	defer crash.Recover(&err)
	if req.Frontend != "" { // of a syntax line
		inner := *c
		inner.opts = maps.Clone(c.opts)
		maps.Copy(inner.opts, req.FrontendOpt)
		res, err := builder.Build(ctx, &inner)
		c.last = inner.last
		return res, err
	}
	res := client.NewResult()
	res.SetRef(&files{c.text})
	if op := head(req.Definition); op.GetExec() != nil {
		c.last = op.GetExec()
	}
	return res, nil
}

// head returns the operation of a graph's result, nil for none.
func head(def *pb.Definition) *pb.Op {
	if def == nil || len(def.Def) == 0 {
		return nil
	}
	last := &pb.Op{}
	if last.UnmarshalVT(def.Def[len(def.Def)-1]) != nil || len(last.Inputs) != 1 {
		return nil
	}
	for _, raw := range def.Def {
		op := &pb.Op{}
		if digest.FromBytes(raw).String() == last.Inputs[0].Digest && op.UnmarshalVT(raw) == nil {
			return op
		}
	}
	return nil
}

// ResolveSourceMetadata returns the config of a base image as the build found it.
func (c *compiler) ResolveSourceMetadata(_ context.Context, op *pb.SourceOp, _ sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	name, _, _ := strings.Cut(op.Identifier, "@")
	base, ok := c.bases[name]
	if !ok {
		return nil, fmt.Errorf("%s is not recorded", op.Identifier)
	}
	_, d, _ := strings.Cut(base.Source.Identifier, "@")
	config, err := config(base.Source)
	if err != nil {
		return nil, err
	}
	return &sourceresolver.MetaResponse{Op: op, Image: &sourceresolver.ResolveImageResponse{Digest: digest.Digest(d), Config: config}}, nil
}

// ResolveImageConfig is ResolveSourceMetadata for an image by its name.
func (c *compiler) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	scheme := "docker-image://"
	if opt.OCILayoutOpt != nil {
		scheme = layoutScheme
	}
	res, err := c.ResolveSourceMetadata(ctx, &pb.SourceOp{Identifier: scheme + ref}, opt)
	if err != nil {
		return "", "", nil, err
	}
	return ref, res.Image.Digest, res.Image.Config, nil
}

// config is the config of an image as far as it is recorded.
func config(src *history.Source) ([]byte, error) {
	img := dockerspec.DockerOCIImage{Image: ocispec.Image{Platform: platforms.DefaultSpec(), RootFS: ocispec.RootFS{Type: "layers", DiffIDs: src.Layers}}}
	img.Config.Env, img.Config.User, img.Config.WorkingDir, img.Config.Shell, img.Config.OnBuild = src.Env, src.User, src.Dir, src.Shell, src.OnBuild
	return json.Marshal(img)
}

// Warn drops the warnings, which the build has shown.
func (c *compiler) Warn(context.Context, digest.Digest, string, client.WarnOpts) error { return nil }

// NewContainer is for frontends that run processes.
func (c *compiler) NewContainer(context.Context, client.NewContainerRequest) (client.Container, error) {
	return nil, errors.New("containers of a frontend are not supported")
}

// files is a directory with a Dockerfile, under any name, and nothing else.
type files struct{ text []byte }

var _ client.Reference = (*files)(nil)

func (f *files) ToState() (llb.State, error) { return llb.Scratch(), nil }

func (f *files) Evaluate(context.Context) error { return nil }

func (f *files) ReadFile(_ context.Context, req client.ReadRequest) ([]byte, error) {
	if strings.HasSuffix(req.Filename, ".dockerignore") {
		return nil, &fs.PathError{Op: "open", Path: req.Filename, Err: fs.ErrNotExist}
	}
	return f.text, nil
}

func (f *files) StatFile(_ context.Context, req client.StatRequest) (*fstypes.Stat, error) {
	return nil, &fs.PathError{Op: "stat", Path: req.Path, Err: fs.ErrNotExist}
}

func (f *files) ReadDir(_ context.Context, req client.ReadDirRequest) ([]*fstypes.Stat, error) {
	return nil, &fs.PathError{Op: "open", Path: req.Path, Err: fs.ErrNotExist}
}
