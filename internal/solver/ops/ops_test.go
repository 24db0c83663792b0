package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// rig is a solver with the operations of this package, on a store.
type rig struct {
	*solver.Solver
	worker *Worker
	store  *store.Store

	mu     sync.Mutex
	output strings.Builder // of steps
}

func (r *rig) events(st *solver.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range st.Logs {
		r.output.Write(l.Data)
	}
}

// said returns the output of all steps.
func (r *rig) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.output.String()
}

// newRig returns a rig with an empty store; files are its local source "context".
func newRig(t testing.TB, files map[string][]byte) *rig {
	t.Helper()
	return rigOn(t, newStore(t), files, nil)
}

func newStore(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// rigOn is newRig with a store and a change of the options.
func rigOn(t testing.TB, s *store.Store, files map[string][]byte, change func(*Options)) *rig {
	t.Helper()
	host, err := sandbox.NewHost(s, "")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Store: s, Layers: layer.New(s), Host: host,
		Locals: map[string]Local{"context": func(view.DirOptions) (view.View, error) { return view.Files(files), nil }},
	}
	if change != nil {
		change(&o)
	}
	w := New(o)
	t.Cleanup(func() {
		if err := errors.Join(w.Close(), host.Close()); err != nil {
			t.Error(err)
		}
	})
	r := &rig{worker: w, store: s}
	r.Solver = solver.New(solver.Options{Store: s, Layers: o.Layers, Kinds: w.Kinds(), Events: r.events})
	return r
}

// solve returns the result of a state.
func (r *rig) solve(t testing.TB, st llb.State) (*solver.Result, error) {
	t.Helper()
	def, err := st.Marshal(t.Context(), llb.LinuxAmd64)
	if err != nil {
		t.Fatal(err)
	}
	return r.Solve(t.Context(), def.ToPB())
}

// mustSolve is solve without an error.
func (r *rig) mustSolve(t testing.TB, st llb.State) *solver.Result {
	t.Helper()
	res, err := r.solve(t, st)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// list returns the entries of a result by their paths, as type, permissions, owner and content or target.
func (r *rig) list(t testing.TB, res *solver.Result) map[string]string {
	t.Helper()
	v, err := r.View(t.Context(), res)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	var walk func(dir string)
	walk = func(dir string) {
		entries, err := v.ReadDir(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			text := fmt.Sprintf("%o %d:%d", e.Mode, e.UID, e.GID)
			switch {
			case e.IsDir():
				text = "d " + text
				walk(e.Path)
			case e.Type == view.TypeSymlink:
				text = "l " + e.Linkname
			default:
				text = "f " + text + " " + readAll(t, v, e.Path)
			}
			all[e.Path] = text
		}
	}
	walk(".")
	return all
}

// readAll returns the content of a file.
func readAll(t testing.TB, v view.View, name string) string {
	t.Helper()
	f, err := v.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestRefusesByName(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
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
		if _, err := r.solve(t, st); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// TestFaultIsAnError: a panic in an operation fails the graph, and neither ends the process nor leaves others waiting.
func TestFaultIsAnError(t *testing.T) {
	t.Parallel()
	r := rigOn(t, newStore(t), nil, func(o *Options) {
		o.Image = func(context.Context, string) (*image.Image, error) { panic("a fault") }
	})
	var fault *crash.Error
	for range 2 {
		_, err := r.solve(t, llb.Merge([]llb.State{llb.Image("x"), llb.Image("x"), llb.Image("y")}))
		if !errors.As(err, &fault) || !strings.Contains(err.Error(), "internal error: a fault") {
			t.Errorf("%v", err)
		}
	}
}

// canceled returns a context that has ended.
func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// output is a definition whose result is an output of an operation without inputs.
func output(t *testing.T, op *pb.Op, index int) *pb.Definition {
	t.Helper()
	raw, err := op.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	end, err := (&pb.Op{Inputs: []*pb.Input{{Digest: digest.FromBytes(raw).String(), Index: int64(index)}}}).MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	return &pb.Definition{Def: [][]byte{raw, end}}
}

func kindOf(kinds solver.Kinds, op *pb.Op) *solver.Kind { return kinds[reflect.TypeOf(op.Op)] }
