package ops

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/system"

	"github.com/micabuild/mica/internal/network"
	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/rootfs"
	"github.com/micabuild/mica/internal/runtimespec"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/sshagent"
)

// execTask is a process with solved inputs, on the first of which it runs.
func execTask(change func(op *pb.ExecOp), inputs ...*solver.Result) *solver.Task {
	op := &pb.ExecOp{Meta: &pb.Meta{Args: []string{"true"}}, Mounts: []*pb.Mount{{Dest: "/", Input: -1}}}
	if len(inputs) > 0 {
		op.Mounts[0].Input = 0
	}
	if change != nil {
		change(op)
	}
	return &solver.Task{Vertex: &solver.Vertex{Op: &pb.Op{Op: &pb.Op_Exec{Exec: op}}, Name: "step"}, Inputs: inputs}
}

// newExec opens a valid operation.
func newExec(t *testing.T, w *Worker, change func(op *pb.ExecOp), inputs ...*solver.Result) *execOp {
	t.Helper()
	op, err := newExecOp(w, execTask(change, inputs...))
	if err != nil {
		t.Fatal(err)
	}
	return op.(*execOp)
}

func TestInvalidProcesses(t *testing.T) {
	t.Parallel()
	mount := func(m *pb.Mount) func(op *pb.ExecOp) {
		return func(op *pb.ExecOp) { op.Mounts = append(op.Mounts, m) }
	}
	for name, c := range map[string]struct {
		change func(op *pb.ExecOp)
		want   string
	}{
		"valid":        {nil, ""},
		"no process":   {func(op *pb.ExecOp) { op.Meta = nil }, "process has no arguments"},
		"no arguments": {func(op *pb.ExecOp) { op.Meta.Args = nil }, "process has no arguments"},
		"no root":      {func(op *pb.ExecOp) { op.Mounts = nil }, "process has no root filesystem"},
		"device":       {func(op *pb.ExecOp) { op.CdiDevices = []*pb.CDIDevice{{}} }, "RUN --device is not supported"},
		"input":        {mount(&pb.Mount{Dest: "/m", Input: 1}), "mount /m has an invalid input 1"},
		"below none":   {mount(&pb.Mount{Dest: "/m", Input: -2}), "mount /m has an invalid input -2"},
		"cache":        {mount(&pb.Mount{Dest: "/m", Input: -1, MountType: pb.MountType_CACHE}), "mount /m of type cache lacks its options"},
		"secret":       {mount(&pb.Mount{Dest: "/m", Input: -1, MountType: pb.MountType_SECRET, SecretOpt: &pb.SecretOpt{}}), "mount /m of type secret lacks its options"},
		"ssh":          {mount(&pb.Mount{Dest: "/m", Input: -1, MountType: pb.MountType_SSH}), "mount /m of type ssh lacks its options"},
		"security":     {func(op *pb.ExecOp) { op.Security = 2 }, "invalid security mode 2"},
		"unknown":      {mount(&pb.Mount{Dest: "/m", Input: -1, MountType: 77}), "RUN --mount=type=77 is not supported"},
	} {
		_, err := newExecOp(New(Options{}), execTask(c.change))
		if got := text(err); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// text is an error's, "" for none.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestProcess(t *testing.T) {
	t.Parallel()
	w := New(Options{
		Secret: func(_ context.Context, id string) ([]byte, error) {
			if id != "token" {
				return nil, fs.ErrNotExist
			}
			return []byte("secret"), nil
		},
		HostCerts: &HostCerts{Source: "/host", Target: "/certs", Env: func(env []string) []string { return append(env, "CERTS=/certs") }},
	})
	o := newExec(t, w, func(op *pb.ExecOp) {
		op.Security, op.Network = pb.SecurityMode_INSECURE, pb.NetMode_NONE
		op.Meta = &pb.Meta{
			Args: []string{"make"}, Env: []string{"A=1"}, Cwd: "/w", User: "ann", Hostname: "h", CgroupParent: "/p",
			ExtraHosts: []*pb.HostIP{{Host: "x", IP: "1.2.3.4"}}, Ulimit: []*pb.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}},
			ProxyEnv: &pb.ProxyEnv{HttpProxy: "http://p", NoProxy: "localhost"},
		}
		op.Secretenv = []*pb.SecretEnv{{ID: "token", Name: "TOKEN"}, {ID: "no", Name: "NO", Optional: true}}
	})
	p, err := o.process(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"A=1", "HTTP_PROXY=http://p", "http_proxy=http://p", "NO_PROXY=localhost", "no_proxy=localhost", "PATH=" + system.DefaultPathEnvUnix, "CERTS=/certs", "TOKEN=secret", "NO="}
	if diff := cmp.Diff(env, p.Env); diff != "" {
		t.Error(diff)
	}
	if len(o.op.Meta.Env) != 1 {
		t.Errorf("the operation has %q now", o.op.Meta.Env)
	}
	if p.Cwd != "/w" || p.User != "ann" || p.Hostname != "h" || p.CgroupParent != "/p" || !p.Privileged || p.Network != sandbox.NetworkNone || !p.Seal {
		t.Errorf("%+v", p)
	}
	if diff := cmp.Diff([]network.ExtraHost{{Host: "x", IP: "1.2.3.4"}}, p.ExtraHosts); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]runtimespec.Rlimit{{Name: "nofile", Soft: 1, Hard: 2}}, p.Rlimits); diff != "" {
		t.Error(diff)
	}
	if len(p.Mounts) != 1 || p.Mounts[0].Source != "/host" || p.Mounts[0].Target != "/certs" || !p.Mounts[0].ReadOnly {
		t.Errorf("mounts %+v", p.Mounts)
	}
	own := newExec(t, New(Options{}), func(op *pb.ExecOp) { op.Meta.Env = []string{"PATH=/own"} })
	if p, err := own.process(t.Context()); err != nil || !slices.Equal(p.Env, []string{"PATH=/own"}) {
		t.Errorf("with a PATH: %q, %v", p.Env, err)
	}
	for mode, want := range map[pb.NetMode]sandbox.Network{pb.NetMode_UNSET: sandbox.NetworkOwn, pb.NetMode_HOST: sandbox.NetworkHost} {
		p, err := newExec(t, New(Options{}), func(op *pb.ExecOp) { op.Network = mode }).process(t.Context())
		if err != nil || p.Network != want || p.Privileged {
			t.Errorf("network %s: %+v, %v", mode, p, err)
		}
	}
}

