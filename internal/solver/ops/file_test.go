package ops

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/solver"
)

// accounts is an image with users and groups.
func accounts() llb.State {
	return llb.Scratch().File(llb.Mkdir("/etc", 0o755).
		Mkfile("/etc/passwd", 0o644, []byte("root:x:0:0::/:/bin/sh\nann:x:7:8::/:/bin/sh\n")).
		Mkfile("/etc/group", 0o644, []byte("root:x:0:\nstaff:x:9:\n")))
}

// users are the files of accounts.
func users(more map[string]string) map[string]string {
	all := map[string]string{
		"etc":        "d 755 0:0",
		"etc/passwd": "f 644 0:0 root:x:0:0::/:/bin/sh\nann:x:7:8::/:/bin/sh\n", "etc/group": "f 644 0:0 root:x:0:\nstaff:x:9:\n",
	}
	for k, v := range more {
		all[k] = v
	}
	return all
}

func TestFileOperations(t *testing.T) {
	t.Parallel()
	context := map[string][]byte{"src/a.txt": []byte("a"), "src/b.txt": []byte("b"), "src/sub/c.md": []byte("c"), "one": []byte("1")}
	src := llb.Local("context")
	mode := llb.ChmodOpt{Mode: 0o640}
	for name, c := range map[string]struct {
		st    llb.State
		want  map[string]string
		layer int // how many; 0 for one
	}{
		"mkdir":              {st: llb.Scratch().File(llb.Mkdir("/d", 0o711)), want: map[string]string{"d": "d 711 0:0"}},
		"mkdir with parents": {st: llb.Scratch().File(llb.Mkdir("/d/e", 0o711, llb.WithParents(true))), want: map[string]string{"d": "d 711 0:0", "d/e": "d 711 0:0"}},
		"mkfile":             {st: llb.Scratch().File(llb.Mkfile("/f", 0o751, []byte("text"))), want: map[string]string{"f": "f 751 0:0 text"}},
		"symlink":            {st: llb.Scratch().File(llb.Symlink("../f", "/l")), want: map[string]string{"l": "l ../f"}},
		"rm":                 {st: file("a").File(llb.Rm("/a")), want: map[string]string{}, layer: 2},
		"rm of a pattern": {
			st:   llb.Scratch().File(llb.Mkfile("/a1", 0o600, nil).Mkfile("/a2", 0o600, nil).Mkfile("/b", 0o600, nil)).File(llb.Rm("/a*", llb.WithAllowWildcard(true))),
			want: map[string]string{"b": "f 600 0:0 "}, layer: 2,
		},
		"rm of nothing": {st: file("a").File(llb.Rm("/b", llb.WithAllowNotFound(true))), want: map[string]string{"a": "f 600 0:0 a"}, layer: 2},
		"actions on one state": {
			st:   llb.Scratch().File(llb.Mkdir("/d", 0o755).Mkfile("/d/f", 0o600, []byte("1")).Mkfile("/d/f", 0o600, []byte("2")).Mkfile("/g", 0o600, nil).Rm("/g")),
			want: map[string]string{"d": "d 755 0:0", "d/f": "f 600 0:0 2"},
		},
		"copy of a file":      {st: llb.Scratch().File(llb.Copy(src, "/one", "/d/two", &llb.CopyInfo{CreateDestPath: true})), want: map[string]string{"d": "d 755 0:0", "d/two": "f 644 0:0 1"}},
		"copy of a directory": {st: llb.Scratch().File(llb.Copy(src, "/src/sub", "/")), want: map[string]string{"sub": "d 755 0:0", "sub/c.md": "f 644 0:0 c"}},
		"copy of its content": {st: llb.Scratch().File(llb.Copy(src, "/src/sub", "/", &llb.CopyInfo{CopyDirContentsOnly: true})), want: map[string]string{"c.md": "f 644 0:0 c"}},
		"copy of a pattern": {
			st:   llb.Scratch().File(llb.Copy(src, "/src/*.txt", "/d/", &llb.CopyInfo{AllowWildcard: true, CreateDestPath: true})),
			want: map[string]string{"d": "d 755 0:0", "d/a.txt": "f 644 0:0 a", "d/b.txt": "f 644 0:0 b"},
		},
		"copy with patterns": {
			st: llb.Scratch().File(llb.Copy(src, "/src", "/d", &llb.CopyInfo{
				CopyDirContentsOnly: true, IncludePatterns: []string{"*.txt"}, ExcludePatterns: []string{"b.*"},
			})),
			want: map[string]string{"d": "d 755 0:0", "d/a.txt": "f 644 0:0 a"},
		},
		"copy of no match": {
			st:   llb.Scratch().File(llb.Copy(src, "/x*", "/d/", &llb.CopyInfo{AllowWildcard: true, AllowEmptyWildcard: true})),
			want: map[string]string{},
		},
		"copy with a mode":          {st: llb.Scratch().File(llb.Copy(src, "/one", "/one", &llb.CopyInfo{Mode: &mode})), want: map[string]string{"one": "f 640 0:0 1"}},
		"copy with a symbolic mode": {st: llb.Scratch().File(llb.Copy(src, "/one", "/one", &llb.CopyInfo{Mode: &llb.ChmodOpt{ModeStr: "u+x,g-r"}})), want: map[string]string{"one": "f 704 0:0 1"}},
		"copy of another stage": {
			st: file("a").File(llb.Copy(file("b"), "/b", "/c")), want: map[string]string{"a": "f 600 0:0 a", "c": "f 600 0:0 b"}, layer: 2,
		},
		"owner by ID":   {st: llb.Scratch().File(llb.Mkfile("/f", 0o600, nil, llb.WithUIDGID(3, 4))), want: map[string]string{"f": "f 600 3:4 "}},
		"owner by name": {st: accounts().File(llb.Mkfile("/f", 0o600, nil, llb.WithUser("ann"))), want: users(map[string]string{"f": "f 600 7:8 "}), layer: 2},
		"owner and group by name": {
			st: accounts().File(llb.Copy(src, "/one", "/f", llb.WithUser("ann:staff"))), want: users(map[string]string{"f": "f 644 7:9 1"}), layer: 2,
		},
		"user by ID, group by name": {st: accounts().File(llb.Mkdir("/d", 0o700, llb.WithUser("3:staff"))), want: users(map[string]string{"d": "d 700 3:9"}), layer: 2},
		"an unknown owner is root":  {st: accounts().File(llb.Mkfile("/f", 0o600, nil, llb.WithUser("bob:none"))), want: users(map[string]string{"f": "f 600 0:0 "}), layer: 2},
		"an image without users":    {st: file("a").File(llb.Mkfile("/f", 0o600, nil, llb.WithUser("ann"))), want: map[string]string{"a": "f 600 0:0 a", "f": "f 600 0:0 "}, layer: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, context)
			res := r.mustSolve(t, c.st)
			if n := max(c.layer, 1); res.Chain.Len() != n {
				t.Errorf("%d layers, want %d", res.Chain.Len(), n)
			}
			if diff := cmp.Diff(c.want, r.list(t, res)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFileOperationErrors(t *testing.T) {
	t.Parallel()
	src := llb.Local("context")
	wild := &llb.CopyInfo{AllowWildcard: true}
	for name, c := range map[string]struct {
		st   llb.State
		want string
	}{
		"no source":            {llb.Scratch().File(llb.Copy(src, "/no/such", "/")), `failed to compute cache key: "/no/such": not found`},
		"no match":             {llb.Scratch().File(llb.Copy(src, "/d/x*", "/", wild)), `failed to compute cache key: "/d": not found`},
		"a pattern in a file":  {llb.Scratch().File(llb.Copy(src, "/f/x*", "/", wild)), `failed to compute cache key: "/f": not a directory`},
		"of another stage":     {llb.Scratch().File(llb.Copy(file("a"), "/b", "/")), `failed to compute cache key: "/b": not found`},
		"rm of nothing":        {file("a").File(llb.Rm("/b")), "lstat b: file does not exist"},
		"a file as directory":  {file("a").File(llb.Mkfile("/a/b", 0o600, nil)), "not a directory"},
		"a name without image": {llb.Scratch().File(llb.Mkfile("/f", 0o600, nil, llb.WithUser("ann"))), `user or group "ann" is unknown: there is no image to look it up in`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newRig(t, map[string][]byte{"f": nil}).solve(t, c.st)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// TestInvalidFileOperations are what no front end makes.
func TestInvalidFileOperations(t *testing.T) {
	t.Parallel()
	mkfile := func(in, second, out int64) *pb.FileAction {
		return &pb.FileAction{Input: in, SecondaryInput: second, Output: out, Action: &pb.FileAction_Mkfile{Mkfile: &pb.FileActionMkFile{Path: "/f", Timestamp: -1}}}
	}
	for name, c := range map[string]struct {
		actions []*pb.FileAction
		want    string
	}{
		"no action":         {nil, "file operation has no output"},
		"no output":         {[]*pb.FileAction{mkfile(-1, -1, -1)}, "file operation has no output"},
		"the second output": {[]*pb.FileAction{mkfile(-1, -1, 1)}, "file operation has no output 0"},
		"no such input":     {[]*pb.FileAction{mkfile(1, -1, 0)}, "file operation has an invalid input 1"},
		"its own state":     {[]*pb.FileAction{mkfile(-1, 1, 0)}, "file operation has an invalid input 1"},
		"below nothing":     {[]*pb.FileAction{mkfile(-2, -1, 0)}, "file operation has an invalid input -2"},
		"unknown":           {[]*pb.FileAction{{Input: -1, SecondaryInput: -1}}, "file action <nil> is not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			op, err := newFileOp(newRig(t, nil).worker, fileTask(c.actions, &solver.Result{}))
			if err == nil {
				_, err = op.Run(t.Context())
			}
			if err == nil || err.Error() != c.want {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// fileTask is a file operation with solved inputs.
func fileTask(actions []*pb.FileAction, inputs ...*solver.Result) *solver.Task {
	op := &pb.Op{Op: &pb.Op_File{File: &pb.FileOp{Actions: actions}}}
	return &solver.Task{Vertex: &solver.Vertex{Op: op, Name: "file"}, Inputs: inputs}
}

// TestOutputsOfFileOperations: a state that is put out, or used twice, is a layer that the states after it are built on.
func TestOutputsOfFileOperations(t *testing.T) {
	t.Parallel()
	mkfile := func(name string, in, out int64) *pb.FileAction {
		return &pb.FileAction{Input: in, SecondaryInput: -1, Output: out, Action: &pb.FileAction_Mkfile{Mkfile: &pb.FileActionMkFile{Path: name, Mode: 0o600, Timestamp: -1}}}
	}
	r := newRig(t, nil)
	op := fileTask([]*pb.FileAction{mkfile("/a", -1, -1), mkfile("/b", 0, 1), mkfile("/c", 0, 0), mkfile("/d", 2, 2)}).Vertex.Op
	var outs []*solver.Result
	for i := range 3 {
		res, err := r.Solve(t.Context(), output(t, op, i))
		if err != nil {
			t.Fatal(err)
		}
		outs = append(outs, res)
	}
	for i, want := range []map[string]string{
		{"a": "f 600 0:0 ", "c": "f 600 0:0 "}, {"a": "f 600 0:0 ", "b": "f 600 0:0 "}, {"a": "f 600 0:0 ", "c": "f 600 0:0 ", "d": "f 600 0:0 "},
	} {
		if diff := cmp.Diff(want, r.list(t, outs[i])); diff != "" {
			t.Errorf("output %d: %s", i, diff)
		}
	}
	if a, b := outs[0].Chain.DiffIDs()[0], outs[1].Chain.DiffIDs()[0]; a != b {
		t.Errorf("the state that both use is %s and %s", a, b)
	}
}

func TestTimesOfFiles(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	res := r.mustSolve(t, llb.Scratch().File(llb.Mkfile("/f", 0o600, nil, llb.WithCreatedTime(time.Unix(5, 0)))))
	v, err := r.View(t.Context(), res)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := v.Lstat(t.Context(), "f"); err != nil || e.ModTime.Unix() != 5 {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestNamesOfOperations(t *testing.T) {
	t.Parallel()
	kinds := newRig(t, nil).worker.Kinds()
	for want, st := range map[string]llb.State{
		"mkdir /d, mkfile /f, symlink /l -> x, rm /f": llb.Scratch().File(llb.Mkdir("/d", 0o755).Mkfile("/f", 0o600, nil).Symlink("x", "/l").Rm("/f")),
		"copy /a /b":                           llb.Scratch().File(llb.Copy(file("a"), "/a", "/b")),
		"merge (mkfile /a, mkfile /b)":         llb.Merge([]llb.State{file("a"), file("b")}),
		"diff":                                 llb.Diff(file("a"), file("b")),
		"echo a b":                             llb.Scratch().Run(llb.Args([]string{"echo", "a b"})).Root(),
		"docker-image://docker.io/library/x:1": llb.Image("x:1"),
		"https://xxxxx:xxxxx@host/f":           llb.HTTP("https://u:pw@host/f"),
	} {
		var mu sync.Mutex
		var seen []string
		r := newRig(t, nil)
		s := solver.New(solver.Options{Store: r.store, Layers: r.worker.Layers, Kinds: kinds, Events: func(st *solver.Status) {
			mu.Lock()
			defer mu.Unlock()
			for _, v := range st.Vertexes {
				seen = append(seen, v.Name)
			}
		}})
		def, err := st.Marshal(t.Context(), llb.LinuxAmd64)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.Solve(canceled(t), def.ToPB())
		if len(seen) == 0 || !slices.Contains(seen, want) {
			t.Errorf("%q, want %q", seen, want)
		}
	}
}

func TestCacheFollowsContent(t *testing.T) {
	t.Parallel()
	first := newRig(t, map[string][]byte{"a": []byte("one"), "unused": []byte("1")})
	st := llb.Scratch().File(llb.Copy(llb.Local("context"), "/a", "/a"))
	one := first.mustSolve(t, st).Chain.Links()[0]
	// The same selection has the same result, its time of making included; another content has another.
	again := rigOn(t, first.store, map[string][]byte{"a": []byte("one"), "unused": []byte("2")}, nil).mustSolve(t, st).Chain.Links()[0]
	if again != one {
		t.Errorf("%+v, want %+v", again, one)
	}
	other := rigOn(t, first.store, map[string][]byte{"a": []byte("two")}, nil).mustSolve(t, st).Chain.Links()[0]
	if other.DiffID == one.DiffID {
		t.Errorf("%+v", other)
	}
}
