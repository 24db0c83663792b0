package bridge_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/gateway/grpcclient"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/micabuild/mica/internal/bridge"
	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/store"
)

// TestMain lets the test binary be an init process, as mica is.
func TestMain(m *testing.M) {
	sandbox.Init(os.Args)
	os.Exit(m.Run())
}

// overBridge runs a front end against a client through the service, as BuildKit's clients reach it.
func overBridge(t *testing.T, front client.BuildFunc) client.BuildFunc {
	t.Helper()
	return func(ctx context.Context, c client.Client) (*client.Result, error) {
		b := bridge.New(c, nil, new(bridge.Kept))
		l := bufconn.Listen(1 << 20)
		s := grpc.NewServer(grpc.UnaryInterceptor(grpcerrors.UnaryServerInterceptor), grpc.StreamInterceptor(grpcerrors.StreamServerInterceptor))
		gwpb.RegisterLLBBridgeServer(s, b)
		var serving sync.WaitGroup
		serving.Go(func() { _ = s.Serve(l) })
		defer serving.Wait()
		defer s.Stop()
		conn, err := grpc.NewClient("passthrough:", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return l.Dial() }),
			grpc.WithUnaryInterceptor(grpcerrors.UnaryClientInterceptor), grpc.WithStreamInterceptor(grpcerrors.StreamClientInterceptor))
		if err != nil {
			return nil, err
		}
		defer func() { _ = conn.Close() }()
		remote, err := grpcclient.New(ctx, nil, "", "", gwpb.NewLLBBridgeClient(conn), nil)
		if err != nil {
			return nil, err
		}
		serving.Go(func() { _ = remote.Run(ctx, front) })
		return b.Wait(ctx)
	}
}

// realBuild builds with a front end that runs processes, whose programs are those of busybox.
func realBuild(t *testing.T, o builder.Options, front client.BuildFunc) error {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root")
	}
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	host, err := sandbox.NewHost(s, "")
	if err != nil {
		t.Fatal(err)
	}
	layers := layer.New(s)
	b := &builder.Builder{Store: s, Layers: layers, Images: image.New(s, layers), Host: host, Registry: registry.New(registry.Options{})}
	dir := t.TempDir()
	name, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal("this test needs a static busybox")
	}
	program, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"busybox": program, "Dockerfile": nil} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	o.Context, o.Frontend = builder.DirContext{Dir: dir}, overBridge(t, front)
	_, err = b.Build(t.Context(), o)
	if left, readErr := os.ReadDir(s.Path("tmp")); readErr != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "run-") }) {
		t.Errorf("left in the store: %v, %v", left, readErr)
	}
	return errors.Join(err, host.Close())
}

// base is a root filesystem with busybox as its shell.
func base(st llb.State) llb.State {
	local := llb.Local("context")
	return st.File(llb.Copy(local, "/busybox", "/bin/sh", &llb.CopyInfo{CreateDestPath: true})).
		File(llb.Copy(local, "/busybox", "/bin/cat")).File(llb.Copy(local, "/busybox", "/bin/sleep"))
}

// solve returns the reference of a state.
func solve(ctx context.Context, c client.Client, st llb.State) (client.Reference, error) {
	def, err := st.Marshal(ctx, llb.LinuxAmd64)
	if err != nil {
		return nil, err
	}
	res, err := c.Solve(ctx, client.SolveRequest{Definition: def.ToPB()})
	if err != nil {
		return nil, err
	}
	return res.SingleRef()
}

// output keeps what a process writes.
type output struct {
	mu sync.Mutex
	bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.Buffer.Write(p)
}

func (o *output) Close() error { return nil }

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.Buffer.String()
}

// run runs a command of a shell in a container, and returns what it shows.
func run(ctx context.Context, ctr client.Container, script string, change func(*client.StartRequest)) (string, error) {
	out := new(output)
	req := client.StartRequest{Args: []string{"/bin/sh", "-c", script}, Stdout: out, Stderr: out}
	if change != nil {
		change(&req)
	}
	p, err := ctr.Start(ctx, req)
	if err != nil {
		return "", err
	}
	err = p.Wait()
	return out.String(), err
}

