package builder

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/bridge"
	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/dockerfile"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/solver/ops"
	"github.com/micabuild/mica/internal/view"
)

// newFrontend is that of a build whose context and Dockerfile are files.
func newFrontend(t *testing.T, opts map[string]string, files map[string]string) *frontend {
	t.Helper()
	return newFrontendOf(t, newBuilder(t), opts, files)
}

func newFrontendOf(t *testing.T, b *Builder, opts map[string]string, files map[string]string) *frontend {
	t.Helper()
	content := map[string][]byte{}
	for name, text := range files {
		content[name] = []byte(text)
	}
	local := func(view.DirOptions) (view.View, error) { return view.Files(content), nil }
	bases := &baseImages{images: b.Images, pull: b.pull, found: map[string]*baseImage{}}
	ls := &layouts{b: b}
	w := ops.New(ops.Options{
		Store: b.Store, Layers: b.Layers, Image: bases.find, Layout: ls.find, Host: b.Host,
		Locals: map[string]ops.Local{localContext: local, localDockerfile: local},
	})
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	s := solver.New(solver.Options{Store: b.Store, Layers: b.Layers, Kinds: w.Kinds()})
	return &frontend{
		solver: s, bases: bases, layouts: ls, opts: opts, checker: dockerfile.NewChecker(opts), containers: &containers{host: b.Host, worker: w},
		images: &gateway{store: b.Store, worker: w, run: runHere}, imports: b.openCaches(t.Context(), &Options{}, nil),
		kept: new(bridge.Kept),
	}
}

// otherRef is a reference of another client.
type otherRef struct{ client.Reference }

func TestFrontendRefuses(t *testing.T) {
	t.Parallel()
	for want, req := range map[string]client.SolveRequest{
		"a front end cannot import the build cache /etc: name it for the whole build": {
			CacheImports: []client.CacheOptionsEntry{{Type: "local", Attrs: map[string]string{"src": "/etc"}}},
		},
		"frontend x is not supported": {Frontend: "x"},
		"build input context: ":       {Frontend: "dockerfile.v0", FrontendInputs: map[string]*pb.Definition{"context": nil}},
	} {
		if _, err := newFrontend(t, nil, nil).Solve(t.Context(), req); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	f := newFrontend(t, nil, nil)
	for want, req := range map[string]client.NewContainerRequest{
		"process has no root filesystem":                                {},
		"invalid mount type TMPFS for /":                                {Mounts: []client.Mount{{Dest: "/", MountType: pb.MountType_TMPFS}}},
		"mount /c of type cache lacks its options":                      {Mounts: []client.Mount{{Dest: "/"}, {Dest: "/c", MountType: pb.MountType_CACHE}}},
		"mount /: unexpected type for reference, got *builder.otherRef": {Mounts: []client.Mount{{Dest: "/", Ref: &otherRef{}}}},
	} {
		if _, err := f.NewContainer(t.Context(), req); text(err) != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := f.ResolveSourceMetadata(t.Context(), &pb.SourceOp{Identifier: "ftp://x"}, sourceresolver.Opt{}); text(err) != "source ftp://x is not supported" {
		t.Errorf("%v", err)
	}
}

// TestNestedFrontends: a front end that asks for the Dockerfile compiler, or by its image, gets it, with options and inputs of its own.
func TestNestedFrontends(t *testing.T) {
	t.Parallel()
	files := map[string]string{"Dockerfile": "FROM scratch AS a\nARG V=1\nLABEL v=$V\nFROM scratch\nCOPY f /\n", "f": "f"}
	input, err := llb.Scratch().File(llb.Mkfile("/Dockerfile", 0o644, []byte("FROM scratch\nLABEL v=input\n"))).Marshal(t.Context(), llb.LinuxAmd64)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		req  client.SolveRequest
		want string // the config
	}{
		"options": {
			client.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: map[string]string{"build-arg:V": "2", "target": "a"}}, `"Labels":{"v":"2"}`,
		},
		"none of the outer options": {client.SolveRequest{Frontend: "dockerfile.v0"}, `COPY f / # buildkit`},
		"by its image": {
			client.SolveRequest{Frontend: "gateway.v0", FrontendOpt: map[string]string{"source": "docker/dockerfile:1", "target": "a"}}, `"Labels":{"v":"1"}`,
		},
		"by its name as an image": {
			client.SolveRequest{Frontend: "gateway.v0", FrontendOpt: map[string]string{"source": "dockerfile.v0", "target": "a"}}, `"Labels":{"v":"1"}`,
		},
		"inputs": {
			client.SolveRequest{Frontend: "dockerfile.v0", FrontendInputs: map[string]*pb.Definition{"context": input.ToPB(), "dockerfile": input.ToPB()}},
			`"Labels":{"v":"input"}`,
		},
	} {
		f := newFrontend(t, map[string]string{"target": "a", "platform": "linux/amd64"}, files)
		res, err := f.Solve(t.Context(), c.req)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if config := string(res.Metadata[exptypes.ExporterImageConfigKey]); !strings.Contains(config, c.want) {
			t.Errorf("%s: %s", name, config)
		}
		if f.opts["target"] != "a" || f.inputs != nil {
			t.Errorf("%s: the outer front end has %v, %v", name, f.opts, f.inputs)
		}
	}
}