func TestResources(t *testing.T) {
	t.Parallel()
	if r := Resources(nil); r != nil {
		t.Errorf("no limits are %+v", r)
	}
	r := Resources(&pb.LinuxResources{Memory: 1, MemorySwap: 2, CpuQuota: 3, CpuPeriod: 4, CpuShares: 5, CpusetCpus: "0", CpusetMems: "1"})
	if *r.Memory.Limit != 1 || *r.Memory.Swap != 2 || *r.CPU.Quota != 3 || *r.CPU.Period != 4 || *r.CPU.Shares != 5 || r.CPU.Cpus != "0" || r.CPU.Mems != "1" {
		t.Errorf("%+v %+v", r.Memory, r.CPU)
	}
	if r := Resources(&pb.LinuxResources{}); r.Memory.Limit != nil || r.Memory.Swap != nil || r.CPU.Quota != nil || r.CPU.Period != nil || r.CPU.Shares != nil {
		t.Errorf("zeros are limits: %+v %+v", r.Memory, r.CPU)
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	fault := errors.New("a fault")
	w := New(Options{Secret: func(_ context.Context, id string) ([]byte, error) {
		switch id {
		case "value":
			return []byte("v"), nil
		case "empty":
			return nil, nil
		case "bad":
			return nil, fault
		}
		return nil, fs.ErrNotExist
	}})
	for name, c := range map[string]struct {
		id       string
		optional bool
		want     []byte
		err      string
	}{
		"value":            {id: "value", want: []byte("v")},
		"empty":            {id: "empty", want: []byte{}},
		"missing":          {id: "x", err: "secret x: not found: give it with --secret id=x"},
		"missing, allowed": {id: "x", optional: true},
		"error":            {id: "bad", err: "secret bad: a fault"},
		"error, allowed":   {id: "bad", optional: true, err: "secret bad: a fault"},
	} {
		got, err := getSecret(t.Context(), w.Secret, c.id, c.optional)
		if diff := cmp.Diff(c.want, got); diff != "" || text(err) != c.err {
			t.Errorf("%s: %v, %s", name, err, diff)
		}
	}
}

func TestHostMounts(t *testing.T) {
	t.Parallel()
	w := New(Options{
		Secret: func(_ context.Context, id string) ([]byte, error) {
			if id != "s" {
				return nil, fs.ErrNotExist
			}
			return []byte("secret"), nil
		},
		SSH: sshagent.Agents{"default": func(net.Conn) {}, "own": func(net.Conn) {}}.Get,
	})
	for name, c := range map[string]struct {
		mount *pb.Mount
		want  *sandbox.Mount // without Serve; nil for no mount
		err   string
	}{
		"tmpfs": {
			mount: &pb.Mount{MountType: pb.MountType_TMPFS, TmpfsOpt: &pb.TmpfsOpt{Size: 7}, Readonly: true},
			want:  &sandbox.Mount{Type: sandbox.MountTmpfs, Target: "/m", Size: 7, ReadOnly: true},
		},
		"tmpfs of any size": {mount: &pb.Mount{MountType: pb.MountType_TMPFS}, want: &sandbox.Mount{Type: sandbox.MountTmpfs, Target: "/m"}},
		"secret": {
			mount: &pb.Mount{MountType: pb.MountType_SECRET, SecretOpt: &pb.SecretOpt{ID: "s", Mode: 0o400, Uid: 1, Gid: 2}},
			want:  &sandbox.Mount{Type: sandbox.MountSecret, Target: "/m", Data: []byte("secret"), Mode: 0o400, UID: 1, GID: 2},
		},
		"optional secret": {mount: &pb.Mount{MountType: pb.MountType_SECRET, SecretOpt: &pb.SecretOpt{ID: "x", Optional: true}}},
		"missing secret":  {mount: &pb.Mount{MountType: pb.MountType_SECRET, SecretOpt: &pb.SecretOpt{ID: "x"}}, err: "secret x: not found: give it with --secret id=x"},
		"agent": {
			mount: &pb.Mount{MountType: pb.MountType_SSH, SSHOpt: &pb.SSHOpt{ID: "own", Mode: 0o600, Uid: 3}},
			want:  &sandbox.Mount{Type: sandbox.MountSocket, Target: "/m", Mode: 0o600, UID: 3},
		},
		"default agent":  {mount: &pb.Mount{MountType: pb.MountType_SSH, SSHOpt: &pb.SSHOpt{}}, want: &sandbox.Mount{Type: sandbox.MountSocket, Target: "/m"}},
		"optional agent": {mount: &pb.Mount{MountType: pb.MountType_SSH, SSHOpt: &pb.SSHOpt{ID: "x", Optional: true}}},
		"missing agent": {
			mount: &pb.Mount{MountType: pb.MountType_SSH, SSHOpt: &pb.SSHOpt{ID: "x"}}, err: `no SSH key "x" forwarded from the client: name it with --ssh`,
		},
	} {
		c.mount.Dest = "/m"
		p := &sandbox.Process{}
		err := newExec(t, w, nil).addHostMount(t.Context(), p, c.mount)
		if text(err) != c.err {
			t.Errorf("%s: %v, want %q", name, err, c.err)
			continue
		}
		var got *sandbox.Mount
		if len(p.Mounts) > 0 {
			got = &p.Mounts[0]
			if (got.Serve != nil) != (got.Type == sandbox.MountSocket) {
				t.Errorf("%s: serves %t", name, got.Serve != nil)
			}
			got.Serve = nil
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestFailure(t *testing.T) {
	t.Parallel()
	long := newExec(t, New(Options{}), func(op *pb.ExecOp) { op.Meta.Args = []string{"sh", "-c", strings.Repeat("é", maxCommand)} })
	short := newExec(t, New(Options{}), func(op *pb.ExecOp) { op.Meta.Args = []string{"sh", "-c", "exit 3"} })
	exit := &ociruntime.ExitError{Code: 3}
	if err := short.failure(t.Context(), exit); text(err) != `process "sh -c exit 3" did not complete successfully: exit code: 3` || !errors.Is(err, exit) {
		t.Errorf("%v", err)
	}
	if err := short.failure(t.Context(), fs.ErrPermission); text(err) != `process "sh -c exit 3" could not be run: permission denied` {
		t.Errorf("%v", err)
	}
	missing := &ociruntime.StartError{Code: 127, Reason: `exec: "sh": executable file not found in $PATH`}
	err := short.failure(t.Context(), missing)
	var typed *gwpb.ExitError
	if !errors.As(err, &typed) || typed.ExitCode != 127 || !errors.Is(err, missing) ||
		text(err) != `process "sh -c exit 3" did not complete successfully: exit code: 127: exec: "sh": executable file not found in $PATH` {
		t.Errorf("%v", err)
	}
	if err := short.failure(canceled(t), exit); !errors.Is(err, context.Canceled) || errors.Is(err, exit) {
		t.Errorf("canceled: %v", err)
	}
	if got := text(long.failure(t.Context(), exit)); len(got) > maxCommand+100 || !strings.Contains(got, "é…\"") {
		t.Errorf("%d bytes, ending %q", len(got), got[len(got)-60:])
	}
}

func TestValidExitCodes(t *testing.T) {
	t.Parallel()
	exit := func(code int) error { return &ociruntime.ExitError{Code: code} }
	for name, c := range map[string]struct {
		valid []int32
		err   error
		want  string
	}{
		"none given":             {nil, nil, ""},
		"none given, failed":     {nil, exit(1), "exit code: 1"},
		"wanted":                 {[]int32{2, 3}, exit(3), ""},
		"another":                {[]int32{2, 3}, exit(1), "exit code: 1"},
		"success is not wanted":  {[]int32{2, 3}, nil, "exit code: 0"},
		"success is wanted, too": {[]int32{0, 2}, nil, ""},
		"missing program":        {[]int32{127}, &ociruntime.StartError{Code: 127}, ""},
		"broken runtime":         {[]int32{125}, &ociruntime.StartError{Code: 125, Reason: "broken"}, "broken"},
		"canceled":               {[]int32{0}, context.Canceled, "context canceled"},
	} {
		o := newExec(t, New(Options{}), func(op *pb.ExecOp) { op.Meta.ValidExitCodes = c.valid })
		if got := text(o.outcome(c.err)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestMissingMounts: a mount whose source does not exist fails before the process runs.
func TestMissingMounts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		input *solver.Result
		want  string
	}{
		"of a directory": {local(map[string]string{"f": ""}), `"/no": not found`},
		"of a stage":     {&solver.Result{}, `"/no": not found`},
		"of nothing":     {nil, `"/no": not found`},
	} {
		var inputs []*solver.Result
		index := int64(-1)
		if c.input != nil {
			inputs, index = []*solver.Result{{}, c.input}, 1
		}
		o := newExec(t, New(Options{}), func(op *pb.ExecOp) {
			op.Mounts = append(op.Mounts, &pb.Mount{Dest: "/m", Input: index, Output: -1, Selector: "no", Readonly: true})
		}, inputs...)
		if _, _, err := o.Key(t.Context()); text(err) != c.want {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestCommitOfReadOnlyMounts: what a process cannot change is put out as it was; an output that no mount has is an error.
func TestCommitOfReadOnlyMounts(t *testing.T) {
	t.Parallel()
	in := chain("a")
	mount := func(out int64, kind pb.MountType) func(op *pb.ExecOp) {
		return func(op *pb.ExecOp) {
			op.Mounts[0].Output = -1
			op.Mounts = append(op.Mounts, &pb.Mount{Dest: "/m", Input: 0, Output: out, MountType: kind})
		}
	}
	outs, err := newExec(t, New(Options{}), mount(0, pb.MountType_BIND), in).commit(t.Context(), &State{uppers: make([]string, 2), trees: make([]*rootfs.Tree, 2)})
	if err != nil || len(outs) != 1 || outs[0] != in {
		t.Errorf("%v, %v", outs, err)
	}
	outs, err = newExec(t, New(Options{}), mount(0, pb.MountType_TMPFS), in).commit(t.Context(), &State{uppers: make([]string, 2), trees: make([]*rootfs.Tree, 2)})
	if err != nil || len(outs) != 0 {
		t.Errorf("of memory: %v, %v", outs, err)
	}
	_, err = newExec(t, New(Options{}), mount(1, pb.MountType_BIND), in).commit(t.Context(), &State{uppers: make([]string, 2), trees: make([]*rootfs.Tree, 2)})
	if text(err) != "process has no output 0" {
		t.Errorf("%v", err)
	}
}

func TestLocalSourcesAsLayers(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	src := local(map[string]string{"d/f": "1", "d/g": "2", "other": "3"})
	for selector, want := range map[string]map[string]string{
		"/":    {"d": "d 755 0:0", "d/f": "f 644 0:0 1", "d/g": "f 644 0:0 2", "other": "f 644 0:0 3"},
		"d/f":  {"d": "d 755 0:0", "d/f": "f 644 0:0 1"},
		"/d/g": {"d": "d 755 0:0", "d/g": "f 644 0:0 2"},
	} {
		res, err := r.worker.asLayers(t.Context(), src, selector)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, r.list(t, res)); diff != "" {
			t.Errorf("%s: %s", selector, diff)
		}
	}
	if _, err := r.worker.asLayers(t.Context(), src, "no"); text(err) != `"/no": not found` {
		t.Errorf("%v", err)
	}
	layers := chain("a")
	if res, err := r.worker.asLayers(t.Context(), layers, "/x"); err != nil || res != layers {
		t.Errorf("layers become %v, %v", res, err)
	}
}
