package historycmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/history"
)

// ended is a build with a step in each state.
func ended(started time.Time) *history.Build {
	step := func(name string, state history.State, edit func(*history.Step)) *history.Step {
		s := &history.Step{Vertex: digest.FromString(name), Name: name, State: state, Started: started, Completed: started.Add(2 * time.Second)}
		edit(s)
		return s
	}
	same := func(*history.Step) {}
	return &history.Build{
		Ref: "ref", Line: "line", Context: "/src/app", Dockerfile: "/src/app/dev.Dockerfile", Target: "prod", Platforms: []string{"linux/amd64", "linux/arm64"},
		Names: []string{"app:1", "app:2"}, Args: map[string]string{"B": "2", "A": "1"}, Started: started, Completed: started.Add(90 * time.Second), Status: history.Failed, Error: "exit code: 3",
		Steps: []*history.Step{
			step("FROM a", history.StepCached, same),
			step("COPY a /", history.StepRan, func(s *history.Step) {
				s.Layer, s.Size, s.Causes = "sha256:l", 1500, []history.Cause{{Kind: history.Command}}
			}),
			step("RUN fails", history.StepFailed, func(s *history.Step) {
				s.Error, s.Causes = "exit code: 3", []history.Cause{{Kind: history.Failure}}
			}),
			step("RUN stopped", history.StepCanceled, func(s *history.Step) { s.Error = "context canceled" }),
			step("RUN runs", "", func(s *history.Step) { s.Completed = time.Time{} }),
			step("RUN waits", "", func(s *history.Step) { s.Started, s.Completed = time.Time{}, time.Time{} }),
		},
	}
}

// TestReplay: the events of a recorded build are those of its progress: a step begins, says why, writes, and ends. One that was not reached
// has none.
func TestReplay(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	builds := history.Open(m.Store)
	b := ended(time.Now())
	w, err := builds.Begin(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range []string{"one\n", "two\n"} {
		if err := w.Log(history.Log{Vertex: b.Steps[2].Vertex, Stream: i + 1, Data: []byte(text)}); err != nil {
			t.Fatal(err)
		}
	}
	names := map[digest.Digest]string{}
	for _, s := range b.Steps {
		names[s.Vertex] = s.Name
	}
	var got []string
	err = replay(builds, b, func(st *bkclient.SolveStatus) {
		for _, v := range st.Vertexes {
			got = append(got, fmt.Sprintf("%s: begun %t, ended %t, cached %t, %q", v.Name, v.Started != nil, v.Completed != nil, v.Cached, v.Error))
		}
		for _, l := range st.Logs {
			got = append(got, fmt.Sprintf("%s: %d %q", names[l.Vertex], l.Stream, l.Data))
		}
		for _, s := range st.Statuses {
			got = append(got, fmt.Sprintf("%s: %s", names[s.Vertex], s.Name))
		}
	})
	want := []string{
		`FROM a: begun true, ended false, cached false, ""`, `FROM a: begun true, ended true, cached true, ""`,
		`COPY a /: begun true, ended false, cached false, ""`, "COPY a /: 2 \"because the instruction changed\\n\"", `COPY a /: begun true, ended true, cached false, ""`,
		`RUN fails: begun true, ended false, cached false, ""`, "RUN fails: 2 \"because it failed the last time\\n\"", `RUN fails: 1 "one\n"`, `RUN fails: 2 "two\n"`,
		`RUN fails: begun true, ended true, cached false, "exit code: 3"`,
		`RUN stopped: begun true, ended false, cached false, ""`, `RUN stopped: begun true, ended true, cached false, "context canceled"`,
		`RUN runs: begun true, ended false, cached false, ""`,
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v\n%s\nwant\n%s", err, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestInspectPage: a build as a page: what it is, how it ended, its arguments by their names, and each step.
func TestInspectPage(t *testing.T) {
	t.Parallel()
	started := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	b := ended(started)
	b.Steps[1].Misses = []history.CacheMiss{{Cache: "r.example/c", Causes: []history.Cause{{Kind: history.NoStep}}}}
	b.Steps[0].Name = "FROM " + strings.Repeat("long", 20)
	var out bytes.Buffer
	printBuild(&out, b)
	want := `Name:  app/dev.Dockerfile (prod)
Build:  ref
Context:  /src/app
Dockerfile:  /src/app/dev.Dockerfile
Target:  prod
Platforms:  linux/amd64, linux/arm64
Names:  app:1, app:2

Status:  Error
Error:  exit code: 3
Started:  2026-01-02 03:04:05
Duration:  1m 30s
Build Steps:  4/6 (25% cached)

BUILD ARGUMENT  VALUE
A  1
B  2

STEP  STATUS  DURATION  SIZE  CAUSE
FROM longlonglonglonglonglonglonglonglonglonglonglonglonglo…  cached
COPY a /  ran  2.0s  1.5kB  the instruction changed; not in cache r.example/c: no step in it has this definition
RUN fails  failed  2.0s  it failed the last time
RUN stopped  canceled
RUN runs  not reached
RUN waits  not reached
`
	if got := commandtest.Columns(out.String()); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	out.Reset()
	printBuild(&out, &history.Build{Ref: "ref", Context: "-", Status: history.Interrupted, Started: started})
	want = "Name:  -\nBuild:  ref\nContext:  -\n\nStatus:  Interrupted\nStarted:  2026-01-02 03:04:05\nDuration:  0.0s\nBuild Steps:  0/0\n\nSTEP  STATUS  DURATION  SIZE  CAUSE\n"
	if got := commandtest.Columns(out.String()); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestTraceOfStates: a span for each step that has ended, with its error and its cause; the same ids whenever it is asked for.
func TestTraceOfStates(t *testing.T) {
	t.Parallel()
	b := ended(time.Unix(100, 5))
	var out, again bytes.Buffer
	if err := errors.Join(writeTrace(&out, b), writeTrace(&again, b)); err != nil || out.String() != again.String() {
		t.Fatalf("%v, or another trace", err)
	}
	var data traceData
	if err := json.Unmarshal(out.Bytes(), &data); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range data.ResourceSpans[0].ScopeSpans[0].Spans {
		line := fmt.Sprintf("%s: %s to %s, %d %s", s.Name, s.Start, s.End, s.Status.Code, s.Status.Message)
		for _, a := range s.Attributes {
			if a.Key != "vertex" {
				line += ", " + a.Key + " " + a.Value.String
			}
		}
		got = append(got, line)
	}
	want := []string{
		"build app/dev.Dockerfile (prod): 100000000005 to 190000000005, 2 exit code: 3, build.ref ref, build.status Error",
		"FROM a: 100000000005 to 102000000005, 0 , step.status cached",
		"COPY a /: 100000000005 to 102000000005, 0 , step.status ran, step.cause because the instruction changed",
		"RUN fails: 100000000005 to 102000000005, 2 exit code: 3, step.status failed, step.cause because it failed the last time",
		"RUN stopped: 100000000005 to 102000000005, 2 context canceled, step.status canceled",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
