package recorder

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

func start(t *testing.T, s *store.Store, o Options) *Recorder {
	t.Helper()
	o.Started = time.Now()
	if o.Spec == nil {
		o.Spec = &buildspec.Spec{Path: "/context"}
	}
	r, err := Start(context.Background(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// copyStep is a COPY of a file with some content, its vertex and its key.
func copyStep(t *testing.T, content string) (*solver.Vertex, buildcache.Key) {
	t.Helper()
	v := &solver.Vertex{Digest: digest.FromString("copy"), Name: "[1/1] COPY a /", Op: &pb.Op{Op: &pb.Op_File{}}}
	var k buildcache.Key
	if err := k.AddOperation("file", &pb.FileOp{}); err != nil {
		t.Fatal(err)
	}
	files := view.Files(map[string][]byte{"a": []byte(content)})
	if err := k.AddFiles(context.Background(), -1, buildcache.KindSource, "/a", files, "/a", view.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	return v, k
}

// run makes a recorder see a step that runs, and returns what is shown with it.
func run(r *Recorder, v *solver.Vertex, k buildcache.Key, miss solver.Lookup) string {
	now := time.Now()
	r.Events(&solver.Status{Vertexes: []*client.Vertex{{Digest: v.Digest, Name: v.Name}}})
	because := strings.Join(r.Runs(context.Background(), v, k, solver.Miss{Store: miss}), "\n")
	r.Solved(v, &k, nil)
	r.Events(&solver.Status{Vertexes: []*client.Vertex{{Digest: v.Digest, Name: v.Name, Started: &now, Completed: &now}}})
	return because
}

// TestSecondBuildSaysWhy: a step that runs again is explained by the build before.
func TestSecondBuildSaysWhy(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for _, tt := range []struct {
		content, want string
		miss          solver.Lookup
	}{
		{"one", "", solver.NoRecord},
		{"two", "because a changed", solver.NoRecord},
		{"two", "because its record was pruned from the build cache", solver.NoRecord},
		{"two", "because its layers are no longer in the store", solver.NoLayers},
		{"two", "because the cache is not used for it (--no-cache)", solver.NotAsked},
	} {
		r := start(t, s, Options{})
		v, k := copyStep(t, tt.content)
		if got := run(r, v, k, tt.miss); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.content, got, tt.want)
		}
		if err := r.End("sha256:image", nil); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRecord: the options of a build, its steps, their places in the Dockerfile, output and ends are recorded; credentials are not.
func TestRecord(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var passed int
	spec := &buildspec.Spec{
		Path: "https://user:secret@example.com/x.git", Target: "t", Tags: []string{"app"}, BuildArgs: map[string]string{"URL": "http://u:secret@h/", "A": "1", "API_TOKEN": "t-secret", "PIN_KEY": "2"},
		Contexts: map[string]string{"one": "docker-image://x", "two": "https://u:secret@h/x.git"}, Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm64"}},
	}
	r := start(t, s, Options{Spec: spec, Events: func(*solver.Status) { passed++ }})
	image := &solver.Vertex{Digest: "sha256:image", Name: "[1/2] FROM x", Op: &pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: "docker-image://x@sha256:m"}}}}
	local := &solver.Vertex{Digest: "sha256:local", Name: "[internal] load build context", Op: &pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{
		Identifier: "local://context", Attrs: map[string]string{pb.AttrExcludePatterns: `["*.log"]`},
	}}}}
	r.Graph(&pb.Definition{Source: &pb.Source{
		Infos:     []*pb.SourceInfo{{Filename: "Dockerfile", Data: []byte("FROM x\nRUN curl http://u:secret@h/\n")}},
		Locations: map[string]*pb.Locations{"sha256:run": {Locations: []*pb.Location{{Ranges: []*pb.Range{{Start: &pb.Position{Line: 2}}}}}}},
	}})
	config := []byte(`{"config":{"Env":["A=b"],"User":"1","WorkingDir":"/w","Shell":["sh"],"OnBuild":["RUN x"]}}`)
	r.Image("x", "sha256:m", config)
	begun, ended := time.Now(), time.Now()
	r.Events(&solver.Status{Vertexes: []*client.Vertex{{Digest: image.Digest, Name: image.Name}, {Digest: local.Digest, Name: local.Name}}})
	r.Solved(image, nil, []*solver.Result{{Chain: buildcache.NewChain(buildcache.Link{DiffID: "sha256:layer"})}})
	r.Solved(local, nil, []*solver.Result{{}})
	r.Events(&solver.Status{Vertexes: []*client.Vertex{
		{Digest: "sha256:run", Name: "[2/2] RUN x", Inputs: []digest.Digest{image.Digest}, Started: &begun},
		{Digest: "sha256:cached", Name: "cached", Started: &begun, Completed: &ended, Cached: true},
		{Digest: "sha256:cancelled", Name: "cancelled", Started: &begun, Completed: &ended, Error: "x: context canceled"},
		{Digest: "sha256:waits", Name: "waits"},
		{Digest: "sha256:token", Name: "[2/2] RUN curl -H t-secret http://h:2/"},
	}})
	r.Events(&solver.Status{Logs: []*client.VertexLog{{Vertex: "sha256:run", Stream: 2, Data: []byte("output\n"), Timestamp: begun}}})
	r.Events(&solver.Status{Vertexes: []*client.Vertex{{Digest: "sha256:run", Name: "[2/2] RUN x", Started: &begun, Completed: &ended, Error: "exit code: 3"}}})
	if err := r.End("", errors.New("failed to fetch http://u:secret@h/")); err != nil {
		t.Fatal(err)
	}
	builds := history.Open(s)
	b, err := builds.Find("")
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := json.Marshal(b)
	if passed != 4 || b.Status != history.Failed || b.Target != "t" || !slices.Equal(b.Platforms, []string{"linux/arm64"}) || b.Args["A"] != "1" || b.Image != "" {
		t.Errorf("%d events passed on, %s", passed, raw)
	}
	if b.Contexts["one"] != "docker-image://x" || len(b.Contexts) != 2 {
		t.Errorf("contexts %v", b.Contexts)
	}
	if got := string(raw); strings.Contains(got, "secret") {
		t.Errorf("the record has credentials: %s", got)
	}
	states := map[string]history.State{}
	for _, st := range b.Steps {
		states[st.Name] = st.State
	}
	want := map[string]history.State{
		"[1/2] FROM x": "", "[internal] load build context": "", "[2/2] RUN x": history.StepFailed, "cached": history.StepCached,
		"cancelled": history.StepCanceled, "waits": "", "[2/2] RUN curl -H xxxxx http://h:2/": "",
	}
	for name, state := range want {
		if got, ok := states[name]; !ok || got != state {
			t.Errorf("%s: %q, want %q", name, got, state)
		}
	}
	step := b.Step("sha256:run")
	if step == nil || step.Line != 2 || step.Error != "exit code: 3" || len(step.Inputs) != 1 {
		t.Errorf("%+v", step)
	}
	if src := b.Step(image.Digest).Source; src == nil || !slices.Equal(src.Env, []string{"A=b"}) || !slices.Equal(src.Layers, []digest.Digest{"sha256:layer"}) ||
		src.User != "1" || src.Dir != "/w" || !slices.Equal(src.Shell, []string{"sh"}) || !slices.Equal(src.OnBuild, []string{"RUN x"}) {
		t.Errorf("%+v", src)
	}
	if src := b.Step(local.Digest).Source; src == nil || !slices.Equal(src.Excludes, []string{"*.log"}) {
		t.Errorf("%+v", src)
	}
	var output string
	if err := builds.Logs(b, func(l history.Log) error { output += string(l.Data); return nil }); err != nil || output != "output\n" {
		t.Errorf("%q, %v", output, err)
	}
}

