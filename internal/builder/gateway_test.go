package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/gateway/grpcclient"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/solver"
)

// TestMain is a front end if the environment is that of one.
func TestMain(m *testing.M) {
	if os.Getenv("BUILDKIT_EXPORTEDPRODUCT") == "" {
		os.Exit(m.Run())
	}
	if err := grpcclient.RunFromEnvironment(context.Background(), testFrontend); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if slices.ContainsFunc(os.Environ(), func(kv string) bool { return strings.HasSuffix(kv, "=do=late") }) {
		os.Exit(4)
	}
}

// testFrontend does what its option "do" says.
func testFrontend(ctx context.Context, c client.Client) (*client.Result, error) {
	opts := c.BuildOpts().Opts
	made, err := llb.Scratch().File(llb.Mkfile("/made", 0o644, []byte(opts["text"]))).Marshal(ctx, llb.LinuxAmd64)
	if err != nil {
		return nil, err
	}
	switch opts["do"] {
	case "import":
		e := client.CacheOptionsEntry{Type: "registry", Attrs: map[string]string{"ref": "localhost/x", "registry.insecure": "true"}}
		if opts["type"] != "" {
			e = client.CacheOptionsEntry{Type: opts["type"], Attrs: map[string]string{"url_v2": "http://localhost/", "token": "hidden"}}
		}
		return c.Solve(ctx, client.SolveRequest{Definition: made.ToPB(), CacheImports: []client.CacheOptionsEntry{e}})
	case "dockerfile":
		return c.Solve(ctx, client.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: map[string]string{"target": "a"}})
	case "fail":
		return nil, errdefs.WithSource(errors.New("out of order"), &errdefs.Source{Info: &pb.SourceInfo{Filename: "app"}, Ranges: []*pb.Range{{Start: &pb.Position{Line: 3}}}})
	case "die":
		fmt.Fprintln(os.Stderr, "last words")
		os.Exit(3)
	case "end":
		os.Exit(0)
	case "garbage":
		_, _ = os.Stdout.WriteString(strings.Repeat("garbage ", 100))
		select {}
	case "hang":
		fmt.Fprintln(os.Stderr, "hanging")
		select {}
	case "flood":
		for range 4 << 10 {
			fmt.Fprintln(os.Stderr, strings.Repeat("x", 1023))
		}
	}
	return c.Solve(ctx, client.SolveRequest{Definition: made.ToPB()})
}

// runHere runs the process of a front end on this host: this test, in place of the image's command.
func runHere(ctx context.Context, p *sandbox.Process) error {
	if p.Args[0] != "/frontend" || len(p.Root.Lowers) == 0 || p.Root.Upper != "" || !p.ReadOnlyRoot {
		return fmt.Errorf("unexpected process %q in %v", p.Args, p.Root)
	}
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = p.Env, p.Stdin, p.Stdout, p.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.As(err, &exit) {
		return &ociruntime.ExitError{Code: exit.ExitCode()}
	}
	return err
}

// newGateway is a front end, and an image me/fe with the labels of a Dockerfile.
func newGateway(t *testing.T, labels string, files map[string]string) *frontend {
	t.Helper()
	b := newBuilder(t)
	text := "FROM scratch\nCOPY Dockerfile /\nENTRYPOINT [\"/frontend\"]\n" + labels
	mustBuild(t, b, writeFiles(t, map[string]string{"Dockerfile": text}), buildspec.Spec{Tags: []string{"me/fe"}})
	return newFrontendOf(t, b, map[string]string{"target": "unused"}, files)
}

func (f *frontend) runImage(ctx context.Context, opts map[string]string, inputs map[string]*pb.Definition) (*client.Result, error) {
	all := map[string]string{"source": "me/fe"}
	for k, v := range opts {
		all[k] = v
	}
	return f.Solve(ctx, client.SolveRequest{Frontend: "gateway.v0", FrontendOpt: all, FrontendInputs: inputs})
}

