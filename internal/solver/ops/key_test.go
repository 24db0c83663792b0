package ops

import (
	"testing"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/view"
)

// chain is a result of layers, which need not exist.
func chain(names ...string) *solver.Result {
	r := &solver.Result{}
	for _, n := range names {
		r.Chain = r.Chain.On(buildcache.Link{DiffID: digest.FromString(n)})
	}
	return r
}

// local is a directory of the host.
func local(files map[string]string) *solver.Result {
	all := map[string][]byte{}
	for name, content := range files {
		all[name] = []byte(content)
	}
	return &solver.Result{Local: view.Files(all)}
}

// keyOf returns the key of an operation.
func keyOf(t *testing.T, op *pb.Op, inputs []*solver.Result) digest.Digest {
	t.Helper()
	kinds := New(Options{}).Kinds()
	task := &solver.Task{Vertex: &solver.Vertex{Op: op}, Inputs: inputs}
	o, err := kindOf(kinds, op).Open(task)
	if err != nil {
		t.Fatal(err)
	}
	k, ok, err := o.Key(t.Context())
	if err != nil || !ok {
		t.Fatalf("%t, %v", ok, err)
	}
	return k.Digest()
}

// keyTest is a change of an operation and what it reads.
type keyTest struct {
	change func(op *pb.Op, in []*solver.Result)
	same   bool
}

// testKeys gives the operation of make each change. Those of the table that are not the same have a key of their own.
func testKeys(t *testing.T, make func() (*pb.Op, []*solver.Result), table map[string]keyTest) {
	t.Helper()
	seen := map[digest.Digest]string{}
	op, in := make()
	first := keyOf(t, op, in)
	seen[first] = "the operation itself"
	for name, c := range table {
		op, in := make()
		c.change(op, in)
		got := keyOf(t, op, in)
		if c.same {
			if got != first {
				t.Errorf("%s: another key", name)
			}
			continue
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%s: the key of %s", name, other)
		}
		seen[got] = name
	}
}

