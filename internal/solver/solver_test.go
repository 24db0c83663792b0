package solver

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// newSolver is a solver of an empty store; files are its local source "context".
func newSolver(t testing.TB, files map[string][]byte) *Solver {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return solverOf(t, s, files)
}

// sweep is one of the build cache alone.
func sweep(t *testing.T, c *Cache) ([]*Record, error) {
	t.Helper()
	w, err := c.store.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	recs, err := c.Sweep(w)
	_, endErr := w.End(t.Context())
	return recs, errors.Join(err, endErr)
}

func solverOf(t testing.TB, s *store.Store, files map[string][]byte) *Solver {
	t.Helper()
	host, err := sandbox.NewHost(s, "")
	if err != nil {
		t.Fatal(err)
	}
	sol := New(Options{
		Store: s, Layers: layer.New(s), Host: host,
		Locals: map[string]Local{"context": func(view.DirOptions) (view.View, error) { return view.Files(files), nil }},
	})
	t.Cleanup(func() {
		if err := sol.Close(); err != nil {
			t.Error(err)
		}
	})
	return sol
}

func solve(t *testing.T, s *Solver, st llb.State) (*Result, error) {
	t.Helper()
	def, err := st.Marshal(t.Context(), llb.LinuxAmd64)
	if err != nil {
		t.Fatal(err)
	}
	return s.Solve(t.Context(), def.ToPB())
}