// fileOf reads a file of the only result.
func fileOf(t *testing.T, res *client.Result, name string) string {
	t.Helper()
	ref, err := res.SingleRef()
	if err != nil {
		t.Fatal(err)
	}
	data, err := ref.ReadFile(t.Context(), client.ReadRequest{Filename: name})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestGateway: a front end in an image makes the result, and provenance names it and its options.
func TestGateway(t *testing.T) {
	t.Parallel()
	f := newGateway(t, "", map[string]string{"Dockerfile": "FROM scratch AS a\nCOPY f /a\nFROM scratch\n", "f": "of the context"})
	res, err := f.runImage(t.Context(), map[string]string{"text": "of a front end"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := fileOf(t, res, "made"); got != "of a front end" {
		t.Errorf("%q", got)
	}
	by := res.Ref.(*resultRef).by //nolint:forcetypeassert // it is one
	if diff := cmp.Diff(map[string]string{"source": "me/fe", "text": "of a front end"}, by.Args); diff != "" || by.Frontend != "gateway.v0" {
		t.Errorf("%s %s", by.Frontend, diff)
	}
	var refs []string
	for _, i := range f.bases.resolved(ocispec.Platform{OS: "linux", Architecture: "arm64"}) {
		refs = append(refs, i.Ref)
	}
	if diff := cmp.Diff([]string{"docker.io/me/fe:latest"}, slices.Compact(refs)); diff != "" {
		t.Errorf("materials: %s", diff)
	}

	if res, err = f.runImage(t.Context(), map[string]string{"do": "dockerfile"}, nil); err != nil {
		t.Fatal(err)
	}
	if got := fileOf(t, res, "a"); got != "of the context" {
		t.Errorf("%q", got)
	}
	if by := res.Ref.(*resultRef).by; by.Frontend != "dockerfile.v0" || by.Args["target"] != "a" { //nolint:forcetypeassert // it is one
		t.Errorf("%v", by)
	}
	f.by = newRequest(client.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: map[string]string{"outer": ""}}, nil)
	res, err = f.Solve(t.Context(), client.SolveRequest{Frontend: "gateway.v0", FrontendOpt: map[string]string{"source": "docker/dockerfile", "target": "a"}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f.by.Args, res.Ref.(*resultRef).by.Args); diff != "" { //nolint:forcetypeassert // it is one
		t.Errorf("the compiler that is built in: %s", diff)
	}
}

// TestGatewayErrors: whatever a front end does, the build ends with an error that names it.
func TestGatewayErrors(t *testing.T) {
	t.Parallel()
	f := newGateway(t, "LABEL moby.buildkit.frontend.caps=a,b+x\n", map[string]string{"f": ""})
	var mu sync.Mutex
	var log strings.Builder
	failed := map[string]bool{}
	f.events = func(st *solver.Status) {
		mu.Lock()
		defer mu.Unlock()
		for _, l := range st.Logs {
			log.Write(l.Data)
		}
		for _, v := range st.Vertexes {
			failed[v.Error] = true
		}
	}
	for name, c := range map[string]struct {
		opts map[string]string
		want string
	}{
		"its own error":   {map[string]string{"do": "fail"}, "out of order"},
		"it dies":         {map[string]string{"do": "die"}, `front end docker.io/me/fe:latest: process "/frontend" did not complete successfully: exit code: 3`},
		"it dies late":    {map[string]string{"do": "late"}, `front end docker.io/me/fe:latest: process "/frontend" did not complete successfully: exit code: 4`},
		"no result":       {map[string]string{"do": "end"}, "front end docker.io/me/fe:latest: it ended without a result"},
		"protocol":        {map[string]string{"do": "garbage"}, "front end docker.io/me/fe:latest: it broke the connection on its standard input and output"},
		"capability":      {map[string]string{"frontend.caps": "b,c"}, "unsupported frontend capability c"},
		"no source":       {map[string]string{"source": ""}, "no source specified for gateway"},
		"invalid source":  {map[string]string{"source": "A"}, "invalid context name A"},
		"an old option":   {map[string]string{"gateway-devel": ""}, "development gateway is no longer supported"},
		"no files":        {map[string]string{"context:me/fe": "docker-image://scratch"}, "front end me/fe: the image has no files"},
		"another command": {map[string]string{"context:me/fe": "local:context"}, `front end me/fe: process "/run" could not be run: unexpected process`},
	} {
		_, err := f.runImage(t.Context(), c.opts, nil)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		if name == "its own error" && Position(err) != "app:3" {
			t.Errorf("%s: it is at %q", name, Position(err))
		}
	}
	if !strings.Contains(log.String(), "last words\n") {
		t.Errorf("the log: %q", log.String())
	}
	if !failed[`front end docker.io/me/fe:latest: it ended without a result`] {
		t.Errorf("the steps: %v", failed)
	}
	if _, err := f.runImage(t.Context(), nil, map[string]*pb.Definition{"in": scratchInput(t)}); err == nil || !strings.Contains(err.Error(), "moby.buildkit.frontend.inputs") {
		t.Errorf("inputs without the capability: %v", err)
	}
	f.images.running = maxGateways
	if _, err := f.runImage(t.Context(), nil, nil); text(err) != "front end me/fe: a build runs at most 16 front ends at once" {
		t.Errorf("too many: %v", err)
	}
	f.until = &until{}
	if _, err := f.runImage(t.Context(), nil, nil); err == nil || !strings.HasPrefix(err.Error(), "front end me/fe: only Dockerfiles") {
		t.Errorf("a state: %v", err)
	}
}

func scratchInput(t *testing.T) *pb.Definition {
	t.Helper()
	def, err := llb.Scratch().File(llb.Mkfile("/f", 0o644, nil)).Marshal(t.Context(), llb.LinuxAmd64)
	if err != nil {
		t.Fatal(err)
	}
	return def.ToPB()
}

// TestGatewayCanceled: the end of a build ends its front end.
func TestGatewayCanceled(t *testing.T) {
	t.Parallel()
	f := newGateway(t, "", nil)
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	f.events = func(st *solver.Status) {
		if slices.ContainsFunc(st.Logs, func(l *bkclient.VertexLog) bool { return string(l.Data) == "hanging\n" }) {
			cancel(stop)
		}
	}
	if _, err := f.runImage(ctx, map[string]string{"do": "hang"}, nil); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	if f.images.running != 0 {
		t.Errorf("%d front ends run", f.images.running)
	}
}

// TestGatewayLog: of a front end that writes without end the log has as much as of a step.
func TestGatewayLog(t *testing.T) {
	t.Parallel()
	f := newGateway(t, "", nil)
	var mu sync.Mutex
	size, clipped := 0, false
	f.events = func(st *solver.Status) {
		mu.Lock()
		defer mu.Unlock()
		for _, l := range st.Logs {
			size += len(l.Data)
			clipped = clipped || strings.Contains(string(l.Data), "[output clipped, log limit ")
		}
	}
	if _, err := f.runImage(t.Context(), map[string]string{"do": "flood"}, nil); err != nil {
		t.Fatal(err)
	}
	if !clipped || size >= 4<<20 {
		t.Errorf("%d bytes", size)
	}
}

// TestGatewayProcess: the process sees the options, and nothing of this process.
func TestGatewayProcess(t *testing.T) {
	t.Setenv("SECRET", "hidden")
	f := &frontend{opts: map[string]string{"b": "2", "a": "1=1"}, images: &gateway{}}
	for name, c := range map[string]struct {
		config  map[string]string // labels
		user    map[string]string // options of the build
		network sandbox.Network
	}{
		"a network": {nil, nil, sandbox.NetworkOwn},
		"a label":   {map[string]string{labelNoNetwork: "true"}, nil, sandbox.NetworkNone},
		"another":   {map[string]string{labelNoNetwork: "maybe"}, nil, sandbox.NetworkOwn},
		"--network": {nil, map[string]string{"force-network-mode": "none"}, sandbox.NetworkNone},
	} {
		f.images.user = c.user
		img := &gatewayImage{def: &pb.Definition{Def: [][]byte{[]byte("op")}}}
		img.config.Labels, img.config.Env, img.config.WorkingDir = c.config, []string{"X=1"}, "/w"
		p, err := f.gatewayProcess(img)
		if err != nil {
			t.Fatal(err)
		}
		if p.Network != c.network || !p.ReadOnlyRoot || p.Cwd != "/w" || p.User != "" || p.Privileged {
			t.Errorf("%s: %+v", name, p)
		}
		want := []string{"X=1", "BUILDKIT_FRONTEND_OPT_0=a=1=1", "BUILDKIT_FRONTEND_OPT_1=b=2", "BUILDKIT_SESSION_ID=mica"}
		if diff := cmp.Diff(want, p.Env[:4]); diff != "" || len(p.Env) != 6 {
			t.Errorf("%s: %s, %d variables", name, diff, len(p.Env))
		}
		if diff := cmp.Diff([]string{"/run"}, p.Args); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		def := &pb.Definition{}
		if m := p.Mounts[1]; def.UnmarshalVT(m.Data) != nil || string(def.Def[0]) != "op" || m.Target != gatewayMetadata {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

// TestGatewayLimits: the user's limits on steps are those of front ends and of their containers, whatever these ask for.
func TestGatewayLimits(t *testing.T) {
	t.Parallel()
	memory, quota := int64(64<<20), int64(500)
	o := Options{Context: DirContext{}, Spec: buildspec.Spec{
		Network: "none", CgroupParent: "p", Limits: buildspec.Limits{Memory: &memory, CPUQuota: &quota, CPUs: "0"},
	}}
	img := &gatewayImage{def: &pb.Definition{}}
	f := newFrontend(t, map[string]string{"memory": "-1"}, nil)
	f.images.user = o.frontendOptions()
	p, err := f.gatewayProcess(img)
	if err != nil {
		t.Fatal(err)
	}
	if r := p.Resources; *r.Memory.Limit != 64<<20 || *r.CPU.Quota != 500 || r.CPU.Cpus != "0" || r.Memory.Swap != nil || p.CgroupParent != "p" {
		t.Errorf("%+v %+v %s", r.Memory, r.CPU, p.CgroupParent)
	}
	for _, mode := range []pb.NetMode{pb.NetMode_UNSET, pb.NetMode_HOST} {
		task, _, err := f.containerTask(t.Context(), client.NewContainerRequest{NetMode: mode})
		if err != nil {
			t.Fatal(err)
		}
		r, op := task.Vertex.Meta.LinuxResources, task.Vertex.Op.GetExec()
		if r.Memory != 64<<20 || r.CpuQuota != 500 || r.CpusetCpus != "0" || op.Meta.CgroupParent != "p" || op.Network != pb.NetMode_NONE {
			t.Errorf("a container: %v, %v", r, op)
		}
	}
	f.images.user = nil
	if p, err := f.gatewayProcess(img); err != nil || p.Resources != nil {
		t.Errorf("no limits: %v, %v", p, err)
	}
	f.images.user = map[string]string{"memory": "much"}
	if _, err := f.gatewayProcess(img); err == nil {
		t.Error("an invalid limit")
	}
	if _, _, err := f.containerTask(t.Context(), client.NewContainerRequest{}); err == nil {
		t.Error("a container with an invalid limit")
	}
}

// TestProcessError: an error is the reason why there is no result.
func TestProcessError(t *testing.T) {
	t.Parallel()
	broken := &gatewayError{"x", io.EOF}
	for want, err := range map[string]error{
		"front end : it ended without a result":                                 nil,
		`front end : process "/fe" did not complete successfully: exit code: 2`: &ociruntime.ExitError{Code: 2},
		`front end : process "/fe" could not be run: exec: "/fe": no such file`: &ociruntime.StartError{Code: 127, Reason: `exec: "/fe": no such file`},
		"front end x: EOF": broken,
		"context canceled": context.Canceled,
	} {
		if got := processError(&sandbox.Process{Args: []string{"/fe"}}, err); got.Error() != want {
			t.Errorf("%v, want %s", got, want)
		}
	}
}
