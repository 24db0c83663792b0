package bridge_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/buildid"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/gateway/grpcclient"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/solver/result"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/micabuild/mica/internal/bridge"
	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/store"
)

// project is a builder with an empty store, and a context.
type project struct {
	builder *builder.Builder
	options builder.Options
	out     string // where the files of the result are written
}

func newProject(t *testing.T) *project {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	host, err := sandbox.NewHost(s, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	dir := t.TempDir()
	for name, text := range map[string]string{"f": "content", "Dockerfile": "FROM scratch\nCOPY f /from-dockerfile\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	p := &project{out: filepath.Join(t.TempDir(), "out")}
	layers := layer.New(s)
	p.builder = &builder.Builder{Store: s, Layers: layers, Images: image.New(s, layers), Host: host, Registry: registry.New(registry.Options{})}
	p.options = builder.Options{Context: builder.DirContext{Dir: dir}, Internal: true}
	if p.options.Outputs, err = buildspec.ParseOutputs([]string{p.out}); err != nil {
		t.Fatal(err)
	}
	return p
}

// call runs a build whose front end is at the other end of a connection. The bridge ends when the front end has ended.
func (p *project) call(t *testing.T, inputs map[string]*pb.Definition, front func(ctx context.Context, c gwpb.LLBBridgeClient) error) error {
	t.Helper()
	p.options.Frontend = func(ctx context.Context, c client.Client) (*client.Result, error) {
		b := bridge.New(c, inputs, new(bridge.Kept))
		here, there := net.Pipe()
		var running sync.WaitGroup
		defer running.Wait()
		running.Go(func() {
			if err := b.Serve(here); err != nil {
				t.Error(err)
			}
		})
		waiting, ended := context.WithCancelCause(ctx)
		running.Go(func() {
			conn, err := grpc.NewClient("passthrough:bridge", grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return there, nil }),
				grpc.WithUnaryInterceptor(grpcerrors.UnaryClientInterceptor))
			if err == nil {
				err = errors.Join(front(ctx, gwpb.NewLLBBridgeClient(conn)), conn.Close())
			}
			_ = there.Close()
			if err == nil {
				err = errors.New("the front end has not returned")
			}
			ended(err)
		})
		return b.Wait(waiting)
	}
	_, err := p.builder.Build(t.Context(), p.options)
	return err
}

// run runs a front end of BuildKit's client.
func (p *project) run(t *testing.T, inputs map[string]*pb.Definition, front client.BuildFunc) error {
	t.Helper()
	return p.call(t, inputs, func(ctx context.Context, c gwpb.LLBBridgeClient) error {
		client, err := grpcclient.New(ctx, nil, "session", "product", c, nil)
		if err != nil {
			return err
		}
		_ = client.Run(ctx, front) // it sends its error
		return nil
	})
}

func marshal(t *testing.T, st llb.State) *pb.Definition {
	t.Helper()
	def, err := st.Marshal(t.Context(), llb.LinuxAmd64)
	if err != nil {
		t.Fatal(err)
	}
	return def.ToPB()
}

func mkfile(name, text string) llb.State {
	return llb.Scratch().File(llb.Mkdir("/d", 0o755)).File(llb.Mkfile(name, 0o644, []byte(text)))
}

