// Command frontend is a front end in an image. What it does is its build's option cmdline: "NAME BEHAVIOUR", as in `# syntax=NAME BEHAVIOUR`.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/gateway/grpcclient"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

var behaviours = map[string]client.BuildFunc{
	"copy": copyFile, "forward": forward, "fail": fail, "environment": environment, "inputs": inputs, "hang": hang, "flood": flood, "die": die,
	"exit": exit, "garbage": garbage, "again": again, "privileged": privileged, "host-network": hostNetwork, "elsewhere": elsewhere, "cache": cache,
	"warnings": warnings, "containers": containers, "children": children,
	"process": process, "failed-step": failedStep, "privileged-process": privilegedProcess, "host-network-process": hostNetworkProcess,
}

func main() {
	if len(os.Args) == 3 && os.Args[2] == "wait" {
		select {}
	}
	if len(os.Args) == 3 && os.Args[1] == "say" { // as a process of a container or a step
		fmt.Println(os.Args[2])
		if err := os.WriteFile("/said", []byte(os.Args[2]), 0o600); err != nil || os.Args[2] == "no" {
			os.Exit(4)
		}
		return
	}
	_, name, _ := strings.Cut(option("cmdline"), " ")
	run, ok := behaviours[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "unknown behaviour %q\n", name)
		os.Exit(2)
	}
	if err := grpcclient.RunFromEnvironment(context.Background(), run); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// option returns an option of the build from the environment.
func option(name string) string {
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "BUILDKIT_FRONTEND_OPT_") {
			continue
		}
		_, kv, _ = strings.Cut(kv, "=")
		if k, v, _ := strings.Cut(kv, "="); k == name {
			return v
		}
	}
	return ""
}

func solve(ctx context.Context, c client.Client, st llb.State) (*client.Result, error) {
	def, err := st.Marshal(ctx)
	if err != nil {
		return nil, err
	}
	return c.Solve(ctx, client.SolveRequest{Definition: def.ToPB(), Evaluate: true})
}

func file(name, text string) llb.State {
	return llb.Scratch().File(llb.Mkfile(name, 0o644, []byte(text)))
}

// copyFile answers with LLB: the file "f" of the context, read and copied.
func copyFile(ctx context.Context, c client.Client) (*client.Result, error) {
	res, err := solve(ctx, c, llb.Local("context"))
	if err != nil {
		return nil, err
	}
	ref, err := res.SingleRef()
	if err != nil {
		return nil, err
	}
	data, err := ref.ReadFile(ctx, client.ReadRequest{Filename: "f"})
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "read %d bytes\n", len(data))
	return solve(ctx, c, llb.Scratch().File(llb.Copy(llb.Local("context"), "f", "/copied")).File(llb.Mkfile("/upper", 0o644, []byte(strings.ToUpper(string(data))))))
}

// forward asks for the compiler of Dockerfiles with the build's options.
func forward(ctx context.Context, c client.Client) (*client.Result, error) {
	return c.Solve(ctx, client.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: c.BuildOpts().Opts})
}

func fail(context.Context, client.Client) (*client.Result, error) {
	return nil, errors.New("this front end fails always")
}

// environment answers with what the process sees.
func environment(ctx context.Context, c client.Client) (*client.Result, error) {
	env := slices.Sorted(slices.Values(os.Environ()))
	_, root := os.Stat("/")
	written := os.WriteFile("/file", nil, 0o600)
	tmp := os.WriteFile("/tmp/file", nil, 0o600)
	graph, err := os.ReadFile("/run/config/buildkit/metadata/frontend.bin")
	if err != nil {
		return nil, err
	}
	devices, err := os.ReadDir("/sys/class/net")
	if err != nil {
		return nil, err
	}
	return solve(ctx, c, file("/report", fmt.Sprintf("%s\nroot: %v\nwrite: %v\ntmp: %v\ngraph: %t\ndevices: %d\n",
		strings.Join(env, "\n"), root, written, tmp, (&pb.Definition{}).UnmarshalVT(graph) == nil, len(devices))))
}

// inputs merges the inputs of the build, or passes one to another front end of the same image.
func inputs(ctx context.Context, c client.Client) (*client.Result, error) {
	all, err := c.Inputs(ctx)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		def, err := file("/input", "from the outer front end").Marshal(ctx)
		if err != nil {
			return nil, err
		}
		return c.Solve(ctx, client.SolveRequest{
			Frontend: "gateway.v0", FrontendOpt: c.BuildOpts().Opts, FrontendInputs: map[string]*pb.Definition{"one": def.ToPB()},
		})
	}
	var list []llb.State
	for _, name := range slices.Sorted(maps.Keys(all)) {
		list = append(list, all[name])
	}
	return solve(ctx, c, llb.Merge(list))
}

func hang(ctx context.Context, _ client.Client) (*client.Result, error) {
	fmt.Fprintln(os.Stderr, "hanging")
	<-ctx.Done()
	select {}
}

// flood writes much more to its log than is shown.
func flood(ctx context.Context, c client.Client) (*client.Result, error) {
	line := []byte(strings.Repeat("x", 1023) + "\n")
	for range 32 << 10 {
		if _, err := os.Stderr.Write(line); err != nil {
			return nil, err
		}
	}
	return solve(ctx, c, file("/flooded", ""))
}

func die(context.Context, client.Client) (*client.Result, error) {
	os.Exit(3)
	return nil, nil
}

// exit ends with success and no result.
func exit(context.Context, client.Client) (*client.Result, error) {
	os.Exit(0)
	return nil, nil
}

// garbage breaks the protocol.
func garbage(context.Context, client.Client) (*client.Result, error) {
	_, _ = os.Stdout.WriteString(strings.Repeat("garbage ", 100))
	select {}
}

