package remotecache

import (
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"
)

// selected are the paths of selections.
func selected(list []selection) string {
	var paths []string
	for _, s := range list {
		paths = append(paths, s.path)
	}
	return strings.Join(paths, " ")
}

// TestMountDeps: an input counts by its content if the process cannot pass on more of it.
func TestMountDeps(t *testing.T) {
	t.Parallel()
	const skip = int64(pb.SkipOutput)
	root := &pb.Mount{Dest: "/"}
	for name, test := range map[string]struct {
		mounts  []*pb.Mount
		content bool
		paths   string // that are selected of the second input
		err     bool
	}{
		"read-only directory": {[]*pb.Mount{root, {Input: 1, Dest: "/src", Selector: "/a", Readonly: true, Output: skip}}, true, "/a", false},
		"whole, read-only":    {[]*pb.Mount{root, {Input: 1, Dest: "/src", Readonly: true, Output: skip}}, true, "", false},
		"written":             {[]*pb.Mount{root, {Input: 1, Dest: "/src", Selector: "/a", Output: 1}}, false, "", false},
		"written in vain":     {[]*pb.Mount{root, {Input: 1, Dest: "/src", Selector: "/a", Output: skip}}, true, "/a", false},
		"without content": {[]*pb.Mount{root, {Input: 1, Dest: "/src", Selector: "/a", Readonly: true, Output: skip, ContentCache: pb.MountContentCache_OFF}},
			false, "", false},
		"root by its content": {[]*pb.Mount{{Input: 1, Dest: "/", ContentCache: pb.MountContentCache_ON}}, true, "", false},
		"twice": {[]*pb.Mount{root, {Input: 1, Dest: "/a", Selector: "/a", Readonly: true, Output: skip}, {Input: 1, Dest: "/b", Selector: "/a/b", Readonly: true, Output: skip}},
			true, "/a", false},
		"two files": {[]*pb.Mount{root, {Input: 1, Dest: "/b", Selector: "/b", Readonly: true, Output: skip}, {Input: 1, Dest: "/a", Selector: "/a", Readonly: true, Output: skip}},
			true, "/a /b", false},
		"secret":       {[]*pb.Mount{root, {Input: 1, Dest: "/s", MountType: pb.MountType_SECRET}}, false, "", false},
		"tmpfs":        {[]*pb.Mount{root, {Input: 1, Dest: "/t", MountType: pb.MountType_TMPFS}}, false, "", false},
		"of nothing":   {[]*pb.Mount{root, {Input: int64(pb.Empty), Dest: "/t"}}, false, "", false},
		"out of range": {[]*pb.Mount{root, {Input: 2, Dest: "/t"}}, false, "", true},
		"negative":     {[]*pb.Mount{root, {Input: -2, Dest: "/t"}}, false, "", true},
	} {
		deps, err := mountDeps(test.mounts, 2)
		if test.err {
			if err == nil {
				t.Errorf("%s: %v", name, deps)
			}
			continue
		}
		if err != nil || deps[1].content != test.content || selected(deps[1].selections) != test.paths {
			t.Errorf("%s: %+v, want content %v of %q: %v", name, deps[1], test.content, test.paths, err)
		}
	}
}

