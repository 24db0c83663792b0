package remotecache

import (
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// rootSelector is that of a whole root filesystem.
const rootSelector = "sha256:8a5edab282632443219e051e4ade2d1d5bbc671c781051bf1437897cbdfea0f1"

func TestDescribe(t *testing.T) {
	dev := &pb.ChownOpt{User: &pb.UserOpt{User: &pb.UserOpt_ByName{ByName: &pb.NamedUserOpt{Name: "dev"}}}}
	wildcard := &pb.FileActionCopy{
		Src: "/dir/*.txt", Dest: "/x/", AllowWildcard: true, Mode: -1, Timestamp: -1, CreateDestPath: true, Owner: dev,
	}
	// The digests and selectors are what BuildKit v0.32.2's own operations give (solver/llbsolver/ops, CacheMap).
	for _, c := range []struct {
		name string
		op   *pb.Op
		want digest.Digest
		deps []dep
	}{
		{"run", &pb.Op{Op: &pb.Op_Exec{Exec: &pb.ExecOp{
			Meta: &pb.Meta{
				Args: []string{"/bin/sh", "-c", "make > /out"}, Env: []string{"PATH=/bin"}, Cwd: "/", ProxyEnv: &pb.ProxyEnv{HttpProxy: "http://proxy"},
			},
			Mounts: []*pb.Mount{{Dest: "/"}},
		}}}, "sha256:2a2286005615d8600a9cd41d293b8c3aeec855248bb60c48c8e5f76d9e27171e", []dep{{selector: rootSelector}}},
		{"mounts", &pb.Op{Op: &pb.Op_Exec{Exec: &pb.ExecOp{
			Meta: &pb.Meta{Args: []string{"make"}, Cwd: "/", ExtraHosts: []*pb.HostIP{{Host: "h", IP: "10.0.0.1"}}},
			Mounts: []*pb.Mount{
				{Dest: "/"}, {Input: 1, Dest: "/src", Selector: "/src", Readonly: true, Output: -1},
				{Input: -1, Dest: "/cache", MountType: pb.MountType_CACHE, Output: -1, CacheOpt: &pb.CacheOpt{ID: "mine"}},
			},
		}}}, "sha256:27b1c59ef988800b2855df1549acf2a911c2e981dd55ffaa7ac8c22a7ff9a202", []dep{
			{selector: rootSelector}, {selector: "sha256:56c9e1c4b5360a5b089004396ed37fe3a20f7c4f5954072098039789ba3ab68a", content: true},
		}},
		{"copy", &pb.Op{Op: &pb.Op_File{File: &pb.FileOp{Actions: []*pb.FileAction{
			{Input: 0, SecondaryInput: 1, Output: 0, Action: &pb.FileAction_Copy{Copy: wildcard}},
		}}}}, "sha256:d7d0625f36e15a062011719089f61ab6ccfc36f8801f04c958ec1eb690474172", []dep{
			{}, {selector: "sha256:cc6a4fd938d49204c0bff9decfdd8b3a8a2d4cfc90986717e2c8aa9b28f48bf7", content: true},
		}},
		{"link", &pb.Op{Op: &pb.Op_File{File: &pb.FileOp{Actions: []*pb.FileAction{
			{Input: -1, SecondaryInput: 0, Output: 0, Action: &pb.FileAction_Copy{Copy: &pb.FileActionCopy{Src: "/a", Dest: "/a", Mode: -1}}},
		}}}}, "sha256:bc28ba8ccf0edf7bef52b6a6ee50c6210b4804ab58661e11d3b9fa8945915523", []dep{
			{selector: "sha256:6a50dc8584134c7de537c0052ff6d236bf874355e050c90523e0c5ff2a543a28", content: true},
		}},
		{"merge", &pb.Op{Op: &pb.Op_Merge{Merge: &pb.MergeOp{Inputs: []*pb.MergeInput{{Input: 0}, {Input: 1}}}}},
			"sha256:436287a2dc2ce494f564331be9ea3a9f27ebec398567877043da2f618f33d6c8", []dep{{}, {}}},
		{"diff", &pb.Op{Op: &pb.Op_Diff{Diff: &pb.DiffOp{Lower: &pb.LowerDiffInput{Input: 0}, Upper: &pb.UpperDiffInput{Input: 1}}}},
			"sha256:164ae6dac10aea8de6cb7cda35914a10011485523f807ea840bca3e0ab19d8ff", []dep{{}, {}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.op.Platform = &pb.Platform{OS: "linux", Architecture: "amd64"}
			c.op.Inputs = make([]*pb.Input, len(c.deps))
			before := c.op.CloneVT()
			got, err := describe(c.op)
			if err != nil {
				t.Fatal(err)
			}
			if got.digest != c.want || got.outputs != 1 {
				t.Errorf("digest %s, %d outputs", got.digest, got.outputs)
			}
			for i, d := range got.deps {
				if d.selector != c.deps[i].selector || d.content != c.deps[i].content {
					t.Errorf("input %d: %+v", i, d)
				}
			}
			if !c.op.EqualVT(before) {
				t.Error("the operation was changed")
			}
		})
	}
}

func TestDescribeRefuses(t *testing.T) {
	mount := &pb.ExecOp{Meta: &pb.Meta{}, Mounts: []*pb.Mount{{Dest: "/", Input: 3}}}
	owner := &pb.ChownOpt{User: &pb.UserOpt{User: &pb.UserOpt_ByName{ByName: &pb.NamedUserOpt{Input: 3}}}}
	mkdir := &pb.FileActionMkDir{Owner: owner}
	for _, op := range []*pb.Op{
		{Op: &pb.Op_Exec{Exec: mount}},
		{Op: &pb.Op_File{File: &pb.FileOp{Actions: []*pb.FileAction{{Action: &pb.FileAction_Mkdir{Mkdir: mkdir}}}}}},
		{Op: &pb.Op_Build{}},
		{},
	} {
		if _, err := describe(op); err == nil {
			t.Errorf("%v is described", op)
		}
	}
}

func TestKeys(t *testing.T) {
	op := &pb.Op{Platform: &pb.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, Op: &pb.Op_Source{Source: &pb.SourceOp{}}}
	one, two := digest.FromString("1"), digest.FromString("2")
	keys, err := ImageKeys(op, Image{Roots: []digest.Digest{one, two, one}, Chain: []digest.Digest{one, two}})
	if err != nil || len(keys) != 3 || keys[0] == keys[1] || keys[2] != digest.FromString(one.String()+" "+two.String()).String() {
		t.Errorf("%q, %v", keys, err)
	}
	for url, want := range map[string]string{
		"git://example.test/repo.git#main":           "c0ffee",
		"git://example.test/repo.git#main:sub/./dir": "c0ffee:sub/dir",
	} {
		if key, err := GitKey(&pb.SourceOp{Identifier: url}, "c0ffee", "refs/heads/main"); err != nil || key != want {
			t.Errorf("%s: %q, %v", url, key, err)
		}
	}
	attrs := map[string]string{pb.AttrKeepGitDir: "true", pb.AttrGitSkipSubmodules: "true", pb.AttrGitMTime: "commit"}
	key, err := GitKey(&pb.SourceOp{Identifier: "git://example.test/repo.git#v1:d", Attrs: attrs}, "c0ffee", "refs/tags/v1")
	if want := "c0ffee.git#refs/tags/v1:d(skip-submodules)(mtime=commit)"; err != nil || key != want {
		t.Errorf("%q, %v", key, err)
	}
}