func (p *project) files(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(os.DirFS(p.out), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(p.out, path))
		all[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestFrontend: a front end reads files of one result, and answers with another.
func TestFrontend(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	local, made := marshal(t, llb.Local("context")), marshal(t, mkfile("/d/made", "made"))
	err := p.run(t, nil, func(ctx context.Context, c client.Client) (*client.Result, error) {
		res, err := c.Solve(ctx, client.SolveRequest{Definition: local, Evaluate: true})
		if err != nil {
			return nil, err
		}
		ref, err := res.SingleRef()
		if err != nil {
			return nil, err
		}
		data, err := ref.ReadFile(ctx, client.ReadRequest{Filename: "f", Range: &client.FileRange{Offset: 2, Length: 3}})
		if err != nil || string(data) != "nte" {
			t.Errorf("read %q, %v", data, err)
		}
		if st, err := ref.StatFile(ctx, client.StatRequest{Path: "f"}); err != nil || st.Size != 7 || os.FileMode(st.Mode) != 0o640 {
			t.Errorf("stat %v, %v", st, err)
		}
		list, err := ref.ReadDir(ctx, client.ReadDirRequest{Path: "/", IncludePattern: "D*"})
		if err != nil || len(list) != 1 || list[0].Path != "Dockerfile" {
			t.Errorf("directory %v, %v", list, err)
		}
		if _, err := ref.ReadFile(ctx, client.ReadRequest{Filename: "none"}); err == nil || !strings.Contains(err.Error(), "lstat none: no such file or directory") {
			t.Errorf("a file that is missing: %v", err)
		}
		if err := ref.Evaluate(ctx); err != nil {
			t.Errorf("evaluate: %v", err)
		}
		if st, err := ref.ToState(); err != nil || st.Output() == nil {
			t.Errorf("the state of the result: %v", err)
		}
		return c.Solve(ctx, client.SolveRequest{Definition: made})
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"d/made": "made"}, p.files(t)); diff != "" {
		t.Error(diff)
	}
}

// TestOtherFrontend: a front end asks for the compiler of Dockerfiles, with the context or with a Dockerfile of its own.
func TestOtherFrontend(t *testing.T) {
	t.Parallel()
	own := marshal(t, llb.Scratch().File(llb.Mkfile("/Dockerfile", 0o644, []byte("FROM scratch\nCOPY f /own\n"))))
	for name, inputs := range map[string]map[string]*pb.Definition{"from-dockerfile": nil, "own": {"dockerfile": own}} {
		p := newProject(t)
		err := p.run(t, nil, func(ctx context.Context, c client.Client) (*client.Result, error) {
			return c.Solve(ctx, client.SolveRequest{Frontend: "dockerfile.v0", FrontendInputs: inputs})
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(map[string]string{name: "content"}, p.files(t)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// statement is the result of a scanner.
const statement = `{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","predicate":{}}`

// TestPlatforms: results of several platforms keep theirs, the empty filesystem among them, and their attestations.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	made, bundle := marshal(t, mkfile("/made", "made")), marshal(t, llb.Scratch().File(llb.Mkfile("/sbom.json", 0o644, []byte(statement))))
	platforms := exptypes.Platforms{Platforms: []exptypes.Platform{{ID: "linux/amd64"}, {ID: "linux/arm64"}}}
	for i, arch := range []string{"amd64", "arm64"} {
		platforms.Platforms[i].Platform.OS, platforms.Platforms[i].Platform.Architecture = "linux", arch
	}
	err := p.run(t, nil, func(ctx context.Context, c client.Client) (*client.Result, error) {
		all := client.NewResult()
		for i, def := range []*pb.Definition{made, {}} {
			res, err := c.Solve(ctx, client.SolveRequest{Definition: def})
			if err != nil {
				return nil, err
			}
			all.AddRef(platforms.Platforms[i].ID, res.Ref)
		}
		res, err := c.Solve(ctx, client.SolveRequest{Definition: bundle})
		if err != nil {
			return nil, err
		}
		all.AddAttestation("linux/amd64", client.Attestation{
			Kind: gwpb.AttestationKind_Bundle, Ref: res.Ref, Path: "/", InToto: result.InTotoAttestation{PredicateType: "https://spdx.dev/Document"},
		})
		all.AddMeta(exptypes.ExporterPlatformsKey, mustJSON(t, platforms))
		return all, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	files := p.files(t)
	sbom := files["linux_amd64/sbom.json"]
	delete(files, "linux_amd64/sbom.json")
	if diff := cmp.Diff(map[string]string{"linux_amd64/made": "made"}, files); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(sbom, "https://spdx.dev/Document") {
		t.Errorf("SBOM %q", sbom)
	}
	if _, err := os.Stat(filepath.Join(p.out, "linux_arm64")); err != nil {
		t.Error(err)
	}
}

// TestInputs: the front end gets the inputs as they were given.
func TestInputs(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	err := p.run(t, map[string]*pb.Definition{"a": marshal(t, mkfile("/a", "1")), "b": marshal(t, mkfile("/b", "2"))},
		func(ctx context.Context, c client.Client) (*client.Result, error) {
			all, err := c.Inputs(ctx)
			if err != nil {
				return nil, err
			}
			def, err := llb.Merge([]llb.State{all["a"], all["b"]}).Marshal(ctx)
			if err != nil {
				return nil, err
			}
			return c.Solve(ctx, client.SolveRequest{Definition: def.ToPB()})
		})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"a": "1", "b": "2"}, p.files(t)); diff != "" {
		t.Error(diff)
	}
}

// TestReturnedErrors: an error of a front end ends the build as it is: its place in a file, the step that has failed.
func TestReturnedErrors(t *testing.T) {
	t.Parallel()
	failing := marshal(t, llb.Scratch().File(llb.Copy(llb.Local("context"), "/none", "/")))
	source := &errdefs.Source{Info: &pb.SourceInfo{Filename: "app.yaml"}, Ranges: []*pb.Range{{Start: &pb.Position{Line: 7}}}}
	for name, c := range map[string]struct {
		front client.BuildFunc
		want  string
		check func(err error) bool
	}{
		"its own": {
			func(context.Context, client.Client) (*client.Result, error) { return nil, errors.New("out of order") },
			"out of order", func(error) bool { return true },
		},
		"a place": {
			func(context.Context, client.Client) (*client.Result, error) {
				return nil, errdefs.WithSource(errors.New("bad"), source)
			},
			"bad", func(err error) bool { return builder.Position(err) == "app.yaml:7" },
		},
		"a step": {
			func(ctx context.Context, c client.Client) (*client.Result, error) {
				return c.Solve(ctx, client.SolveRequest{Definition: failing})
			},
			"/none", func(err error) bool {
				var v *errdefs.VertexError
				return errors.As(err, &v) && slices.ContainsFunc(failing.Def, func(op []byte) bool { return digest.FromBytes(op).String() == v.Digest })
			},
		},
	} {
		err := newProject(t).run(t, nil, c.front)
		if err == nil || !strings.Contains(err.Error(), c.want) || !c.check(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestInvalidCalls: what a hostile front end sends is an error for it, and the build goes on.
func TestInvalidCalls(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	empty, made := &gwpb.Ref{}, marshal(t, mkfile("/made", "made"))
	err := p.call(t, nil, func(ctx context.Context, c gwpb.LLBBridgeClient) error {
		solved, err := c.Solve(ctx, &gwpb.SolveRequest{Definition: made, AllowResultReturn: true, AllowResultArrayRef: true})
		if err != nil {
			return err
		}
		ref := solved.Result.GetRef()
		if diff := cmp.Diff(made.Def, ref.GetDef().GetDef()); diff != "" {
			t.Errorf("the graph of the result: %s", diff)
		}
		for name, call := range map[string]func() error{
			"NotFound no such ref: x": func() error { _, err := c.ReadFile(ctx, &gwpb.ReadFileRequest{Ref: "x"}); return err },
			"Unknown the empty filesystem has no files": func() error {
				_, err := c.ReadDir(ctx, &gwpb.ReadDirRequest{Ref: empty.Id})
				return err
			},
			"NotFound no such ref: y": func() error { _, err := c.StatFile(ctx, &gwpb.StatFileRequest{Ref: "y"}); return err },
			"NotFound no such ref: z": func() error { _, err := c.Evaluate(ctx, &gwpb.EvaluateRequest{Ref: "z"}); return err },
			"Unknown read made: invalid range": func() error {
				_, err := c.ReadFile(ctx, &gwpb.ReadFileRequest{Ref: ref.Id, FilePath: "made", Range: &gwpb.FileRange{Offset: -1}})
				return err
			},
			"InvalidArgument source is required": func() error { _, err := c.ResolveSourceMeta(ctx, &gwpb.ResolveSourceMetaRequest{}); return err },
			"Unknown source x://host/x is not supported": func() error {
				_, err := c.ResolveSourceMeta(ctx, &gwpb.ResolveSourceMetaRequest{Source: &pb.SourceOp{Identifier: "x://host/x"}})
				return err
			},
			"InvalidArgument unknown resolver 9": func() error {
				_, err := c.ResolveImageConfig(ctx, &gwpb.ResolveImageConfigRequest{Ref: "x", ResolverType: 9})
				return err
			},
			"Unimplemented this client is older than BuildKit 0.8: it is not supported": func() error {
				_, err := c.Solve(ctx, &gwpb.SolveRequest{Definition: made, Final: true})
				return err
			},
			"Unknown frontend x is not supported": func() error {
				_, err := c.Solve(ctx, &gwpb.SolveRequest{Frontend: "x", AllowResultReturn: true})
				return err
			},
			"Unknown a front end cannot import the build cache /etc: name it for the whole build": func() error {
				_, err := c.Solve(ctx, &gwpb.SolveRequest{
					AllowResultReturn: true, CacheImports: []*gwpb.CacheOptionsEntry{{Type: "local", Attrs: map[string]string{"src": "/etc"}}},
				})
				return err
			},
			"Unknown ": func() error { // the text is of the solver
				_, err := c.Solve(ctx, &gwpb.SolveRequest{AllowResultReturn: true, Definition: &pb.Definition{Def: [][]byte{{255}}}})
				return err
			},
			"InvalidArgument the front end returned neither a result nor an error": func() error {
				_, err := c.Return(ctx, &gwpb.ReturnRequest{})
				return err
			},
			"NotFound no such ref: r": func() error {
				_, err := c.Return(ctx, &gwpb.ReturnRequest{Result: &gwpb.Result{Result: &gwpb.Result_Ref{Ref: &gwpb.Ref{Id: "r"}}}})
				return err
			},
			"NotFound no such ref: a": func() error {
				_, err := c.Return(ctx, &gwpb.ReturnRequest{Result: &gwpb.Result{Attestations: map[string]*gwpb.Attestations{
					"": {Attestation: []*gwpb.Attestation{{Ref: &gwpb.Ref{Id: "a"}}}},
				}}})
				return err
			},
		} {
			err := call()
			code, text, _ := strings.Cut(name, " ")
			if err == nil || status.Code(err).String() != code || !strings.HasSuffix(err.Error(), text) {
				t.Errorf("%v, want %s", err, name)
			}
		}
		if _, err := c.Return(ctx, &gwpb.ReturnRequest{Result: &gwpb.Result{Result: &gwpb.Result_Ref{Ref: ref}}}); err != nil {
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"made": "made"}, p.files(t)); diff != "" {
		t.Error(diff)
	}
}

// TestForwarder: the metadata of a call name the build whose bridge answers.
func TestForwarder(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	made := marshal(t, mkfile("/made", "made"))
	p.options.Frontend = func(ctx context.Context, c client.Client) (*client.Result, error) {
		b := bridge.New(c, map[string]*pb.Definition{"in": made}, new(bridge.Kept))
		f := &bridge.Forwarder{Find: func(_ context.Context, build string) (*bridge.Bridge, error) {
			if build != "mine" {
				return nil, status.Errorf(codes.NotFound, "no build %s", build)
			}
			return b, nil
		}}
		named := func(id string) context.Context {
			out := buildid.AppendToOutgoingContext(ctx, id)
			md, _ := metadata.FromOutgoingContext(out)
			return metadata.NewIncomingContext(ctx, md)
		}
		for id, want := range map[string]codes.Code{"": codes.InvalidArgument, "other": codes.NotFound} {
			_, err := f.Ping(named(id), &gwpb.PingRequest{})
			if status.Code(err) != want || id == "" && !strings.Contains(err.Error(), "no buildid found in context") {
				t.Errorf("build %q: %v", id, err)
			}
		}
		if err := callAll(named("mine"), t, f, made); err != nil {
			return nil, err
		}
		return b.Wait(ctx)
	}
	if _, err := p.builder.Build(t.Context(), p.options); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"made": "made"}, p.files(t)); diff != "" {
		t.Error(diff)
	}
}

// callAll calls the methods of a service, and returns the result of a graph with the file "made".
func callAll(ctx context.Context, t *testing.T, c gwpb.LLBBridgeServer, def *pb.Definition) error {
	t.Helper()
	pong, err := c.Ping(ctx, &gwpb.PingRequest{})
	if err != nil || len(pong.LLBCaps) == 0 || len(pong.FrontendAPICaps) == 0 || len(pong.Workers) != 1 || len(pong.Workers[0].Platforms) != 1 {
		t.Errorf("ping: %v, %v", pong, err)
	}
	inputs, err := c.Inputs(ctx, &gwpb.InputsRequest{})
	if err != nil || inputs.Definitions["in"] == nil {
		t.Errorf("inputs: %v, %v", inputs, err)
	}
	res, err := c.Solve(ctx, &gwpb.SolveRequest{Definition: def, AllowResultReturn: true, AllowResultArrayRef: true})
	if err != nil {
		return err
	}
	ref := res.Result.GetRef()
	file, err := c.ReadFile(ctx, &gwpb.ReadFileRequest{Ref: ref.Id, FilePath: "/made"})
	if err != nil || string(file.Data) != "made" {
		t.Errorf("file: %v, %v", file, err)
	}
	list, err := c.ReadDir(ctx, &gwpb.ReadDirRequest{Ref: ref.Id, DirPath: "/"})
	if err != nil || len(list.Entries) != 2 {
		t.Errorf("directory: %v, %v", list, err)
	}
	if st, err := c.StatFile(ctx, &gwpb.StatFileRequest{Ref: ref.Id, Path: "/made"}); err != nil || st.Stat.Size != 4 {
		t.Errorf("stat: %v, %v", st, err)
	}
	if _, err := c.Evaluate(ctx, &gwpb.EvaluateRequest{Ref: ref.Id}); err != nil {
		t.Errorf("evaluate: %v", err)
	}
	if _, err := c.Warn(ctx, &gwpb.WarnRequest{Short: []byte("careful"), Level: 1}); err != nil {
		t.Errorf("warn: %v", err)
	}
	if _, err := c.ResolveImageConfig(ctx, &gwpb.ResolveImageConfigRequest{Ref: "A"}); err == nil {
		t.Error("an image with an invalid name")
	}
	if _, err := c.ResolveSourceMeta(ctx, &gwpb.ResolveSourceMetaRequest{Source: &pb.SourceOp{Identifier: "docker-image://A"}}); err == nil {
		t.Error("a source with an invalid name")
	}
	_, err = c.Return(ctx, &gwpb.ReturnRequest{Result: &gwpb.Result{Result: &gwpb.Result_Ref{Ref: ref}}})
	return err
}

// TestWarnings: a warning of a front end is shown.
func TestWarnings(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	var mu sync.Mutex
	var shown []string
	p.options.Events = func(st *solver.Status) {
		mu.Lock()
		defer mu.Unlock()
		for _, w := range st.Warnings {
			shown = append(shown, string(w.Short)+" "+w.URL+" "+w.SourceInfo.Filename)
		}
	}
	err := p.run(t, nil, func(ctx context.Context, c client.Client) (*client.Result, error) {
		return client.NewResult(), c.Warn(ctx, "", "careful", client.WarnOpts{
			Level: 2, URL: "https://example.com", SourceInfo: &pb.SourceInfo{Filename: "app.yaml"}, Range: []*pb.Range{{}},
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"careful https://example.com app.yaml"}, shown); diff != "" {
		t.Error(diff)
	}
}

// TestImages: a front end finds the config of an image in the store, by both methods.
func TestImages(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	base := p.options
	base.Tags, base.Labels, base.Outputs = []string{"base"}, map[string]string{"k": "v"}, nil
	built, err := p.builder.Build(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	want := built.Root.Digest
	err = p.run(t, nil, func(ctx context.Context, c client.Client) (*client.Result, error) {
		opt := sourceresolver.Opt{ImageOpt: &sourceresolver.ResolveImageOpt{ResolveMode: "local"}}
		_, d, config, err := c.ResolveImageConfig(ctx, "base", opt)
		if err != nil || d != want || !strings.Contains(string(config), `"k":"v"`) {
			t.Errorf("config %s %s, %v, want %s", d, config, err, want)
		}
		meta, err := c.ResolveSourceMetadata(ctx, &pb.SourceOp{Identifier: "docker-image://docker.io/library/base:latest"}, opt)
		if err != nil || meta.Image == nil || meta.Image.Digest != want {
			t.Errorf("source %v, %v", meta, err)
		}
		return client.NewResult(), nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
