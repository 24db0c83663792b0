package historycmd

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/history"
)

// add records a build, and its end unless its status is Running or Interrupted.
func add(t *testing.T, m *commandtest.Mica, b *history.Build) *history.Writer {
	t.Helper()
	status := b.Status
	w, err := history.Open(m.Store).Begin(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	if b.Status = status; status != history.Running {
		if err := w.End(); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// TestWhyArguments: what one argument, or two, mean: a build, a step of the newest build, or a step of a build.
func TestWhyArguments(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	started := time.Now().Add(-time.Hour)
	for i, ref := range []string{"1234567890", "abcdefghij"} {
		add(t, m, &history.Build{
			Ref: ref, Line: "line", Context: "/app", Started: started.Add(time.Duration(i) * time.Minute), Status: history.Completed,
			Steps: []*history.Step{{Vertex: "v", Name: "[1/1] RUN make all", Line: 12, State: history.StepRan, Causes: []history.Cause{{Kind: history.Command}}}},
		})
	}
	for args, want := range map[string]struct{ build, err string }{
		"":               {"abcdefghij", ""},
		"^1":             {"1234567890", ""},
		"abc":            {"abcdefghij", ""},
		"1234567":        {"1234567890", ""}, // too long for a line
		"12":             {"abcdefghij", ""}, // a line, although a ref begins with it
		"123":            {"", "build abcdefghij has no step at line 123: its steps are at lines 12"},
		"make":           {"abcdefghij", ""},
		"MAKE":           {"abcdefghij", ""},
		"nothing":        {"", "no such build: nothing (mica builds lists them)"},
		"^1 12":          {"1234567890", ""},
		"1234567 all":    {"1234567890", ""},
		"^1 nothing":     {"", `build 1234567890 has no step "nothing" (mica builds inspect 1234567890 lists them)`},
		"nothing 12":     {"", "no such build: nothing (mica builds lists them)"},
		"^1 13":          {"", "build 1234567890 has no step at line 13: its steps are at lines 12"},
		"--cost ^1":      {"", ""},
		"--cost nothing": {"", "no such build: nothing (mica builds lists them)"},
	} {
		got := m.Run(commands, append([]string{"why"}, strings.Fields(args)...)...)
		if commandtest.Text(got.Err) != want.err || want.build != "" && !strings.HasPrefix(got.Stdout, "Build "+want.build+" ") {
			t.Errorf("%q: %q, %v, want %+v", args, got.Stdout, got.Err, want)
		}
		if want.build != "" && !strings.Contains(got.Stdout, "[1/1] RUN make all\n  the instruction changed\n") {
			t.Errorf("%q: %q", args, got.Stdout)
		}
	}
}

// TestWhyStatus: a build that has not ended well may lack steps, and one without an earlier one has nothing to be compared with.
func TestWhyStatus(t *testing.T) {
	t.Parallel()
	cached := []*history.Step{{Vertex: "v", Name: "RUN x", State: history.StepCached, Causes: []history.Cause{{Kind: history.Command}}}}
	for name, tt := range map[string]struct {
		status history.Status
		before bool
		want   string
	}{
		"the first":   {history.Completed, false, "No step ran again: no earlier build of this context, Dockerfile and target is known.\n"},
		"the second":  {history.Completed, true, "No step ran again.\n"},
		"failed":      {history.Failed, true, "No step ran again.\n"},
		"running":     {history.Running, true, "It is running: more steps may follow.\n"},
		"interrupted": {history.Interrupted, true, "It was interrupted: steps may be missing.\n"},
	} {
		m := commandtest.New(t)
		if tt.before {
			add(t, m, &history.Build{Ref: "before", Line: "line", Started: time.Now().Add(-time.Hour), Status: history.Completed})
		}
		add(t, m, &history.Build{Ref: "other", Line: "another", Started: time.Now().Add(-time.Hour), Status: history.Completed})
		add(t, m, &history.Build{Ref: "now", Line: "line", Context: "/app", Started: time.Now().Add(-time.Minute), Status: tt.status, Steps: cached})
		got := m.Run(commands, "why", "now")
		head, rest, _ := strings.Cut(got.Stdout, "\n")
		if rest != tt.want || !strings.HasPrefix(head, "Build now of app, about a minute ago: ") || got.Err != nil {
			t.Errorf("%s: %q, %v, want %q", name, got.Stdout, got.Err, tt.want)
		}
	}
}

// TestWhyDetails: what is said of a file beside its name.
func TestWhyDetails(t *testing.T) {
	t.Parallel()
	one, two := digest.FromString("1").String(), digest.FromString("2").String()
	file := func(change, old, now string, oldSize, newSize int64) history.Cause {
		return history.Cause{Kind: history.File, Name: "f", Change: change, Old: old, New: now, OldSize: oldSize, NewSize: newSize}
	}
	for want, c := range map[string]history.Cause{
		"sha256:6b86b273ff34, 1B → sha256:d4735e3a265e, 1.5MB": file(history.Content, one, two, 1, 1500000),
		"sha256:d4735e3a265e, 0B":                              file(history.Added, "", two, 0, 0),
		"sha256:6b86b273ff34, 3kB":                             file(history.Removed, one, "", 3000, 0),
		"abc, 0B → def, 0B":                                    file(history.Content, "abc", "def", 0, 0), // of another algorithm, or none
	} {
		if got := details(c); got != want {
			t.Errorf("%+v: %q, want %q", c, got, want)
		}
	}
	for _, c := range []history.Cause{
		{}, {Kind: history.Command, Old: one, New: two}, file(history.Added, "", "", 0, 0), file(history.Mode, "644", "755", 1, 1), file(history.Owner, "0:0", "1:1", 1, 1),
	} {
		if got := details(c); got != "" {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

// TestPrintCauses: causes that come from another step are followed by those at the start, unless they are the same.
func TestPrintCauses(t *testing.T) {
	t.Parallel()
	b := &history.Build{Steps: []*history.Step{{Vertex: "v", Name: "[1/2] COPY a /"}}}
	after := history.Cause{Kind: history.Result, Step: "v"}
	changed := history.Cause{Kind: history.File, Name: "a", Change: history.Content, Old: digest.FromString("1").String(), New: digest.FromString("2").String(), OldSize: 1, NewSize: 1}
	for want, tt := range map[string]struct{ causes, roots []history.Cause }{
		"": {nil, nil},
		"> [1/2] COPY a / gave another result\n> from the start: a changed\n":                            {[]history.Cause{after}, []history.Cause{changed}},
		"> a changed\n>   sha256:6b86b273ff34, 1B → sha256:d4735e3a265e, 1B\n":                           {[]history.Cause{changed}, []history.Cause{changed}},
		"> the instruction changed\n":                                                                    {[]history.Cause{{Kind: history.Command}}, nil},
		"> the instruction changed\n> [1/2] COPY a / gave another result\n> from the start: a changed\n": {[]history.Cause{{Kind: history.Command}, after}, []history.Cause{changed}},
	} {
		var out bytes.Buffer
		printCauses(&out, b, tt.causes, tt.roots, "> ")
		if out.String() != want {
			t.Errorf("%q, want %q", out.String(), want)
		}
	}
}

// TestComplete: the shell completes refs, the newest first.
func TestComplete(t *testing.T) {
	t.Parallel()
	m, _ := lab(t)
	var refs []string
	var directive cobra.ShellCompDirective
	got := m.Run(func(app *command.App) *cobra.Command {
		return &cobra.Command{Use: "mica", RunE: func(cmd *cobra.Command, _ []string) error {
			refs, directive = complete(app)(cmd, nil, "a")
			return nil
		}}
	})
	if !slices.Equal(refs, []string{"abd2", "abc1"}) || directive != cobra.ShellCompDirectiveNoFileComp || got.Err != nil {
		t.Errorf("%q, %v, %v", refs, directive, got.Err)
	}
}