func TestKeyOfExec(t *testing.T) {
	t.Parallel()
	exec := func() (*pb.Op, []*solver.Result) {
		return &pb.Op{
				Platform: &pb.Platform{OS: "linux", Architecture: "amd64"},
				Op: &pb.Op_Exec{Exec: &pb.ExecOp{
					Meta: &pb.Meta{
						Args: []string{"make", "all"}, Env: []string{"A=1"}, Cwd: "/w",
						ExtraHosts: []*pb.HostIP{{Host: "h", IP: "1.2.3.4"}},
					},
					Mounts: []*pb.Mount{
						{Dest: "/", Input: 0, Output: 0},
						{Dest: "/m", Input: 1, Output: -1, Selector: "/sub", Readonly: true},
						{Dest: "/c", Input: -1, Output: -1, MountType: pb.MountType_CACHE, CacheOpt: &pb.CacheOpt{ID: "id"}},
						{Dest: "/out", Input: 2, Output: 1},
					},
				}},
			}, []*solver.Result{
				chain("a", "b"), local(map[string]string{"sub/f": "1", "other": "x"}), chain("c"),
			}
	}
	op := func(change func(op *pb.ExecOp)) keyTest {
		return keyTest{change: func(op *pb.Op, _ []*solver.Result) { change(op.GetExec()) }}
	}
	same := func(change func(op *pb.ExecOp)) keyTest {
		k := op(change)
		k.same = true
		return k
	}
	input := func(i int, r *solver.Result) keyTest {
		return keyTest{change: func(_ *pb.Op, in []*solver.Result) { in[i] = r }}
	}
	testKeys(t, exec, map[string]keyTest{
		"arguments":           op(func(o *pb.ExecOp) { o.Meta.Args[1] = "one" }),
		"argument boundaries": op(func(o *pb.ExecOp) { o.Meta.Args = []string{"make all"} }),
		"variable":            op(func(o *pb.ExecOp) { o.Meta.Env[0] = "A=2" }),
		"more variables":      op(func(o *pb.ExecOp) { o.Meta.Env = append(o.Meta.Env, "B=") }),
		"directory":           op(func(o *pb.ExecOp) { o.Meta.Cwd = "/v" }),
		"user":                op(func(o *pb.ExecOp) { o.Meta.User = "ann" }),
		"host name":           op(func(o *pb.ExecOp) { o.Meta.Hostname = "h" }),
		"name of a host":      op(func(o *pb.ExecOp) { o.Meta.ExtraHosts[0].Host = "g" }),
		"limit":               op(func(o *pb.ExecOp) { o.Meta.Ulimit = []*pb.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}} }),
		"network":             op(func(o *pb.ExecOp) { o.Network = pb.NetMode_NONE }),
		"security":            op(func(o *pb.ExecOp) { o.Security = pb.SecurityMode_INSECURE }),
		"secret variable":     op(func(o *pb.ExecOp) { o.Secretenv = []*pb.SecretEnv{{ID: "s", Name: "S"}} }),
		"place of a mount":    op(func(o *pb.ExecOp) { o.Mounts[1].Dest = "/n" }),
		"writable mount":      op(func(o *pb.ExecOp) { o.Mounts[1].Readonly = false }),
		"all of a mount":      op(func(o *pb.ExecOp) { o.Mounts[1].Selector = "" }),
		"secret": op(func(o *pb.ExecOp) {
			o.Mounts = append(o.Mounts, &pb.Mount{Dest: "/s", Input: -1, Output: -1, MountType: pb.MountType_SECRET, SecretOpt: &pb.SecretOpt{ID: "s"}})
		}),
		"platform":           {change: func(op *pb.Op, _ []*solver.Result) { op.Platform.Architecture = "arm64" }},
		"variant":            {change: func(op *pb.Op, _ []*solver.Result) { op.Platform.Variant = "v3" }},
		"root":               input(0, chain("a")),
		"order of layers":    input(0, chain("b", "a")),
		"content of a mount": input(1, local(map[string]string{"sub/f": "2", "other": "x"})),
		"name in a mount":    input(1, local(map[string]string{"sub/g": "1", "other": "x"})),
		"other output":       input(2, chain("d")),

		"rest of a mount":   {change: func(_ *pb.Op, in []*solver.Result) { in[1] = local(map[string]string{"sub/f": "1", "other": "y"}) }, same: true},
		"proxy":             same(func(o *pb.ExecOp) { o.Meta.ProxyEnv = &pb.ProxyEnv{HttpProxy: "http://p"} }),
		"address of a host": same(func(o *pb.ExecOp) { o.Meta.ExtraHosts[0].IP = "4.3.2.1" }),
		"cache":             same(func(o *pb.ExecOp) { o.Mounts[2].CacheOpt.ID = "another" }),
		"sharing":           same(func(o *pb.ExecOp) { o.Mounts[2].CacheOpt.Sharing = pb.CacheSharingOpt_LOCKED }),
		"times of layers": {change: func(_ *pb.Op, in []*solver.Result) {
			in[0] = &solver.Result{Chain: buildcache.NewChain(
				buildcache.Link{DiffID: digest.FromString("a"), Created: time.Unix(9, 0), Description: "x"}, buildcache.Link{DiffID: digest.FromString("b")},
			)}
		}, same: true},
	})
	// The key does not change the operation.
	o, in := exec()
	o.GetExec().Meta.ProxyEnv = &pb.ProxyEnv{HttpProxy: "http://p"}
	keyOf(t, o, in)
	if e := o.GetExec(); e.Meta.ProxyEnv == nil || e.Meta.ExtraHosts[0].IP == "" || e.Mounts[2].CacheOpt.ID == "" {
		t.Errorf("the operation is now %v", e)
	}
}

