package historycmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/history"
)

// lab is a store with two builds: abc1, and abd2, in which a file has changed.
func lab(t *testing.T) (*commandtest.Mica, *history.Builds) {
	t.Helper()
	m := commandtest.New(t)
	builds := history.Open(m.Store)
	for i, content := range []string{"one", "two"} {
		id := digest.FromString("copy" + content)
		if err := builds.SaveIngredients(id, func() []history.Ingredient { return []history.Ingredient{{Kind: "platform", Value: content}} }); err != nil {
			t.Fatal(err)
		}
		started := time.Now().Add(time.Duration(i-3) * time.Hour)
		step := func(name string, line int, k digest.Digest, state history.State, causes ...history.Cause) *history.Step {
			return &history.Step{
				Vertex: digest.FromString(name), Name: name, Line: line, Key: k, State: state, Started: started, Completed: started.Add(1500 * time.Millisecond), Causes: causes,
			}
		}
		b := &history.Build{
			Ref: fmt.Sprintf("ab%c%d", 'c'+i, i+1), Line: "line", Context: "/src/app", Target: "prod", Args: map[string]string{"V": content}, Started: started,
			Completed: started.Add(65 * time.Second), Names: []string{"app"}, Image: digest.FromString("image"),
		}
		copied := step("[1/2] COPY a /", 2, id, history.StepRan)
		built := step("[2/2] RUN make", 3, digest.FromString("run"+content), history.StepRan)
		if i == 1 {
			copied.Causes = []history.Cause{{Kind: history.File, Name: "a", Change: history.Content, Old: digest.FromString("1").String(), New: digest.FromString("2").String(), OldSize: 1, NewSize: 2000}}
			built.Causes = []history.Cause{{Kind: history.Result, Step: copied.Vertex}}
		}
		b.Steps = []*history.Step{step("[internal] load build context", 0, "", history.StepCached), copied, built}
		w, err := builds.Begin(context.Background(), b)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Log(history.Log{Vertex: built.Vertex, Stream: 1, Time: started, Data: []byte("making\n")}); err != nil {
			t.Fatal(err)
		}
		b.Status = history.Completed
		if err := w.End(); err != nil {
			t.Fatal(err)
		}
	}
	return m, builds
}

// TestOutput: what the commands print.
func TestOutput(t *testing.T) {
	t.Parallel()
	m, _ := lab(t)
	for args, want := range map[string]string{
		"builds ls":                              "BUILD ID  NAME  STATUS  CREATED AT  DURATION\nabd2  app (prod)  Completed  2 hours ago  1m 5s\nabc1  app (prod)  Completed  3 hours ago  1m 5s\n",
		"builds ls -q":                           "abd2\nabc1\n",
		"builds ls --format {{.Ref}}:{{.Steps}}": "abd2:3 (1 cached)\nabc1:3 (1 cached)\n",
		"builds inspect abc1 --format {{.Ref}}/{{.Args.V}}": "abc1/one\n",
		"builds inspect --format {{.Ref}}":                  "abd2\n",
		"why": `Build abd2 of app (prod), 2 hours ago: 3 steps, 1 cached

[1/2] COPY a /
 a changed
 sha256:6b86b273ff34, 1B → sha256:d4735e3a265e, 2kB

[2/2] RUN make
 [1/2] COPY a / gave another result
 from the start: a changed
`,
		"why --cost": `STEP  RAN  TIME  WRITTEN  CACHE
[1/2] COPY a /  2 of 2  3.0s  0B  0B
[2/2] RUN make  2 of 2  3.0s  0B  0B

RUN make (line 3) ran once because of COPY a / (line 2), 1.5s
`,
		"why --cost ^0 make": "STEP  RAN  TIME  WRITTEN  CACHE\n[2/2] RUN make  2 of 2  3.0s  0B  0B\n\nRUN make (line 3) ran once because of COPY a / (line 2), 1.5s\n",
		"why --cost ^1 --format {{range.Steps}}{{.Ran}}/{{.Builds}};{{end}}": "1/1;1/1;\n",
		"why ^1":                  "Build abc1 of app (prod), 3 hours ago: 3 steps, 1 cached\nNo step ran again: no earlier build of this context, Dockerfile and target is known.\n",
		"why ^0 2":                "Build abd2 of app (prod), 2 hours ago: 3 steps, 1 cached\n\n[1/2] COPY a /\n a changed\n sha256:6b86b273ff34, 1B → sha256:d4735e3a265e, 2kB\n",
		"why MAKE":                "Build abd2 of app (prod), 2 hours ago: 3 steps, 1 cached\n\n[2/2] RUN make\n [1/2] COPY a / gave another result\n from the start: a changed\n",
		"why --format {{.Build}}": "abd2\n",
		"why ^0 context":          "Build abd2 of app (prod), 2 hours ago: 3 steps, 1 cached\nNo step ran again.\n",
	} {
		got := m.Run(commands, strings.Fields(args)...)
		text := commandtest.Columns(got.Stdout)
		if strings.HasPrefix(args, "why") && !strings.Contains(args, "--cost") {
			text = strings.ReplaceAll(strings.ReplaceAll(got.Stdout, "    ", " "), "  ", " ")
		}
		if text != want || got.Err != nil {
			t.Errorf("%s: %q, %v, want %q", args, text, got.Err, want)
		}
	}
}

