package progress

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/terminal"
	"github.com/micabuild/mica/internal/terminal/terminaltest"
)

// step is the progress of a step with a name, from its start to its end 1.5 s later.
func step(name string, logs ...string) *solver.Status {
	start := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	end := start.Add(1500 * time.Millisecond)
	d := digest.FromString(name)
	st := &solver.Status{Vertexes: []*bkclient.Vertex{{Digest: d, Name: name, Started: &start, Completed: &end}}}
	for _, l := range logs {
		st.Logs = append(st.Logs, &bkclient.VertexLog{Vertex: d, Stream: 1, Data: []byte(l), Timestamp: start.Add(100 * time.Millisecond)})
	}
	return st
}

// warn adds a warning about a line of the Dockerfile.
func warn(st *solver.Status, text string, line int32) *solver.Status {
	st.Warnings = append(st.Warnings, &bkclient.VertexWarning{
		Vertex: st.Vertexes[0].Digest, Short: []byte(text), Range: []*pb.Range{{Start: &pb.Position{Line: line}}},
	})
	return st
}

// shownIn shows the progress of a build in a mode, on a stream that is a file, and returns what is in it.
func shownIn(t *testing.T, mode string, events ...*solver.Status) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	w := terminal.NewWriter(f)
	show(t, w, mode, events...)
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func show(t *testing.T, w *terminal.Writer, mode string, events ...*solver.Status) {
	t.Helper()
	d, err := StartBuild(t.Context(), w, mode)
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range events {
		d.Events(st)
	}
	d.Finish()
	d.PrintWarnings()
	d.Events(step("[9/9] late")) // nobody waits for it
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
}

// TestPlainProgress: steps are numbered; the lines of their output have a time; their duration follows.
func TestPlainProgress(t *testing.T) {
	t.Parallel()
	got := shownIn(t, "plain", step("[1/2] FROM x"), step("[2/2] RUN y", "out\nput\n"))
	want := "#1 [1/2] FROM x\n#1 DONE 1.5s\n\n#2 [2/2] RUN y\n#2 0.100 out\n#2 0.100 put\n#2 DONE 1.5s\n"
	if strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestPlainProgressOfOtherEnds(t *testing.T) {
	t.Parallel()
	cached, failed := step("[1/1] COPY a"), step("[2/2] RUN false")
	cached.Vertexes[0].Cached = true
	failed.Vertexes[0].Error = "process \"false\" did not complete successfully: exit code: 1"
	for want, st := range map[string]*solver.Status{
		"#1 [1/1] COPY a\n#1 CACHED\n": cached,
		"#1 [2/2] RUN false\n#1 ERROR: process \"false\" did not complete successfully: exit code: 1\n": failed,
	} {
		if got := shownIn(t, "plain", st); !strings.HasPrefix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestAutoProgress: auto is plain where there is no terminal.
func TestAutoProgress(t *testing.T) {
	t.Parallel()
	if got := shownIn(t, "auto", step("[1/1] FROM x")); !strings.HasPrefix(got, "#") || !strings.Contains(got, "DONE 1.5s\n") {
		t.Errorf("%q", got)
	}
}

func TestOtherProgress(t *testing.T) {
	t.Parallel()
	st := warn(step("[1/1] FROM x\x1b[2J", "out"), "W", 1)
	if got := shownIn(t, "quiet", st); got != "" {
		t.Errorf("quiet: %q", got)
	}
	raw := shownIn(t, "rawjson", st)
	var read struct{ Vertexes []struct{ Name string } }
	if err := json.Unmarshal([]byte(raw), &read); err != nil || len(read.Vertexes) != 1 || read.Vertexes[0].Name != "[1/1] FROM x\x1b[2J" {
		t.Errorf("rawjson: %v, %q", err, raw)
	}
	if _, err := StartBuild(t.Context(), terminal.NewWriter(os.Stderr), "loud"); err == nil || err.Error() != `invalid progress mode "loud": use auto, plain, tty, quiet or rawjson` {
		t.Errorf("%v", err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := StartBuild(t.Context(), terminal.NewWriter(f), "tty"); err == nil {
		t.Error("tty is accepted without a terminal")
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	one := warn(step("[1/2] FROM x"), "first", 2)
	two := warn(step("[2/2] RUN y"), "second", 1)
	if got := shownIn(t, "plain", one); !strings.HasSuffix(got, "\n 1 warning found:\n - first\n") {
		t.Errorf("%q", got)
	}
	if got := shownIn(t, "plain", one, two); !strings.HasSuffix(got, "\n 2 warnings found:\n - second\n - first\n") {
		t.Errorf("in the order of lines: %q", got)
	}
	d := &Build{ch: make(chan *solver.Status, 2)}
	d.Events(one)
	d.Events(two)
	if found := d.Warnings(); len(found) != 2 || string(found[0].Short) != "first" {
		t.Errorf("in the order of arrival: %v", found)
	}
}

var sequences = regexp.MustCompile("\x1b\\[[0-9;?]*[a-zA-Z]|\x1b[78]")

// TestTerminalProgress: lines are as wide as the terminal, and have no control sequences from names or output.
func TestTerminalProgress(t *testing.T) {
	t.Parallel()
	tty, shown := terminaltest.Screen(t)
	long := "[2/3] RUN " + strings.Repeat("long ", 40)
	show(t, terminal.NewWriter(tty), "auto", step("[1/3] FROM x\x1b]0;title\a"), step(long), step("[3/3] RUN y", "\x1b[2J\x1b[31mred\x1b[0m\n"))
	screen := shown()
	if strings.Contains(screen, "\x1b]0;") || strings.Contains(screen, "\x1b[2J") {
		t.Errorf("control sequences: %q", screen)
	}
	if !strings.Contains(screen, `FROM x\x1b]0;title\x07`) {
		t.Errorf("the name is missing: %q", screen)
	}
	for line := range strings.SplitSeq(sequences.ReplaceAllString(screen, ""), "\n") {
		if line = strings.Trim(line, "\r"); len(line) > 80 {
			t.Errorf("a line of %d characters: %q", len(line), line)
		}
	}
	if !strings.Contains(screen, "[+] Building ") || !strings.Contains(screen, "1.5s") {
		t.Errorf("%q", screen)
	}
}

func TestEscaped(t *testing.T) {
	t.Parallel()
	st := warn(step("a\x1bb", "\x1b[Kout\x1b[1m\r"), "w\x07", 1)
	st.Vertexes[0].Error = "e\x9b"
	st.Warnings[0].URL, st.Warnings[0].Detail = "u\x00", [][]byte{[]byte("d\u202e")}
	st.Statuses = []*bkclient.VertexStatus{{ID: "i\x1b", Name: "n\x7f"}}
	got := escaped(st)
	for want, text := range map[string]string{
		`a\x1bb`: got.Vertexes[0].Name, `e\x9b`: got.Vertexes[0].Error, "out\x1b[1m\r": string(got.Logs[0].Data), `w\x07`: string(got.Warnings[0].Short),
		`u\x00`: got.Warnings[0].URL, `d\u202e`: string(got.Warnings[0].Detail[0]), `i\x1b`: got.Statuses[0].ID, `n\x7f`: got.Statuses[0].Name,
	} {
		if text != want {
			t.Errorf("%q, want %q", text, want)
		}
	}
	if st.Vertexes[0].Name != "a\x1bb" || st.Warnings[0].URL != "u\x00" {
		t.Error("what was given has changed")
	}
}