func TestKeyOfFile(t *testing.T) {
	t.Parallel()
	op := func() (*pb.Op, []*solver.Result) {
		return &pb.Op{Op: &pb.Op_File{File: &pb.FileOp{Actions: []*pb.FileAction{
				{Input: 0, SecondaryInput: 1, Output: -1, Action: &pb.FileAction_Copy{Copy: &pb.FileActionCopy{
					Src: "/sub", Dest: "/d", Mode: -1, Timestamp: -1, DirCopyContents: true,
					Owner: &pb.ChownOpt{User: &pb.UserOpt{User: &pb.UserOpt_ByName{ByName: &pb.NamedUserOpt{Name: "ann", Input: 2}}}},
				}}},
				{Input: 3, SecondaryInput: -1, Output: 0, Action: &pb.FileAction_Mkfile{Mkfile: &pb.FileActionMkFile{
					Path: "/f", Mode: 0o600, Data: []byte("1"), Timestamp: -1,
				}}},
			}}}}, []*solver.Result{
				chain("a", "b"), local(map[string]string{"sub/f": "1", "other": "x"}), chain("accounts"),
			}
	}
	copied := func(change func(c *pb.FileActionCopy)) keyTest {
		return keyTest{change: func(op *pb.Op, _ []*solver.Result) { change(op.GetFile().Actions[0].GetCopy()) }}
	}
	made := func(change func(c *pb.FileActionMkFile)) keyTest {
		return keyTest{change: func(op *pb.Op, _ []*solver.Result) { change(op.GetFile().Actions[1].GetMkfile()) }}
	}
	input := func(i int, r *solver.Result) keyTest {
		return keyTest{change: func(_ *pb.Op, in []*solver.Result) { in[i] = r }}
	}
	testKeys(t, op, map[string]keyTest{
		"destination":      copied(func(c *pb.FileActionCopy) { c.Dest = "/e" }),
		"source":           copied(func(c *pb.FileActionCopy) { c.Src = "/sub/f" }),
		"mode":             copied(func(c *pb.FileActionCopy) { c.Mode = 0o700 }),
		"symbolic mode":    copied(func(c *pb.FileActionCopy) { c.ModeStr = "u+x" }),
		"directory itself": copied(func(c *pb.FileActionCopy) { c.DirCopyContents = false }),
		"patterns":         copied(func(c *pb.FileActionCopy) { c.IncludePatterns = []string{"f"} }),
		"extraction":       copied(func(c *pb.FileActionCopy) { c.AttemptUnpackDockerCompatibility = true }),
		"time":             copied(func(c *pb.FileActionCopy) { c.Timestamp = 1 }),
		"owner":            copied(func(c *pb.FileActionCopy) { c.Owner.User.GetByName().Name = "bob" }),
		"no owner":         copied(func(c *pb.FileActionCopy) { c.Owner = nil }),
		"path":             made(func(f *pb.FileActionMkFile) { f.Path = "/g" }),
		"mode of a file":   made(func(f *pb.FileActionMkFile) { f.Mode = 0o644 }),
		"content":          made(func(f *pb.FileActionMkFile) { f.Data = []byte("2") }),
		"order": {change: func(op *pb.Op, _ []*solver.Result) {
			a := op.GetFile().Actions
			a[0].Input, a[1].Input = 3, 0
			op.GetFile().Actions = []*pb.FileAction{a[1], a[0]}
			a[0].Output, a[1].Output = 0, -1
		}},
		"base":                   input(0, chain("a")),
		"copied content":         input(1, local(map[string]string{"sub/f": "2", "other": "x"})),
		"copied name":            input(1, local(map[string]string{"sub/g": "1", "other": "x"})),
		"image with the account": input(2, chain("other accounts")),

		"what is not copied": {change: func(_ *pb.Op, in []*solver.Result) { in[1] = local(map[string]string{"sub/f": "1", "more": "y"}) }, same: true},
	})
}

func TestKeyOfDiff(t *testing.T) {
	t.Parallel()
	op := func() (*pb.Op, []*solver.Result) {
		return &pb.Op{Op: &pb.Op_Diff{Diff: &pb.DiffOp{Lower: &pb.LowerDiffInput{Input: 0}, Upper: &pb.UpperDiffInput{Input: 1}}}}, []*solver.Result{chain("a"), chain("b")}
	}
	testKeys(t, op, map[string]keyTest{
		"lower":     {change: func(_ *pb.Op, in []*solver.Result) { in[0] = chain("c") }},
		"upper":     {change: func(_ *pb.Op, in []*solver.Result) { in[1] = chain("c") }},
		"exchanged": {change: func(_ *pb.Op, in []*solver.Result) { in[0], in[1] = in[1], in[0] }},
	})
}
