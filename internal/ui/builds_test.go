package ui

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/history"
)

// steps are those of a build: a base, a copy that ran because of a file, and a command that ran because of the copy.
func steps(started time.Time) []*history.Step {
	from := &history.Step{Vertex: "sha256:from", Name: "[1/3] FROM x", State: history.StepCached, Started: started, Completed: started}
	copied := &history.Step{
		Vertex: "sha256:copy", Name: "[2/3] COPY a /", Line: 2, Inputs: []digest.Digest{from.Vertex}, State: history.StepRan, Started: started, Completed: started.Add(time.Second),
		Causes: []history.Cause{{Kind: history.File, Name: "a", Change: history.Content, Old: digest.FromString("1").String(), New: digest.FromString("2").String(), OldSize: 1, NewSize: 2000}},
	}
	run := &history.Step{
		Vertex: "sha256:run", Name: "[3/3] RUN make", Line: 3, Inputs: []digest.Digest{copied.Vertex}, Started: started.Add(time.Second),
		State: history.StepFailed, Error: "at https://u:hunter2@host/", Completed: started.Add(2 * time.Second), Causes: []history.Cause{{Kind: history.Result, Step: copied.Vertex}},
	}
	return []*history.Step{from, copied, run}
}

// TestBuild: a build in the words of mica why, without credentials.
func TestBuild(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	old := &history.Build{Ref: "old", Started: time.Now().Add(-time.Hour)}
	l.end(l.begin(old), old, history.Completed)
	started := time.Now().Add(-time.Minute).UTC()
	b := &history.Build{Ref: "new", Started: started, Context: "/src/app", Target: "prod", Names: []string{"app"}, Steps: steps(started), Text: "FROM x\nCOPY a /\nRUN make\n", Error: "see https://u:hunter2@host/"}
	w := l.begin(b)
	for _, text := range []string{"one\n", "https://u:hunter2@host/ \x1b[31mtwo\n"} {
		if err := w.Log(history.Log{Vertex: "sha256:run", Stream: 2, Time: started, Data: []byte(text)}); err != nil {
			t.Fatal(err)
		}
	}
	l.end(w, b, history.Failed)

	var list struct{ Builds []buildRow }
	l.get("builds", &list)
	if len(list.Builds) != 2 || list.Builds[0].Ref != "new" || list.Builds[0].Name != "app (prod)" || list.Builds[0].Steps != 3 || list.Builds[0].Cached != 1 || list.Builds[0].Status != history.Failed {
		t.Errorf("%+v", list.Builds)
	}
	var p buildPage
	l.get("build?build=new", &p)
	if p.Older != "old" || len(p.StepList) != 3 || p.Text != b.Text {
		t.Fatalf("%+v", p)
	}
	copied, run := p.StepList[1], p.StepList[2]
	if copied.Because != "a changed" || len(copied.Causes) != 1 || copied.Causes[0].Detail != "sha256:6b86b273ff34, 1B → sha256:d4735e3a265e, 2kB" || copied.Roots != "" || len(copied.Inputs) != 1 {
		t.Errorf("%+v", copied)
	}
	if run.Because != "[2/3] COPY a / gave another result" || run.Roots != "a changed" || run.Causes[0].Step == nil || *run.Causes[0].Step != 1 || run.Line != 3 {
		t.Errorf("%+v", run)
	}
	var log logPart
	l.get("log?build=new", &log)
	if len(log.Log) != 2 || log.Log[0].Text != "one\n" || log.Log[0].Step != 2 || log.Log[0].Stream != 2 || log.More {
		t.Errorf("%+v", log)
	}
	raw, _ := json.Marshal([]any{p, log, list})
	if strings.Contains(string(raw), "hunter2") {
		t.Errorf("credentials: %s", raw)
	}
	l.fails("build", http.StatusBadRequest)
	l.fails("build?build=nothing", http.StatusNotFound)
	l.fails("log?build=nothing", http.StatusNotFound)
	l.fails("log?build=new&from=x", http.StatusBadRequest)
	l.fails("watch?build=nothing", http.StatusNotFound)
}

