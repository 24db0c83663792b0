package ociruntime

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestCommand(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		path    string
		cgroups bool
		want    string
	}{
		{"/usr/bin/crun", true, "--root /b/state --log /b/log.json --log-format json run x"},
		{"/usr/bin/crun", false, "--root /b/state --log /b/log.json --log-format json --cgroup-manager disabled run x"},
		{"/opt/crun-1.14", false, "--root /b/state --log /b/log.json --log-format json --cgroup-manager disabled run x"},
		{"/usr/sbin/runc", false, "--root /b/state --log /b/log.json --log-format json run x"},
	} {
		cmd := Command(c.path, "/b", c.cgroups, "run", "x")
		if got := strings.Join(cmd.Args[1:], " "); cmd.Args[0] != c.path || got != c.want {
			t.Errorf("%s: %s, want %s", c.path, got, c.want)
		}
	}
}

// The result of a process is its exit code, unless the runtime has logged why it did not start it.
func TestOutcome(t *testing.T) {
	t.Parallel()
	logged := func(level, msg string) string {
		return fmt.Sprintf(`{"level":%q,"msg":%q,"time":"2026-01-01T00:00:00Z"}`, level, msg) + "\n"
	}
	const denied = `runc run failed: unable to start container process: exec: "/x": permission denied`
	for name, c := range map[string]struct {
		script, log, want string
	}{
		"success":                {"exit 0", "", ""},
		"success after an error": {"exit 0", logged("error", denied), ""},
		"a code":                 {"exit 3", "", "exit code: 3"},
		"a signal":               {"kill -KILL $$", "", "exit code: 137"},
		"a warning":              {"exit 1", logged("warning", denied), "exit code: 1"},
		"an error":               {"exit 1", logged("error", denied), `126 exec: "/x": permission denied`},
		"an error and a signal":  {"kill -TERM $$", logged("error", denied), `126 exec: "/x": permission denied`},
		"the last error":         {"exit 1", logged("error", "other") + logged("debug", "x") + logged("error", denied), `126 exec: "/x": permission denied`},
		"a cgroup that is left":  {"exit 3", logged("error", "Failed to remove cgroup: device busy"), "exit code: 3"},
		"text in the log":        {"exit 3", "panic: x\n\n{\n", "exit code: 3"},
		"half a line":            {"exit 3", `{"level":"error","msg":"x`, "exit code: 3"},
		"a large log":            {"exit 3", strings.Repeat(logged("info", "x"), maxLog/20) + logged("error", denied), "exit code: 3"},
	} {
		got := ""
		err := Outcome(exec.Command("/bin/sh", "-c", c.script).Run(), strings.NewReader(c.log))
		var start *StartError
		var exit *ExitError
		switch {
		case errors.As(err, &start):
			got = fmt.Sprint(start.Code, " ", start.Error())
		case errors.As(err, &exit):
			got = exit.Error()
		case err != nil:
			got = "other: " + err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if err := Outcome(fs.ErrClosed, strings.NewReader("")); !errors.Is(err, fs.ErrClosed) || err.Error() != "wait for process: file already closed" {
		t.Errorf("%v", err)
	}
}

// growing is a log to which the runtime writes after its stderr.
type growing struct{ text string }

func (g *growing) ReadAt(p []byte, off int64) (int, error) {
	return strings.NewReader(g.text).ReadAt(p, off)
}

// A process that writes much is not held back: what has been held is forwarded, and what follows as it comes.
func TestStderrPasses(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := &growing{}
	s := NewStderr(&out, log, "x")
	large := bytes.Repeat([]byte("x"), heldSize)
	if _, err := s.Write(large); err != nil || out.Len() != 0 {
		t.Errorf("%d bytes are not held back, %v", out.Len(), err)
	}
	if _, err := s.Write([]byte("y")); err != nil || out.Len() != heldSize+1 {
		t.Errorf("%d bytes are forwarded, %v", out.Len(), err)
	}
	log.text = `{"level":"error","msg":"late"}`
	if _, err := s.Write([]byte("z")); err != nil || out.Len() != heldSize+2 {
		t.Errorf("%d bytes are forwarded, %v", out.Len(), err)
	}
	if err := s.Flush(); err != nil || !bytes.Equal(out.Bytes(), slices.Concat(large, []byte("yz"))) {
		t.Errorf("%d bytes at the end, %v", out.Len(), err)
	}
}

// Output that is held back is forwarded by itself after a moment: a process may wait for a response to it.
func TestStderrIsTimely(t *testing.T) {
	t.Parallel()
	out := make(forward, 1)
	s := NewStderr(out, &growing{}, "x")
	if _, err := s.Write([]byte("prompt: ")); err != nil {
		t.Fatal(err)
	}
	if got := <-out; got != "prompt: " {
		t.Errorf("%q", got)
	}
}

// forward passes on what is written.
type forward chan string

func (f forward) Write(p []byte) (int, error) {
	f <- string(p)
	return len(p), nil
}

// failing cannot be written to.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, fs.ErrClosed }

func TestStderrFails(t *testing.T) {
	t.Parallel()
	s := NewStderr(failing{}, &growing{}, "x")
	if _, err := s.Write([]byte("x")); err != nil {
		t.Errorf("held back: %v", err)
	}
	if err := s.Flush(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("forwarded: %v", err)
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("afterwards: %v", err)
	}
	nowhere := NewStderr(nil, &growing{}, "x")
	if _, err := nowhere.Write([]byte("x")); err != nil || nowhere.Flush() != nil {
		t.Errorf("to nowhere: %v", err)
	}
}

// The file that the kernel did not execute is named as the user has written it.
func TestExecFailureNames(t *testing.T) {
	t.Parallel()
	const said = "{\"msg\":\"exec container process `/w/run`: Exec format error\"}\n"
	for command, want := range map[string]string{
		"./run": "exec ./run: exec format error\n", "/w/run": "exec /w/run: exec format error\n", "run": "exec /w/run: exec format error\n",
	} {
		var out bytes.Buffer
		s := NewStderr(&out, &growing{}, command)
		if _, err := s.Write([]byte(said)); err != nil || s.Flush() != nil || out.String() != want {
			t.Errorf("%s: %q, %v", command, out.String(), err)
		}
	}
}