// again asks for itself without end.
func again(ctx context.Context, c client.Client) (*client.Result, error) {
	return c.Solve(ctx, client.SolveRequest{Frontend: "gateway.v0", FrontendOpt: c.BuildOpts().Opts})
}

// What follows asks for what no Dockerfile can have.

func privileged(ctx context.Context, c client.Client) (*client.Result, error) {
	return solve(ctx, c, file("/f", "").Run(llb.Shlex("/f"), llb.Security(llb.SecurityModeInsecure)).Root())
}

func hostNetwork(ctx context.Context, c client.Client) (*client.Result, error) {
	return solve(ctx, c, file("/f", "").Run(llb.Shlex("/f"), llb.Network(llb.NetModeHost)).Root())
}

func elsewhere(ctx context.Context, c client.Client) (*client.Result, error) {
	return solve(ctx, c, llb.Local("/etc"))
}

func cache(ctx context.Context, c client.Client) (*client.Result, error) {
	return c.Solve(ctx, client.SolveRequest{CacheImports: []client.CacheOptionsEntry{{Type: "local", Attrs: map[string]string{"src": "/etc"}}}})
}

// inContainer runs the program in a container of a result, and returns its output.
func inContainer(ctx context.Context, c client.Client, ref client.Reference, text string, network pb.NetMode, security pb.SecurityMode) (string, error) {
	ctr, err := c.NewContainer(ctx, client.NewContainerRequest{NetMode: network, Mounts: []client.Mount{{Dest: "/", MountType: pb.MountType_BIND, Ref: ref}}})
	if err != nil {
		return "", err
	}
	var out strings.Builder
	p, err := ctr.Start(ctx, client.StartRequest{Args: []string{"/program", "say", text}, Cwd: "/", SecurityMode: security, Stdout: output{&out}, Stderr: output{os.Stderr}})
	if err == nil {
		err = p.Wait()
	}
	return strings.TrimSpace(out.String()), errors.Join(err, ctr.Release(ctx))
}

type output struct{ io.Writer }

func (output) Close() error { return nil }

func own(ctx context.Context, c client.Client) (client.Reference, error) {
	res, err := solve(ctx, c, llb.Image("me/fe"))
	if err != nil {
		return nil, err
	}
	return res.SingleRef()
}

// process answers with the output of a process that is no step.
func process(ctx context.Context, c client.Client) (*client.Result, error) {
	ref, err := own(ctx, c)
	if err != nil {
		return nil, err
	}
	text, err := inContainer(ctx, c, ref, "hello", pb.NetMode_NONE, pb.SecurityMode_SANDBOX)
	if err != nil {
		return nil, err
	}
	return solve(ctx, c, file("/process", text))
}

// failedStep reads what a step has written before it failed, and runs a process there.
func failedStep(ctx context.Context, c client.Client) (*client.Result, error) {
	def, err := llb.Image("me/fe").Run(llb.Args([]string{"/program", "say", "no"})).Root().Marshal(ctx)
	if err != nil {
		return nil, err
	}
	res, err := c.Solve(ctx, client.SolveRequest{Definition: def.ToPB()})
	if err != nil {
		return nil, fmt.Errorf("too early: %w", err)
	}
	ref, err := res.SingleRef()
	if err != nil {
		return nil, err
	}
	var failed *errdefs.SolveError
	if err := ref.Evaluate(ctx); !errors.As(err, &failed) || len(failed.MountIDs) != 1 {
		return nil, fmt.Errorf("the step: %w", err)
	}
	ctr, err := c.NewContainer(ctx, client.NewContainerRequest{NetMode: pb.NetMode_NONE, Mounts: []client.Mount{{Dest: "/", MountType: pb.MountType_BIND, ResultID: failed.MountIDs[0]}}})
	if err != nil {
		return nil, err
	}
	data, err := ctr.ReadFile(ctx, client.ReadContainerRequest{ReadRequest: client.ReadRequest{Filename: "/said"}})
	if err != nil {
		return nil, err
	}
	return solve(ctx, c, file("/left", string(data)))
}

func privilegedProcess(ctx context.Context, c client.Client) (*client.Result, error) {
	return asking(ctx, c, pb.NetMode_NONE, pb.SecurityMode_INSECURE)
}

func hostNetworkProcess(ctx context.Context, c client.Client) (*client.Result, error) {
	return asking(ctx, c, pb.NetMode_HOST, pb.SecurityMode_SANDBOX)
}

func asking(ctx context.Context, c client.Client, network pb.NetMode, security pb.SecurityMode) (*client.Result, error) {
	ref, err := own(ctx, c)
	if err != nil {
		return nil, err
	}
	_, err = inContainer(ctx, c, ref, "hello", network, security)
	return nil, err
}

// What follows uses more than a front end may.

func warnings(ctx context.Context, c client.Client) (*client.Result, error) {
	text := strings.Repeat("x", 8<<20)
	for {
		if err := c.Warn(ctx, "sha256:"+digest.Digest(strings.Repeat("0", 64)), "short", client.WarnOpts{URL: text}); err != nil {
			return nil, err
		}
	}
}

func containers(ctx context.Context, c client.Client) (*client.Result, error) {
	ref, err := own(ctx, c)
	if err != nil {
		return nil, err
	}
	for {
		_, err := c.NewContainer(ctx, client.NewContainerRequest{NetMode: pb.NetMode_NONE, Mounts: []client.Mount{{Dest: "/", MountType: pb.MountType_BIND, Ref: ref}}})
		if err != nil {
			return nil, err
		}
	}
}

// children leaves a process of its own session behind.
func children(ctx context.Context, c client.Client) (*client.Result, error) {
	cmd := exec.Command("/program", os.Args[1], "wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return solve(ctx, c, file("/children", "one"))
}