// TestWhileItRuns: a build that runs has, after a moment, the Dockerfile and the steps so far. What happens within that moment is one
// update, and a build that ends within it makes none.
func TestWhileItRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		r := start(t, s, Options{})
		r.Graph(&pb.Definition{Source: &pb.Source{Infos: []*pb.SourceInfo{{Data: []byte("FROM x\nRUN y\n")}}}})
		now := time.Now()
		step := func(name string, v client.Vertex) {
			v.Digest, v.Name = digest.FromString(name), name
			r.Events(&solver.Status{Vertexes: []*client.Vertex{&v}})
		}
		size := func() int64 {
			t.Helper()
			running, err := filepath.Glob(s.Path("builds", "*.running"))
			if err != nil || len(running) != 1 {
				t.Fatalf("%q, %v", running, err)
			}
			info, err := os.Stat(running[0])
			if err != nil {
				t.Fatal(err)
			}
			return info.Size()
		}
		begun := size()
		step("FROM x", client.Vertex{Started: &now, Completed: &now, Cached: true})
		step("RUN y", client.Vertex{})
		if got := size(); got != begun {
			t.Errorf("%d bytes are written at once", got-begun)
		}
		time.Sleep(updateEvery)
		synctest.Wait()
		b, err := history.Open(s).Find("")
		if err != nil || b.Status != history.Running || b.Text != "FROM x\nRUN y\n" || len(b.Steps) != 2 || b.Steps[0].State != history.StepCached {
			t.Fatalf("%+v, %v", b, err)
		}
		step("RUN y", client.Vertex{Started: &now})
		time.Sleep(updateEvery)
		synctest.Wait()
		if b, err = history.Open(s).Find(""); err != nil || len(b.Steps) != 2 || b.Steps[1].Started.IsZero() {
			t.Fatalf("%+v, %v", b, err)
		}
		step("RUN y", client.Vertex{Started: &now, Completed: &now})
		if err := r.End("", nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(updateEvery)
		synctest.Wait()
		if b, err = history.Open(s).Find(""); err != nil || b.Status != history.Completed || b.Steps[1].State != history.StepRan {
			t.Fatalf("%+v, %v", b, err)
		}
	})
}