// commands is a root with both commands.
func commands(app *command.App) *cobra.Command {
	root := &cobra.Command{Use: "mica"}
	root.AddCommand(NewBuildsCommand(app), NewWhyCommand(app))
	return root
}

// TestErrors: names of builds and steps that do not exist, and flags that do not go together.
func TestErrors(t *testing.T) {
	t.Parallel()
	m, _ := lab(t)
	for args, want := range map[string]string{
		"builds inspect nope":            "no such build: nope (mica builds lists them)",
		"builds logs ab":                 "2 builds begin with ab: give more of the ref",
		"builds logs --progress tty":     `invalid progress mode "tty": use plain or rawjson`,
		"builds rm":                      "name the builds to remove, or use --all",
		"builds rm --all abc1":           "name the builds to remove, or use --all",
		"builds rm nope":                 "no such build: nope (mica builds lists them)",
		"builds trace ^9":                "no such build: ^9 (the store remembers 2 builds)",
		"builds inspect --format {{.X}}": `template parsing error: template: :1:2: executing "" at <.X>: can't evaluate field X in type *history.Build`,
		"why nope":                       "no such build: nope (mica builds lists them)",
		"why ^0 nope":                    `build abd2 has no step "nope" (mica builds inspect abd2 lists them)`,
		"why --against nope":             "no such build: nope (mica builds lists them)",
		"why --exit-code ^0":             "exit code 1",
		"why --exit-code ^1":             "",
		"builds export --all abc1":       "--all cannot be used with names of builds",
		"builds export nope":             "no such build: nope (mica builds lists them)",
		"why --cost --exit-code":         "--cost cannot be used with --against and --exit-code",
	} {
		if got := m.Run(commands, strings.Fields(args)...); commandtest.Text(got.Err) != want {
			t.Errorf("%s: %q, want %q", args, commandtest.Text(got.Err), want)
		}
	}
}

// TestAgainst: another build than the one before.
func TestAgainst(t *testing.T) {
	t.Parallel()
	m, _ := lab(t)
	got := m.Run(commands, "why", "--against", "abc1", "^0", "copy", "--format", "json")
	var res struct {
		Against string
		Steps   []struct{ Causes []history.Cause }
	}
	if err := errors.Join(got.Err, json.Unmarshal([]byte(got.Stdout), &res)); err != nil || len(res.Steps) != 1 || res.Against != "abc1" {
		t.Fatalf("%v, %s", err, got.Stdout)
	}
	if c := res.Steps[0].Causes; len(c) != 1 || c[0].Kind != history.Platform || c[0].Old != "one" || c[0].New != "two" {
		t.Errorf("%+v", c)
	}
}

// TestInspect: a build as a page.
func TestInspect(t *testing.T) {
	t.Parallel()
	m, _ := lab(t)
	got := commandtest.Columns(m.Run(commands, "builds", "inspect").Stdout)
	for _, want := range []string{
		"Name:  app (prod)\nBuild:  abd2\nContext:  /src/app\nTarget:  prod\n", "Names:  app\n", "Status:  Completed\n", "Duration:  1m 5s\nBuild Steps:  3/3 (33% cached)\n",
		"BUILD ARGUMENT  VALUE\nV  two\n", "STEP  STATUS  DURATION  SIZE  CAUSE\n[internal] load build context  cached\n[1/2] COPY a /  ran  1.5s  a changed\n",
		"[2/2] RUN make  ran  1.5s  [1/2] COPY a / gave another result\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing:\n%s", want, got)
		}
	}
}

// TestLogs: the progress of a build, with causes and output.
func TestLogs(t *testing.T) {
	t.Parallel()
	m, _ := lab(t)
	got := m.Run(commands, "builds", "logs")
	for _, want := range []string{"[1/2] COPY a /\n", " because a changed\n", " making\n", "DONE 1.5s\n", "[internal] load build context\n", "CACHED\n"} {
		if !strings.Contains(got.Stdout, want) || got.Err != nil {
			t.Errorf("%q is missing (%v):\n%s", want, got.Err, got.Stdout)
		}
	}
	raw := m.Run(commands, "builds", "logs", "--progress", "rawjson", "abc1")
	if n := strings.Count(raw.Stdout, `"vertexes"`); n != 6 || raw.Err != nil {
		t.Errorf("%d events of steps, %v:\n%s", n, raw.Err, raw.Stdout)
	}
}