// TestFrontendNestedIgnoreFile: the ignore file of a nested build fails that build, and no other of the front end that asked for it.
func TestFrontendNestedIgnoreFile(t *testing.T) {
	t.Parallel()
	f := newFrontend(t, nil, map[string]string{"Dockerfile": "FROM scratch\nCOPY f /\n", "other": "FROM scratch\nCOPY f /\n", "f": "", ".dockerignore": "[", "other.dockerignore": "x"})
	if _, err := f.Solve(t.Context(), client.SolveRequest{Frontend: "dockerfile.v0"}); err == nil || !strings.Contains(err.Error(), "invalid pattern") {
		t.Errorf("the nested build: %v", err)
	}
	if _, err := f.Solve(t.Context(), client.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: map[string]string{"filename": "other"}}); err != nil {
		t.Errorf("another: %v", err)
	}
	if _, err := f.Solve(t.Context(), client.SolveRequest{Definition: scratchInput(t)}); err != nil {
		t.Errorf("a graph: %v", err)
	}
}

func TestFrontendSolves(t *testing.T) {
	t.Parallel()
	f := newFrontend(t, nil, map[string]string{"f": "1"})
	def, err := llb.Scratch().File(llb.Copy(llb.Local("context"), "/f", "/g")).Marshal(t.Context(), llb.LinuxAmd64)
	if err != nil {
		t.Fatal(err)
	}
	res, err := f.Solve(t.Context(), client.SolveRequest{Definition: def.ToPB()})
	if err != nil {
		t.Fatal(err)
	}
	data, err := res.Ref.ReadFile(t.Context(), client.ReadRequest{Filename: "g"})
	if err != nil || string(data) != "1" {
		t.Errorf("%q, %v", data, err)
	}
	if st, err := res.Ref.ToState(); err != nil || st.Output() == nil {
		t.Errorf("%v, %v", st, err)
	}
	for _, def := range []*pb.Definition{nil, {}} {
		res, err := f.Solve(t.Context(), client.SolveRequest{Definition: def})
		if ref, ok := res.Ref.(*resultRef); err != nil || !ok || ref != nil {
			t.Errorf("%v, %v", res.Ref, err)
		}
	}
	if err := f.checker.File(".dockerignore", []byte("[")); err == nil {
		t.Fatal("no error")
	}
	if _, err := f.Solve(t.Context(), client.SolveRequest{Definition: def.ToPB()}); err == nil || !strings.Contains(err.Error(), "invalid pattern") {
		t.Errorf("an invalid ignore file: %v", err)
	}
}

// TestFrontendFaults: a panic below a method that the compiler calls is an error.
func TestFrontendFaults(t *testing.T) {
	t.Parallel()
	f := newFrontend(t, nil, nil)
	f.bases, f.layouts = nil, nil
	var fault *crash.Error
	if _, err := f.ResolveSourceMetadata(t.Context(), &pb.SourceOp{Identifier: "docker-image://x"}, sourceresolver.Opt{}); !errors.As(err, &fault) {
		t.Errorf("%v", err)
	}
	if _, _, _, err := f.ResolveImageConfig(t.Context(), "x", sourceresolver.Opt{}); !errors.As(err, &fault) {
		t.Errorf("%v", err)
	}
	f.solver = nil
	if _, err := f.Solve(t.Context(), client.SolveRequest{Definition: &pb.Definition{Def: [][]byte{{}}}}); !errors.As(err, &fault) {
		t.Errorf("%v", err)
	}
}

func TestBuildOpts(t *testing.T) {
	t.Parallel()
	f := newFrontend(t, map[string]string{"a": "1"}, nil)
	o := f.BuildOpts()
	o.Opts["a"] = "2"
	if f.opts["a"] != "1" {
		t.Error("the compiler can change the options of others")
	}
	if o.LLBCaps.Supports(pb.CapMergeOp) != nil || len(o.Workers) != 1 || len(o.Workers[0].Platforms) != 1 {
		t.Errorf("%+v", o)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	f := newFrontend(t, nil, nil)
	if err := f.Warn(t.Context(), "", "nobody listens", client.WarnOpts{}); err != nil {
		t.Error(err)
	}
	var got []*bkclient.VertexWarning
	f.events = func(st *solver.Status) { got = append(got, st.Warnings...) }
	err := f.Warn(context.Background(), digest.FromString("v"), "short", client.WarnOpts{Level: 2, URL: "u", Detail: [][]byte{[]byte("d")}})
	if err != nil || len(got) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	if w := got[0]; string(w.Short) != "short" || w.Level != 2 || w.URL != "u" || w.Vertex != digest.FromString("v") || !slices.EqualFunc(w.Detail, [][]byte{[]byte("d")}, slices.Equal) {
		t.Errorf("%+v", w)
	}
}