// TestPlan: a plan says what would run and what may, and leaves no build behind.
func TestPlan(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	r := start(t, s, Options{Plan: true})
	v, k := copyStep(t, "one")
	after := &solver.Vertex{Digest: "sha256:after", Name: "[2/2] RUN x", Inputs: []solver.Edge{{Vertex: v}}, Op: &pb.Op{}}
	r.Events(&solver.Status{Vertexes: []*client.Vertex{{Digest: v.Digest, Name: v.Name}, {Digest: after.Digest, Name: after.Name}}})
	r.Runs(context.Background(), v, k, solver.Miss{})
	r.Blocked(after)
	if err := r.End("", nil); err != nil {
		t.Fatal(err)
	}
	steps := r.Build().Steps
	if steps[0].State != history.StepPlanned || steps[1].State != history.StepBlocked || r.Build().Because(steps[1]) != "because after [1/1] COPY a /" {
		t.Errorf("%+v, %+v", steps[0], steps[1])
	}
	if list, err := history.Open(s).List(); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// TestEndAgain: an end that could not be recorded, as on a full disk, is recorded by the next call, as the first one was told it.
func TestEndAgain(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	r := start(t, s, Options{})
	dir := s.Path("builds")
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := r.End("", errors.New("exit code: 3")); err == nil {
		t.Fatal("it is recorded without a directory")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	first := r.End("", errors.New("another error"))
	b, err := history.Open(s).Find("")
	if err != nil || b.Status != history.Failed || b.Error != "exit code: 3" || first == nil {
		t.Errorf("%+v, %v, and the first failure is %v", b, err, first)
	}
	r.Events(&solver.Status{Logs: []*client.VertexLog{{Data: []byte("late")}}})
}

// TestNilRecorder: a build that is not recorded has none.
func TestNilRecorder(t *testing.T) {
	t.Parallel()
	var r *Recorder
	r.Graph(&pb.Definition{Source: &pb.Source{}})
	r.Image("x", "sha256:m", nil)
	if r.Observer() != nil {
		t.Error("the solver has an observer")
	}
}

// BenchmarkCachedRebuild is what records cost a build of which every step is cached: at most 1 ms.
func BenchmarkCachedRebuild(b *testing.B) {
	s, err := store.Open(filepath.Join(b.TempDir(), "store"))
	if err != nil {
		b.Fatal(err)
	}
	const steps = 20
	for b.Loop() {
		r, err := Start(context.Background(), s, Options{Spec: &buildspec.Spec{Path: "/context"}, Started: time.Now()})
		if err != nil {
			b.Fatal(err)
		}
		r.Graph(&pb.Definition{Source: &pb.Source{Infos: []*pb.SourceInfo{{Data: []byte(strings.Repeat("RUN make\n", steps))}}}})
		var vertices []*client.Vertex
		for i := range steps {
			vertices = append(vertices, &client.Vertex{Digest: digest.FromString(string(rune('a' + i))), Name: "[1/20] RUN make"})
		}
		r.Events(&solver.Status{Vertexes: vertices})
		for i, v := range vertices {
			var k buildcache.Key
			k.Add("operation", "exec", string(rune('a'+i)))
			r.Solved(&solver.Vertex{Digest: v.Digest, Name: v.Name, Op: &pb.Op{}}, &k, nil)
			now := time.Now()
			r.Events(&solver.Status{Vertexes: []*client.Vertex{{Digest: v.Digest, Name: v.Name, Started: &now, Completed: &now, Cached: true}}})
		}
		if err := r.End("", nil); err != nil {
			b.Fatal(err)
		}
	}
}