// TestCosts: what the steps have cost in all builds of a line; a cached step has the size of the layer that it had.
func TestCosts(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	made := l.write("a=12345")
	for i, state := range []history.State{history.StepRan, history.StepCached} {
		b := &history.Build{Ref: fmt.Sprint("b", i), Started: time.Now().Add(time.Duration(i-2) * time.Hour).UTC()}
		step := &history.Step{Vertex: "sha256:run", Name: "[2/2] RUN make", Line: 2, State: state, Started: b.Started, Completed: b.Started.Add(3 * time.Second), Output: "sha256:chain"}
		if state == history.StepRan {
			step.Layer, step.Size = made.DiffID, made.Size
		}
		b.Steps = []*history.Step{{Vertex: "sha256:from", Name: "[1/2] FROM x", Source: &history.Source{}}, step}
		l.end(l.begin(b), b, history.Completed)
	}
	var p buildPage
	l.get("build?build=b1", &p)
	if got := p.StepList[1]; p.StepList[0].Cost != nil || got.Size != 5 || got.Cost == nil || got.Cost.Ran != 1 || got.Cost.Had != 2 || got.Cost.Time != 3*time.Second || got.Cost.Size != 5 {
		t.Errorf("%+v %+v", got, got.Cost)
	}
}

// TestRemoveBuild: a build that has ended is removed, one that runs is not.
func TestRemoveBuild(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	b := &history.Build{Ref: "done"}
	l.end(l.begin(b), b, history.Completed)
	w := l.begin(&history.Build{Ref: "runs"})
	defer func() { _ = w.End() }()
	if status, text := l.post("builds/remove", `{"build":"done"}`); status != http.StatusOK || !strings.Contains(text, "done") {
		t.Errorf("%d %s", status, text)
	}
	for body, want := range map[string]int{`{"build":"runs"}`: 500, `{"build":"nothing"}`: 404, `{}`: 400, `{"build":""}`: 400, `{`: 400, `{"x":1}`: 400, ``: 400} {
		if status, text := l.post("builds/remove", body); status != want {
			t.Errorf("%s: %d %s, want %d", body, status, text, want)
		}
	}
	if list, err := l.builds.List(); err != nil || len(list) != 1 {
		t.Errorf("%v %v", list, err)
	}
}

// TestWatch: who watches a build sees its steps and output as they come, and its end.
func TestWatch(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	b := &history.Build{Ref: "runs"}
	w := l.begin(b)
	res, err := http.DefaultClient.Do(l.request(http.MethodGet, "api/watch?build=runs", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if got := res.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("type %s", got)
	}
	events := bufio.NewScanner(res.Body)
	events.Buffer(nil, 1<<20)
	next := func(into any) string {
		t.Helper()
		name := ""
		for events.Scan() {
			if text, ok := strings.CutPrefix(events.Text(), "event: "); ok {
				name = text
			}
			if data, ok := strings.CutPrefix(events.Text(), "data: "); ok {
				if err := json.Unmarshal([]byte(data), into); err != nil {
					t.Fatal(err)
				}
				return name
			}
		}
		t.Fatalf("the events ended: %v", events.Err())
		return ""
	}
	var p buildPage
	if name := next(&p); name != "build" || p.Status != history.Running || len(p.StepList) != 0 {
		t.Errorf("%s %+v", name, p)
	}
	step := &history.Step{Vertex: "sha256:run", Name: "RUN make", Started: time.Now().UTC()}
	b.Steps = append(b.Steps, step)
	if err := w.Update("FROM x\n", step); err != nil {
		t.Fatal(err)
	}
	if name := next(&p); name != "build" || len(p.StepList) != 1 || p.StepList[0].Name != "RUN make" || p.Text != "FROM x\n" {
		t.Errorf("%s %+v", name, p)
	}
	if err := w.Log(history.Log{Vertex: step.Vertex, Stream: 1, Data: []byte("making\n")}); err != nil {
		t.Fatal(err)
	}
	var log logPart
	if name := next(&log); name != "log" || len(log.Log) != 1 || log.Log[0].Text != "making\n" || log.Log[0].Step != 0 {
		t.Errorf("%s %+v", name, log)
	}
	step.State = history.StepRan
	l.end(w, b, history.Completed)
	if name := next(&p); name != "build" || p.Status != history.Completed || p.StepList[0].State != history.StepRan {
		t.Errorf("%s %+v", name, p)
	}
	if name := next(&struct{}{}); name != "end" {
		t.Errorf("%s at the end", name)
	}
	for events.Scan() {
		if events.Text() != "" {
			t.Errorf("after the end: %s", events.Text())
		}
	}
}
