package containerinit

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be an init, as mica is.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[0] == Path {
		os.Exit(Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// asInit returns a command that runs this test binary as the init of a container.
func asInit(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Args = append([]string{Path, "--"}, args...)
	cmd.Env = append(os.Environ(), "PATH=/usr/bin:/bin") // directories that all users may read
	return cmd
}

// The init ends as its command does, and has tini's messages and codes for one that it cannot start.
func TestMainCodes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"script": 0o755, "plain": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("echo \"$0 $1\"; exit 6\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	script := filepath.Join(dir, "script")
	for _, c := range []struct {
		args   []string
		code   int
		output string
	}{
		{[]string{"true"}, 0, ""},
		{[]string{"sh", "-c", "echo out; exit 3"}, 3, "out\n"},
		{[]string{"sh", "-c", "kill -TERM $$"}, 128 + 15, ""},
		{[]string{"nosuch"}, 127, "[FATAL tini (7)] exec nosuch failed: No such file or directory\n"},
		{[]string{"/nosuch/x"}, 127, "[FATAL tini (7)] exec /nosuch/x failed: No such file or directory\n"},
		{[]string{filepath.Join(dir, "plain")}, 126, "[FATAL tini (7)] exec " + filepath.Join(dir, "plain") + " failed: Permission denied\n"},
		{[]string{dir}, 126, "[FATAL tini (7)] exec " + dir + " failed: Permission denied\n"},
		// A script without an interpreter is one of the shell, as for execvp(3).
		{[]string{script, "a b"}, 6, script + " a b\n"},
		// Processes that lost their parents are not waited for.
		{[]string{"sh", "-c", "(sleep 100 >/dev/null 2>&1 & echo $!) | { read pid; kill $pid; }; exit 2"}, 2, ""},
	} {
		cmd := asInit(t, c.args...)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		code := 0
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if code != c.code || string(out) != c.output {
			t.Errorf("%q: %d %q, want %d %q", c.args, code, out, c.code, c.output)
		}
	}
}

// Signals reach the command. The init itself stays until the command has ended.
func TestMainSignals(t *testing.T) {
	t.Parallel()
	cmd := asInit(t, "sh", "-c", `trap 'echo hup' HUP; trap 'echo term; exit 5' TERM; echo ready; while :; do sleep 0.01; done`)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for _, c := range []struct {
		line   string
		signal os.Signal
	}{{"ready", unix.SIGHUP}, {"hup", unix.SIGTERM}, {"term", nil}} {
		if !lines.Scan() || lines.Text() != c.line {
			t.Errorf("%q, want %q", lines.Text(), c.line)
		}
		if c.signal == nil {
			continue
		}
		if err := cmd.Process.Signal(c.signal); err != nil {
			t.Fatal(err)
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 5 {
		t.Errorf("%v", err)
	}
}

func TestSearchCommand(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a/x", "b/x", "b/y"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(filepath.Join(dir, "b"))
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for _, c := range []struct {
		path, name string
		want       []string
	}{
		{a + ":" + b, "x", []string{a + "/x", b + "/x"}},
		{b + ":" + a, "x", []string{b + "/x", a + "/x"}},
		{a + ":" + b, "y", []string{b + "/y"}},
		{a + ":" + b, "z", nil},
		{a + ":" + b, "", nil},
		{a, "./z", []string{"./z"}},
		{a, "/z", []string{"/z"}},
		{a + "::", "y", []string{"y", "y"}}, // an empty element is the working directory
	} {
		t.Setenv("PATH", c.path)
		if got := searchCommand(c.name); !slices.Equal(got, c.want) {
			t.Errorf("%q on %s: %q, want %q", c.name, c.path, got, c.want)
		}
	}
}
