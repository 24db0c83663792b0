package solver

import (
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/redact"
)

// Status is BuildKit's progress event, which its display understands.
type Status = client.SolveStatus

// Events receives progress. It may be called from several goroutines at once.
type Events func(*Status)

// announce shows every vertex of a graph before any starts.
func (s *Solver) announce(g *graph) {
	st := &Status{}
	var add func(v *Vertex)
	seen := map[digest.Digest]bool{}
	add = func(v *Vertex) {
		if seen[v.Digest] {
			return
		}
		seen[v.Digest] = true
		for _, in := range v.Inputs {
			add(in.Vertex)
		}
		st.Vertexes = append(st.Vertexes, v.event())
	}
	add(g.head.Vertex)
	s.events(st)
}

func (v *Vertex) event() *client.Vertex {
	ev := &client.Vertex{Digest: v.Digest, Name: v.Name, ProgressGroup: v.Meta.GetProgressGroup()}
	for _, in := range v.Inputs {
		ev.Inputs = append(ev.Inputs, in.Vertex.Digest)
	}
	return ev
}

// tracker reports one vertex's progress.
type tracker struct {
	s       *Solver
	v       *Vertex
	once    sync.Once
	started time.Time
}

func (s *Solver) track(v *Vertex) *tracker { return &tracker{s: s, v: v} }

// start reports that the vertex runs, once.
func (t *tracker) start() {
	t.once.Do(func() {
		t.started = time.Now()
		ev := t.v.event()
		ev.Started = &t.started
		t.s.events(&Status{Vertexes: []*client.Vertex{ev}})
	})
}

func (t *tracker) complete(cached bool, err error) {
	t.start()
	now := time.Now()
	ev := t.v.event()
	ev.Started, ev.Completed, ev.Cached = &t.started, &now, cached
	if err != nil {
		ev.Error = redact.URLs(err.Error())
	}
	t.s.events(&Status{Vertexes: []*client.Vertex{ev}})
}

// activity shows that the vertex does something other than to run, until done is called.
func (t *tracker) activity(name string) (done func()) {
	t.start()
	began := time.Now()
	show := func(completed *time.Time) {
		t.s.events(&Status{Statuses: []*client.VertexStatus{{
			ID: name, Name: name, Vertex: t.v.Digest, Timestamp: time.Now(), Started: &began, Completed: completed,
		}}})
	}
	show(nil)
	return func() {
		now := time.Now()
		show(&now)
	}
}

// output is a writer whose lines the display shows under a vertex.
type output struct {
	t      *tracker
	stream int
}

func (o *output) Write(p []byte) (int, error) {
	o.t.s.events(&Status{Logs: []*client.VertexLog{{
		Vertex: o.t.v.Digest, Stream: o.stream, Data: append([]byte(nil), p...), Timestamp: time.Now(),
	}}})
	return len(p), nil
}

// transferEvery is how often the progress of a transfer is shown.
const transferEvery = 100 * time.Millisecond

// Transfer returns a function that shows how many bytes of a file or directory were received so far, and at the end all of them.
func (t *Task) Transfer(name string) func(bytes int64, done bool) {
	began := time.Now()
	var shown time.Time
	return func(bytes int64, done bool) {
		now := time.Now()
		if !done && now.Sub(shown) < transferEvery {
			return
		}
		shown = now
		st := &client.VertexStatus{
			ID: "transferring " + name + ":", Vertex: t.v.Digest, Name: "transferring", Current: bytes, Timestamp: now, Started: &began,
		}
		if done {
			st.Completed = &now
		}
		t.tracker.s.events(&Status{Statuses: []*client.VertexStatus{st}})
	}
}