// TestRootContainers: a front end elsewhere runs processes beside each other on results, and reads what they write.
func TestRootContainers(t *testing.T) {
	t.Parallel()
	secret := func(context.Context, string) ([]byte, error) { return []byte("hidden"), nil }
	err := realBuild(t, builder.Options{Secret: secret}, func(ctx context.Context, c client.Client) (*client.Result, error) {
		root, err := solve(ctx, c, base(llb.Scratch()))
		if err != nil {
			return nil, err
		}
		data, err := solve(ctx, c, llb.Scratch().File(llb.Mkdir("/d", 0o755)).File(llb.Mkfile("/d/f", 0o640, []byte("data"))))
		if err != nil {
			return nil, err
		}
		ctr, err := c.NewContainer(ctx, client.NewContainerRequest{
			Hostname: "h", NetMode: pb.NetMode_NONE, ExtraHosts: []*pb.HostIP{{Host: "other", IP: "10.1.2.3"}},
			Mounts: []client.Mount{
				{Dest: "/m/d", Ref: data, Selector: "/d", Readonly: true},
				{Dest: "/", Ref: root},
				{Dest: "/m", Ref: data},
				{Dest: "/cache", MountType: pb.MountType_CACHE, CacheOpt: &pb.CacheOpt{ID: "c"}},
				{Dest: "/t", MountType: pb.MountType_TMPFS},
				{Dest: "/secret", MountType: pb.MountType_SECRET, SecretOpt: &pb.SecretOpt{ID: "s", Mode: 0o400}},
			},
		})
		if err != nil {
			return nil, err
		}
		st, err := ctr.StatFile(ctx, client.StatContainerRequest{StatRequest: client.StatRequest{Path: "/bin/sh"}, MountIndex: 1})
		if err != nil || os.FileMode(st.Mode) != 0o755 {
			t.Errorf("before the start: %v, %v", st, err)
		}
		first, err := ctr.Start(ctx, client.StartRequest{Args: []string{"/bin/sleep", "1000"}})
		if err != nil {
			return nil, err
		}
		checkMounts(ctx, t, ctr)
		checkProcesses(ctx, t, ctr)
		if err := first.Signal(ctx, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		var exit *gwpb.ExitError
		if err := first.Wait(); !errors.As(err, &exit) || exit.ExitCode != 137 {
			t.Errorf("a killed process: %v", err)
		}
		if err := ctr.Release(ctx); !errors.As(err, &exit) {
			t.Errorf("the release of a container whose processes have failed: %v", err)
		}
		if _, err := ctr.StatFile(ctx, client.StatContainerRequest{}); err == nil {
			t.Error("a container is there after its release")
		}
		checkRelease(ctx, t, c, root)
		left, err := c.NewContainer(ctx, client.NewContainerRequest{Mounts: []client.Mount{{Dest: "/", Ref: root}}})
		if err != nil {
			return nil, err
		}
		_, err = left.Start(ctx, client.StartRequest{Args: []string{"/bin/sleep", "1000"}}) // ends with the build
		return client.NewResult(), err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestRootContainersOffline: without a network for steps, the containers of a front end have none, whatever it asks for.
func TestRootContainersOffline(t *testing.T) {
	t.Parallel()
	err := realBuild(t, builder.Options{Spec: buildspec.Spec{Network: "none"}}, func(ctx context.Context, c client.Client) (*client.Result, error) {
		root, err := solve(ctx, c, base(llb.Scratch()))
		if err != nil {
			return nil, err
		}
		for _, mode := range []pb.NetMode{pb.NetMode_UNSET, pb.NetMode_HOST} {
			ctr, err := c.NewContainer(ctx, client.NewContainerRequest{NetMode: mode, Mounts: []client.Mount{{Dest: "/", Ref: root}}})
			if err != nil {
				return nil, err
			}
			out, err := run(ctx, ctr, "cat /proc/net/dev", nil)
			if lines := strings.Split(strings.TrimSpace(out), "\n"); err != nil || len(lines) != 3 || !strings.Contains(lines[2], "lo:") {
				t.Errorf("%s: %v\n%s", mode, err, out)
			}
			if err := ctr.Release(ctx); err != nil {
				t.Error(err)
			}
		}
		return client.NewResult(), nil
	})
	if err != nil {
		t.Error(err)
	}
}

// checkRelease checks that the end of a container cancels its processes, and refuses an unknown security mode.
func checkRelease(ctx context.Context, t *testing.T, c client.Client, root client.Reference) {
	t.Helper()
	ctr, err := c.NewContainer(ctx, client.NewContainerRequest{NetMode: pb.NetMode_NONE, Mounts: []client.Mount{{Dest: "/", Ref: root}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run(ctx, ctr, "true", func(r *client.StartRequest) { r.SecurityMode = 2 }); err == nil || !strings.Contains(err.Error(), "invalid security mode") {
		t.Errorf("an unknown security mode: %v", err)
	}
	var running []client.ContainerProcess
	for range 2 {
		p, err := ctr.Start(ctx, client.StartRequest{Args: []string{"/bin/sleep", "1000"}})
		if err != nil {
			t.Fatal(err)
		}
		running = append(running, p)
	}
	if _, err := run(ctx, ctr, "true", nil); err != nil { // the first one runs
		t.Error(err)
	}
	errs := []error{ctr.Release(ctx)}
	for _, p := range running {
		errs = append(errs, p.Wait())
	}
	for _, err := range errs {
		if err == nil || !strings.Contains(err.Error(), "context canceled") {
			t.Errorf("the end of a container: %v", err)
		}
	}
}

func checkMounts(ctx context.Context, t *testing.T, ctr client.Container) {
	t.Helper()
	got, err := run(ctx, ctr, "cat /m/d/f /secret; echo; echo $S; echo x >/m/d/f; echo new >/m/new; cat /m/new; echo kept >/cache/k; echo t >/t/t; cat /etc/hosts", func(r *client.StartRequest) {
		r.SecretEnv = []*pb.SecretEnv{{ID: "s", Name: "S"}}
	})
	for _, want := range []string{"datahidden\nhidden\nnew\n127.0.0.1\tlocalhost h\n", "can't create /m/d/f: Read-only file system\n", "10.1.2.3\tother"} {
		if err != nil || !strings.Contains(got, want) {
			t.Errorf("%q has no %q, %v", got, want, err)
		}
	}
	read := func(mount int, name string) string {
		data, err := ctr.ReadFile(ctx, client.ReadContainerRequest{ReadRequest: client.ReadRequest{Filename: name}, MountIndex: mount})
		if err != nil {
			return err.Error()
		}
		return string(data)
	}
	for _, c := range []struct {
		mount      int
		name, want string
	}{{2, "/new", "new\n"}, {0, "/d/f", "data"}, {3, "/k", "kept\n"}} {
		if got := read(c.mount, c.name); got != c.want {
			t.Errorf("%d %s: %q", c.mount, c.name, got)
		}
	}
	for _, c := range []struct {
		mount      int
		name, want string
	}{{9, "/x", "out of bounds"}, {2, "/nosuch", "no such file"}, {2, "/d", "regular"}, {4, "/t", "not found"}} {
		if got := read(c.mount, c.name); !strings.Contains(got, c.want) {
			t.Errorf("%d %s: %q", c.mount, c.name, got)
		}
	}
	list, err := ctr.ReadDir(ctx, client.ReadDirContainerRequest{ReadDirRequest: client.ReadDirRequest{Path: "/bin"}, MountIndex: 1})
	if err != nil || len(list) != 3 || list[0].Path != "cat" {
		t.Errorf("%v, %v", list, err)
	}
}

func checkProcesses(ctx context.Context, t *testing.T, ctr client.Container) {
	t.Helper()
	for script, want := range map[string]uint32{"exit 0": 0, "exit 99": 99, "kill -TERM $$": 143} {
		_, err := run(ctx, ctr, script, nil)
		var exit *gwpb.ExitError
		if errors.As(err, &exit) != (want != 0) || want != 0 && exit.ExitCode != want {
			t.Errorf("%s: %v", script, err)
		}
	}
	if _, err := run(ctx, ctr, "", func(r *client.StartRequest) { r.Args = []string{"/nosuch"} }); err == nil {
		t.Error("a missing program has run")
	}
	if _, err := run(ctx, ctr, "true", func(r *client.StartRequest) { r.SecurityMode = pb.SecurityMode_INSECURE }); err == nil || !strings.Contains(err.Error(), "security.insecure is not allowed") {
		t.Errorf("a privileged process: %v", err)
	}
	in, keys := io.Pipe()
	out := new(output)
	p, err := ctr.Start(ctx, client.StartRequest{Args: []string{"/bin/sh"}, Tty: true, Stdin: in, Stdout: out})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Resize(ctx, client.WinSize{Rows: 7, Cols: 77}); err != nil {
		t.Error(err)
	}
	if _, err := io.WriteString(keys, "stty size; echo $TERM; exit 5\n"); err != nil {
		t.Fatal(err)
	}
	var exit *gwpb.ExitError
	if err := p.Wait(); !errors.As(err, &exit) || exit.ExitCode != 5 || !strings.Contains(out.String(), "7 77\r\nxterm\r\n") {
		t.Errorf("a terminal: %q, %v", out.String(), err)
	}
	_ = keys.Close()
}

// TestRootFailedStep: the error of a step says what its mounts show, before and after it, for containers that look for the reason.
func TestRootFailedStep(t *testing.T) {
	t.Parallel()
	err := realBuild(t, builder.Options{}, func(ctx context.Context, c client.Client) (*client.Result, error) {
		st := base(llb.Scratch()).Run(llb.Args([]string{"/bin/sh", "-c", "echo left >/left; exit 3"}), llb.Network(llb.NetModeNone))
		st.AddMount("/m", llb.Scratch())
		ref, err := solve(ctx, c, st.Root())
		if err != nil {
			return nil, err
		}
		evalErr := ref.Evaluate(ctx)
		var exit *gwpb.ExitError
		var failed *errdefs.SolveError
		if !errors.As(evalErr, &exit) || exit.ExitCode != 3 || !errors.As(evalErr, &failed) {
			t.Errorf("%v", evalErr)
			return nil, evalErr
		}
		op := failed.Op.GetExec()
		if len(op.GetMounts()) != 2 || len(failed.MountIDs) != 2 || len(failed.InputIDs) != 2 || failed.InputIDs[1] != "" {
			t.Errorf("%v, %q, %q", op, failed.InputIDs, failed.MountIDs)
		}
		for id, want := range map[string]string{failed.MountIDs[0]: "left\n", failed.InputIDs[0]: "cat: can't open '/left': No such file or directory\n"} {
			ctr, err := c.NewContainer(ctx, client.NewContainerRequest{NetMode: pb.NetMode_NONE, Mounts: []client.Mount{{Dest: "/", ResultID: id}}})
			if err != nil {
				return nil, err
			}
			if got, _ := run(ctx, ctr, "cat /left", nil); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		if _, err := ref.ReadFile(ctx, client.ReadRequest{Filename: "/left"}); err == nil {
			t.Error("a failed step has a result")
		}
		res := client.NewResult()
		res.SetRef(ref)
		return res, nil // which fails the build
	})
	if err == nil || !strings.Contains(err.Error(), "did not complete successfully: exit code: 3") {
		t.Errorf("%v", err)
	}
}