func read(t *testing.T, s *Solver, r *Result, name string) string {
	t.Helper()
	v, err := s.View(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	f, err := v.Open(t.Context(), name)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(f); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func TestFileOperations(t *testing.T) {
	s := newSolver(t, map[string][]byte{"src/a": []byte("a"), "src/b": []byte("b")})
	src := llb.Local("context")
	st := llb.Scratch().
		File(llb.Mkdir("/d", 0o755).Mkfile("/d/made", 0o600, []byte("made"))).
		File(llb.Copy(src, "/src", "/copied")).
		File(llb.Rm("/d/made").Mkfile("/d/other", 0o600, []byte("other")))
	res, err := solve(t, s, st)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Chain) != 3 {
		t.Errorf("%d layers", len(res.Chain))
	}
	for name, want := range map[string]string{"copied/a": "a", "copied/b": "b", "d/other": "other"} {
		if got := read(t, s, res, name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	if got := read(t, s, res, "d/made"); !strings.Contains(got, "not exist") {
		t.Errorf("what was removed is %q", got)
	}
}

func TestMergeAndDiff(t *testing.T) {
	s := newSolver(t, nil)
	file := func(name string) llb.State {
		return llb.Scratch().File(llb.Mkfile(name, 0o600, []byte(name)))
	}
	base := file("/base")
	grown := base.File(llb.Mkfile("/more", 0o600, []byte("more")))
	merged, err := solve(t, s, llb.Merge([]llb.State{file("/x"), llb.Diff(base, grown)}))
	if err != nil {
		t.Fatal(err)
	}
	if len(merged.Chain) != 2 {
		t.Errorf("%d layers, of two that are joined", len(merged.Chain))
	}
	if got := read(t, s, merged, "more"); got != "more" {
		t.Errorf("more is %q", got)
	}
	if got := read(t, s, merged, "base"); !strings.Contains(got, "not exist") {
		t.Errorf("the difference holds what it is to: %q", got)
	}
}

func TestCacheFollowsContent(t *testing.T) {
	first := newSolver(t, map[string][]byte{"a": []byte("one"), "unused": []byte("1")})
	st := llb.Scratch().File(llb.Copy(llb.Local("context"), "/a", "/a"))
	one, err := solve(t, first, st)
	if err != nil {
		t.Fatal(err)
	}
	// The same selection has the same result, its time of making included; another content has another.
	again, err := solve(t, solverOf(t, first.store, map[string][]byte{"a": []byte("one"), "unused": []byte("2")}), st)
	if err != nil || again.Chain[0] != one.Chain[0] {
		t.Errorf("%+v, want %+v: %v", again.Chain, one.Chain, err)
	}
	other, err := solve(t, solverOf(t, first.store, map[string][]byte{"a": []byte("two")}), st)
	if err != nil || other.Chain[0].DiffID == one.Chain[0].DiffID {
		t.Errorf("%+v: %v", other.Chain, err)
	}
}

func TestDamagedRecordIsAMiss(t *testing.T) {
	s := newSolver(t, nil)
	var k Key
	k.add("operation", "test", "value")
	if err := s.cache.Put(k, "name", []*Result{{Chain: []ChainLink{{DiffID: digest.FromString("l")}}}}); err != nil {
		t.Fatal(err)
	}
	if outs, err := s.cache.Get(k); err != nil || len(outs) != 1 {
		t.Fatalf("%v %v", outs, err)
	}
	path := s.cache.path(k.Digest())
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"empty": {}, "half": data[:len(data)/2], "of another key": bytes.Replace(data, []byte("value"), []byte("other"), 1),
	} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.cache.Get(k); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSweepRemovesDamagedRecords(t *testing.T) {
	s := newSolver(t, nil)
	var bad, sound Key
	bad.add("operation", "test", "value")
	sound.add("operation", "test", "another")
	for _, k := range []Key{bad, sound} {
		if err := s.cache.Put(k, "name", nil); err != nil {
			t.Fatal(err)
		}
	}
	path := s.cache.path(bad.Digest())
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// As one of a mica that makes other keys: it is sound but for its name.
	if err := os.WriteFile(path, bytes.Replace(data, []byte("value"), []byte("other"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	recs, err := sweep(t, s.cache)
	if err != nil || len(recs) != 1 || recs[0].Key != sound.Digest() {
		t.Errorf("%v, %v; want the sound record", recs, err)
	}
	if left, err := os.ReadDir(s.cache.dir); err != nil || len(left) != 1 || left[0].Name() != sound.Digest().Encoded() {
		t.Errorf("left are %v, %v", left, err)
	}
}

// TestKeysDoNotCollide: fields are delimited, so that moving a letter from one to the next makes another key.
func TestKeysDoNotCollide(t *testing.T) {
	keys := map[digest.Digest]string{}
	for _, fields := range [][3]string{{"a", "b", "c"}, {"ab", "", "c"}, {"a", "bc", ""}, {"", "ab", "c"}, {"a", "b1:", "c"}, {"a", "b", "1:c"}} {
		var k Key
		k.add(fields[0], fields[1], fields[2])
		if other, ok := keys[k.Digest()]; ok {
			t.Errorf("%q and %s have one key", fields, other)
		}
		keys[k.Digest()] = strings.Join(fields[:], "|")
	}
}

func TestRefusesByName(t *testing.T) {
	s := newSolver(t, nil)
	run := func(opts ...llb.RunOption) llb.State {
		return llb.Scratch().Run(append([]llb.RunOption{llb.Shlex("true")}, opts...)...).Root()
	}
	for want, st := range map[string]llb.State{
		"failed to load cache key: http://127.0.0.1:1/x: ":                          llb.HTTP("http://127.0.0.1:1/x"),
		"failed to load cache key: failed to fetch remote http://127.0.0.1:1/x.git": llb.Git("http://127.0.0.1:1/x.git", "main"),
		"secret /s: not found: give it with":                                        run(llb.AddSecret("/s")),
		"no SSH key \"x\" forwarded":                                                run(llb.AddSSHSocket(llb.SSHID("x"))),
		"security.insecure is not allowed":                                          run(llb.Security(pb.SecurityMode_INSECURE)),
		"network.host is not allowed":                                               run(llb.Network(pb.NetMode_HOST)),
		"no local source is called":                                                 llb.Scratch().File(llb.Copy(llb.Local("nothing"), "/", "/")),
	} {
		if _, err := solve(t, s, st); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// TestFaultIsAnError: a panic in an operation fails the graph, and neither ends the process nor leaves others waiting.
func TestFaultIsAnError(t *testing.T) {
	s := newSolver(t, nil)
	s.image = func(context.Context, string) (*image.Image, error) { panic("a fault") }
	var fault *crash.Error
	for range 2 {
		_, err := solve(t, s, llb.Merge([]llb.State{llb.Image("x"), llb.Image("x"), llb.Image("y")}))
		if !errors.As(err, &fault) || !strings.Contains(err.Error(), "internal error: a fault") {
			t.Errorf("%v", err)
		}
	}
}

// FuzzParse gives arbitrary bytes for operations of a graph.
func FuzzParse(f *testing.F) {
	def, err := llb.Scratch().File(llb.Mkfile("/a", 0o600, nil)).Marshal(f.Context(), llb.LinuxAmd64)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(def.ToPB().Def[0], def.ToPB().Def[1])
	f.Fuzz(func(_ *testing.T, first, second []byte) {
		_, _ = parse(&pb.Definition{Def: [][]byte{first, second}})
	})
}