// TestExecDigest: what counts for the digest of a process, and what does not.
func TestExecDigest(t *testing.T) {
	t.Parallel()
	plain := func() *pb.ExecOp {
		return &pb.ExecOp{Meta: &pb.Meta{Args: []string{"make"}, Cwd: "/"}, Mounts: []*pb.Mount{
			{Dest: "/"}, {Input: 1, Dest: "/src", Selector: "/a"}, {Input: -1, Dest: "/c", MountType: pb.MountType_CACHE, CacheOpt: &pb.CacheOpt{ID: "/c"}},
		}}
	}
	digestOf := func(change func(*pb.ExecOp)) string {
		op := plain()
		change(op)
		got, err := describeExec(op, &pb.Platform{OS: "linux", Architecture: "amd64"}, 2)
		if err != nil {
			t.Fatal(err)
		}
		return got.digest.String()
	}
	want := digestOf(func(*pb.ExecOp) {})
	for name, test := range map[string]struct {
		change func(*pb.ExecOp)
		same   bool
	}{
		"proxy":            {func(op *pb.ExecOp) { op.Meta.ProxyEnv = &pb.ProxyEnv{HttpProxy: "x"} }, true},
		"selector":         {func(op *pb.ExecOp) { op.Mounts[1].Selector = "/b" }, true},
		"arguments":        {func(op *pb.ExecOp) { op.Meta.Args = []string{"make", "all"} }, false},
		"environment":      {func(op *pb.ExecOp) { op.Meta.Env = []string{"A=1"} }, false},
		"network":          {func(op *pb.ExecOp) { op.Network = pb.NetMode_NONE }, false},
		"read-only":        {func(op *pb.ExecOp) { op.Mounts[1].Readonly = true }, false},
		"name of a cache":  {func(op *pb.ExecOp) { op.Mounts[2].CacheOpt.ID = "mine" }, false},
		"sharing of cache": {func(op *pb.ExecOp) { op.Mounts[2].CacheOpt.Sharing = pb.CacheSharingOpt_LOCKED }, false},
	} {
		if got := digestOf(test.change); (got == want) != test.same {
			t.Errorf("%s: %s, without %s", name, got, want)
		}
	}
	// Caches with names are alike, whatever the name.
	named := func(id string) string {
		return digestOf(func(op *pb.ExecOp) { op.Mounts[2].CacheOpt.ID = id })
	}
	if named("mine") != named("yours") || named("build//c") == named("mine") {
		t.Error("the names of caches count")
	}
	address := func(ip string) string {
		return digestOf(func(op *pb.ExecOp) { op.Meta.ExtraHosts = []*pb.HostIP{{Host: "h", IP: ip}} })
	}
	if address("10.0.0.1") != address("10.0.0.2") || address("10.0.0.1") == want {
		t.Error("the addresses of hosts count, or their names do not")
	}
}

// TestFileDeps: an input that an action changes counts as a whole, others by the files that are read.
func TestFileDeps(t *testing.T) {
	t.Parallel()
	byName := &pb.ChownOpt{
		User:  &pb.UserOpt{User: &pb.UserOpt_ByName{ByName: &pb.NamedUserOpt{Name: "u", Input: 1}}},
		Group: &pb.UserOpt{User: &pb.UserOpt_ByName{ByName: &pb.NamedUserOpt{Name: "g", Input: 1}}},
	}
	copied := func(src string) *pb.FileAction {
		return &pb.FileAction{SecondaryInput: 1, Action: &pb.FileAction_Copy{Copy: &pb.FileActionCopy{Src: src, Dest: "/"}}}
	}
	for name, test := range map[string]struct {
		actions []*pb.FileAction
		content bool
		paths   string
	}{
		"copy":          {[]*pb.FileAction{copied("/a")}, true, "/a"},
		"copies":        {[]*pb.FileAction{copied("/b"), copied("/a/c"), copied("/a")}, true, "/a /b"},
		"owner":         {[]*pb.FileAction{{Action: &pb.FileAction_Mkdir{Mkdir: &pb.FileActionMkDir{Path: "/d", Owner: byName}}}}, true, "/etc/group /etc/passwd"},
		"new file":      {[]*pb.FileAction{{Action: &pb.FileAction_Mkfile{Mkfile: &pb.FileActionMkFile{Path: "/f", Owner: byName}}}}, true, "/etc/group /etc/passwd"},
		"symlink":       {[]*pb.FileAction{{Action: &pb.FileAction_Symlink{Symlink: &pb.FileActionSymlink{Oldpath: "/a", Newpath: "/b"}}}}, false, ""},
		"removal":       {[]*pb.FileAction{{Action: &pb.FileAction_Rm{Rm: &pb.FileActionRm{Path: "/a"}}}}, false, ""},
		"it is changed": {[]*pb.FileAction{copied("/a"), {Input: 1, Action: &pb.FileAction_Rm{Rm: &pb.FileActionRm{Path: "/a"}}}}, false, ""},
	} {
		got, err := describeFile(&pb.FileOp{Actions: test.actions}, 2)
		if err != nil || got.deps[0].content || got.deps[1].content != test.content || selected(got.deps[1].selections) != test.paths {
			t.Errorf("%s: %+v, want content %v of %q: %v", name, got, test.content, test.paths, err)
		}
	}
}