// TestTrace: a span for the build and one for each step, in the JSON of OTLP.
func TestTrace(t *testing.T) {
	t.Parallel()
	m, _ := lab(t)
	var data struct {
		ResourceSpans []struct {
			ScopeSpans []struct {
				Spans []struct {
					TraceID, SpanID, ParentSpanID, Name, StartTimeUnixNano, EndTimeUnixNano string
				}
			}
		}
	}
	got := m.Run(commands, "builds", "trace")
	if err := errors.Join(got.Err, json.Unmarshal([]byte(got.Stdout), &data)); err != nil {
		t.Fatal(err)
	}
	spans := data.ResourceSpans[0].ScopeSpans[0].Spans
	if len(spans) != 4 || spans[0].Name != "build app (prod)" || spans[0].ParentSpanID != "" {
		t.Fatalf("%+v", spans)
	}
	for _, s := range spans {
		if len(s.TraceID) != 32 || len(s.SpanID) != 16 || s.TraceID != spans[0].TraceID || s.EndTimeUnixNano < s.StartTimeUnixNano {
			t.Errorf("%+v", s)
		}
	}
}

// TestRemove: the builds that are named go, then all.
func TestRemove(t *testing.T) {
	t.Parallel()
	m, builds := lab(t)
	if got := m.Run(commands, "builds", "rm", "^1", "nope"); got.Stdout != "abc1\n" || commandtest.Text(got.Err) != "no such build: nope (mica builds lists them)" {
		t.Errorf("%+v", got)
	}
	if list, err := builds.List(); err != nil || len(list) != 1 || list[0].Ref != "abd2" {
		t.Errorf("%v, %v", list, err)
	}
	if got := m.Run(commands, "builds", "rm", "--all"); got.Err != nil {
		t.Error(got.Err)
	}
	if list, err := builds.List(); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	if got := m.Run(commands, "why"); commandtest.Text(got.Err) != "no such build: ^0 (the store remembers 0 builds)" {
		t.Errorf("%+v", got)
	}
}

// TestBuildName: names of builds as buildx makes them.
func TestBuildName(t *testing.T) {
	t.Parallel()
	for want, b := range map[string]history.Build{
		"app":                {Context: "/src/app/"},
		"app (test)":         {Context: "/src/app", Target: "test", Dockerfile: "Dockerfile"},
		"app/dev.Dockerfile": {Context: "/src/app", Dockerfile: "/x/dev.Dockerfile"},
		"-":                  {Context: "-"},
		"x.git#main":         {Context: "https://example.com/x.git#main"},
	} {
		if got := buildName(&b); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestDistinct: builds of directories with one name are told apart.
func TestDistinct(t *testing.T) {
	t.Parallel()
	list := []*history.Build{
		{Context: "/one/app"}, {Context: "/two/app/"}, {Context: "/two/app", Target: "t"}, {Context: "/app"}, {Context: "/x/web"}, {Context: "/x/web"}, {Context: "https://h/app"}, {Context: "-"}, {Context: "-"},
	}
	name := distinct(list)
	for i, want := range []string{"one/app", "two/app", "app (t)", "app", "web", "web", "app", "-", "-"} {
		if got := name(list[i]); got != want {
			t.Errorf("%s: %q, want %q", list[i].Context, got, want)
		}
	}
}

// TestSeconds: durations as the progress shows them.
func TestSeconds(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0.0s", 1234 * time.Millisecond: "1.2s", 59 * time.Second: "59.0s", 61 * time.Second: "1m 1s", 3725 * time.Second: "1h 2m",
	} {
		if got := history.Seconds(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// TestExport: the newest build, those that are named, and all.
func TestExport(t *testing.T) {
	t.Parallel()
	m, _ := lab(t)
	sizes := map[string]int{}
	for _, args := range []string{"", "abd2", "abc1 abd2", "--all"} {
		got := m.Run(commands, append([]string{"builds", "export"}, strings.Fields(args)...)...)
		if got.Err != nil || !strings.HasPrefix(got.Stdout, "\x1f\x8b") {
			t.Errorf("%q: %d bytes, %v", args, len(got.Stdout), got.Err)
		}
		sizes[args] = len(got.Stdout)
	}
	if sizes[""] != sizes["abd2"] || sizes["--all"] <= sizes[""] {
		t.Errorf("%v", sizes)
	}
}
