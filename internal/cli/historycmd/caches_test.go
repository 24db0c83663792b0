package historycmd

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/history"
)

// cached is a store with a build whose steps were not in a remote cache, and one that is interrupted.
func cached(t *testing.T) *commandtest.Mica {
	t.Helper()
	m := commandtest.New(t)
	builds := history.Open(m.Store)
	started := time.Now().Add(-time.Hour)
	miss := func(c ...history.Cause) []history.CacheMiss {
		return []history.CacheMiss{{Cache: "r.example/c", Causes: c}}
	}
	copied := &history.Step{
		Vertex: "sha256:copy", Name: "[1/2] COPY a /", Line: 2, State: history.StepRan, Started: started, Completed: started.Add(time.Second), Size: 2000, Layer: digest.FromString("layer"),
		Misses: miss(history.Cause{Kind: history.File, Name: "a", Change: history.Added, New: digest.FromString("1").String(), NewSize: 1}),
	}
	built := &history.Step{
		Vertex: "sha256:run", Name: "[2/2] RUN make", Line: 3, State: history.StepRan, Started: started, Completed: started.Add(time.Second),
		Inputs: []digest.Digest{copied.Vertex}, Misses: miss(history.Cause{Kind: history.Result, Step: copied.Vertex}),
	}
	b := &history.Build{
		Ref: "ab1", Line: "line", Context: "/src/app", Started: started, Completed: started.Add(time.Minute), Steps: []*history.Step{copied, built},
		Caches: []history.UnreadCache{{Name: "r.example/gone", Error: "not found"}},
	}
	w, err := builds.Begin(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	b.Status = history.Completed
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestWhyNotInCache: the story of steps that a remote cache did not have, for people and for scripts.
func TestWhyNotInCache(t *testing.T) {
	t.Parallel()
	m := cached(t)
	got := m.Run(commands, "why")
	want := `Build ab1 of app, about an hour ago: 2 steps, 0 cached
Cache r.example/gone was not read: not found

[1/2] COPY a /
  not in cache r.example/c:
    a added
      sha256:6b86b273ff34, 1B

[2/2] RUN make
  not in cache r.example/c:
    [1/2] COPY a / gave another result
    from the start: a added
`
	if got.Stdout != want || got.Err != nil {
		t.Errorf("%s, %v\nwant %s", got.Stdout, got.Err, want)
	}
	if got := m.Run(commands, "why", "--exit-code"); commandtest.Text(got.Err) != "exit code 1" {
		t.Errorf("%v", got.Err)
	}
	var res struct {
		UnreadCaches []history.UnreadCache
		Steps        []struct {
			Name        string
			CacheMisses []struct {
				Cache         string
				Causes, Roots []history.Cause
			}
		}
	}
	got = m.Run(commands, "why", "--format", "json")
	if err := errors.Join(got.Err, json.Unmarshal([]byte(got.Stdout), &res)); err != nil || len(res.Steps) != 2 || len(res.UnreadCaches) != 1 {
		t.Fatalf("%v, %s", err, got.Stdout)
	}
	for _, s := range res.Steps {
		if len(s.CacheMisses) != 1 || s.CacheMisses[0].Cache != "r.example/c" || len(s.CacheMisses[0].Roots) != 1 || s.CacheMisses[0].Roots[0].Name != "a" {
			t.Errorf("%+v", s)
		}
	}
}

// TestNotInCacheElsewhere: the other commands say it too.
func TestNotInCacheElsewhere(t *testing.T) {
	t.Parallel()
	m := cached(t)
	for args, want := range map[string]string{
		"builds inspect":                            "[1/2] COPY a /  ran  1.0s  2kB  not in cache r.example/c: a added\n",
		"builds logs":                               "not in cache r.example/c: [1/2] COPY a / gave another result",
		"why --cost":                                "[1/2] COPY a /  1 of 1  1.0s  2kB  0B\n",
		"builds ls --format json":                   `"Ref":"ab1"`,
		"builds ls --no-trunc":                      "ab1  app  Completed",
		"why --format {{.Build}}":                   "ab1\n",
		"why 3":                                     "[2/2] RUN make\n",
		"why --format {{.Caches}}":                  "[{r.example/gone not found}]\n",
		"builds inspect ab":                         "Build:  ab1\n",
		"builds trace":                              `"[2/2] RUN make"`,
		"why --cost --format json":                  `"size":2000`,
		"why --cost ^0 make --format {{len.Steps}}": "",
	} {
		got := m.Run(commands, strings.Fields(args)...)
		if want == "" {
			if got.Err == nil {
				t.Errorf("%s: no error", args)
			}
			continue
		}
		if text := commandtest.Columns(got.Stdout); !strings.Contains(text, want) && !strings.Contains(got.Stdout, want) || got.Err != nil {
			t.Errorf("%s: %s, %v; want %q", args, got.Stdout, got.Err, want)
		}
	}
}

// TestRunningBuild: one that runs, and one whose process has died, are shown as such.
func TestRunningBuild(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	builds := history.Open(m.Store)
	b := &history.Build{Ref: "run1", Line: "line", Context: "/src/app", Started: time.Now().Add(-90 * time.Second)}
	w, err := builds.Begin(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	if got := commandtest.Columns(m.Run(commands, "builds", "ls").Stdout); !strings.Contains(got, "run1  app  Running  About a minute ago  1m 30s+\n") {
		t.Errorf("%s", got)
	}
	for args, want := range map[string]string{
		"builds export":      "the store remembers no build that has ended",
		"builds export run1": "build run1 is running: it can be exported when it has ended",
		"builds rm run1":     "build run1 cannot be removed: it is running",
	} {
		if got := m.Run(commands, strings.Fields(args)...); commandtest.Text(got.Err) != want {
			t.Errorf("%s: %v, want %q", args, got.Err, want)
		}
	}
	b.Status = history.Failed
	b.Error = "exit code: 1"
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	if got := commandtest.Columns(m.Run(commands, "builds", "inspect").Stdout); !strings.Contains(got, "Status:  Error\nError:  exit code: 1\n") {
		t.Errorf("%s", got)
	}
}
