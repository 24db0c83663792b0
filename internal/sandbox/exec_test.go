package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/ociruntime"
)

// fakeRuntime returns a host whose runtime is a script, called as runc: $1 is its command, $3 the bundle, $log its log. It runs
// no container.
func fakeRuntime(t *testing.T, script string) *Host {
	t.Helper()
	path := filepath.Join(t.TempDir(), "runc")
	text := "#!/bin/sh\nlog=$4\nshift 6\n" + script + "\n"
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return &Host{runtime: path}
}

// logError is a line of a script that logs an error of the runtime.
const logError = `echo '{"level":"error","msg":"exec: \"x\": permission denied"}' >>"$log"; `

// The streams and the result of a process are the runtime's, apart from the runtime's own messages.
func TestStart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script, stdin, stdout, stderr, want string
	}{
		"output":          {"echo out; echo err >&2", "", "out\n", "err\n", ""},
		"input":           {"cat", "in", "in", "", ""},
		"a code":          {"exit 3", "", "", "", "exit code: 3"},
		"a signal":        {"kill -KILL $$", "", "", "", "exit code: 137"},
		"it cannot start": {logError + "echo message >&2; exit 1", "", "", "", `exec: "x": permission denied`},
		"a command":       {`echo "$1 $4"`, "", "run mica\n", "", ""},
		"no environment":  {`echo "$A"`, "", "\n", "", ""},
		"large output":    {"head -c 200000 /dev/zero | tr '\\0' x >&2", "", "", strings.Repeat("x", 200000), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			p := &Process{Args: []string{"x"}, Stdin: strings.NewReader(c.stdin), Stdout: &stdout, Stderr: &stderr, Env: []string{"A=b"}}
			got := ""
			if err := fakeRuntime(t, c.script).start(t.Context(), newBundle(t, p, nil)); err != nil {
				got = err.Error()
			}
			if got != c.want || stdout.String() != c.stdout || stderr.String() != c.stderr {
				t.Errorf("%q, %q, %q", got, stdout.String(), stderr.String())
			}
		})
	}
}

// The runtime gets the specification in the bundle.
func TestStartWritesConfig(t *testing.T) {
	t.Parallel()
	var stdout bytes.Buffer
	p := &Process{Args: []string{"a", "b"}, Stdout: &stdout, Network: NetworkNone}
	b := newBundle(t, p, nil)
	if err := fakeRuntime(t, `cat "$3/config.json"`).start(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	var s specs.Spec
	if err := json.Unmarshal(stdout.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(s.Process.Args) != "[a b]" || s.Root.Path != b.root {
		t.Errorf("%+v, %+v", s.Process, s.Root)
	}
	if info, err := os.Stat(filepath.Join(b.dir, "config.json")); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// notified keeps what is written, and closes seen after a word.
type notified struct {
	text bytes.Buffer
	word string
	seen chan bool
}

func (n *notified) Write(p []byte) (int, error) {
	size, err := n.text.Write(p)
	if n.seen != nil && strings.Contains(n.text.String(), n.word) {
		close(n.seen)
		n.seen = nil
	}
	return size, err
}

// A process whose build is cancelled is removed by the runtime, and then killed.
func TestCancel(t *testing.T) {
	t.Parallel()
	h := fakeRuntime(t, `[ "$1" = run ] || { echo "$*" >"$log.deleted"; exit; }
echo started
exec sleep 1000`)
	started := make(chan bool)
	b := newBundle(t, &Process{Args: []string{"x"}, Stdout: &notified{word: "started", seen: started}}, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	go func() {
		<-started
		cancel(reason)
	}()
	if err := h.start(ctx, b); !errors.Is(err, reason) {
		t.Errorf("%v", err)
	}
	deleted, err := os.ReadFile(filepath.Join(b.dir, "log.json.deleted"))
	if err != nil || string(deleted) != "delete --force mica\n" {
		t.Errorf("the runtime was asked to %q, %v", deleted, err)
	}
	if err := h.start(ctx, b); !errors.Is(err, reason) {
		t.Errorf("after the end: %v", err)
	}
}

func TestSignals(t *testing.T) {
	t.Parallel()
	h := fakeRuntime(t, `trap 'echo got; exit 7' USR1
echo started
while :; do sleep 0.01; done`)
	started, signals := make(chan bool), make(chan os.Signal, 1)
	stdout := &notified{word: "started", seen: started}
	go func() {
		<-started
		signals <- unix.SIGUSR1
	}()
	err := h.start(t.Context(), newBundle(t, &Process{Args: []string{"x"}, Stdout: stdout, Signals: signals}, nil))
	var exit *ociruntime.ExitError
	if !errors.As(err, &exit) || exit.Code != 7 || stdout.text.String() != "started\ngot\n" {
		t.Errorf("%v, %q", err, stdout.text.String())
	}
}

// Output to one file keeps its order; held back stderr would change it.
func TestOneFile(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	p := &Process{Args: []string{"x"}, Stdout: f, Stderr: f}
	const script = "for i in 1 2 3 4 5 6 7 8 9; do echo $i; echo $i >&2; done"
	if err := fakeRuntime(t, script).start(t.Context(), newBundle(t, p, nil)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(f.Name())
	if want := "1\n1\n2\n2\n3\n3\n4\n4\n5\n5\n6\n6\n7\n7\n8\n8\n9\n9\n"; err != nil || string(text) != want {
		t.Errorf("%q, %v", text, err)
	}
	other, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	var none *os.File
	for name, c := range map[string]struct {
		a, b io.Writer
		want bool
	}{
		"itself": {f, f, true}, "opened twice": {f, other, true}, "another": {f, os.Stderr, false}, "no file": {f, &bytes.Buffer{}, false},
		"nil": {f, none, false}, "two of none": {none, none, false},
	} {
		if got := sameFile(c.a, c.b); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestMissingRuntime(t *testing.T) {
	t.Parallel()
	err := (&Host{runtime: "/nosuch/runc"}).start(t.Context(), newBundle(t, &Process{Args: []string{"x"}}, nil))
	var start *ociruntime.StartError
	if !errors.As(err, &start) || start.Code != 125 || start.Reason != "start /nosuch/runc: no such file or directory" {
		t.Errorf("%v", err)
	}
	if err := (&Host{}).Run(t.Context(), &Process{}); err == nil || err.Error() != "no OCI runtime is on PATH: install crun or runc" {
		t.Errorf("no runtime: %v", err)
	}
	if _, err := NewHost(nil, "nosuch"); err == nil || err.Error() != `OCI runtime "nosuch" is not on PATH` {
		t.Errorf("an unknown runtime: %v", err)
	}
	if err := (&Host{}).Close(); err != nil {
		t.Error(err)
	}
}

// What a terminal shows goes to any writer, and its size is part of the specification if the user has one.
func TestTerminalToFile(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := &Process{Args: []string{"x"}, TTY: true, Stdout: &out}
	if err := fakeRuntime(t, "echo to stdout; tty >/dev/null && echo a terminal").start(t.Context(), newBundle(t, p, nil)); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != "to stdout\na terminal\n" {
		t.Errorf("%q", got)
	}
}
