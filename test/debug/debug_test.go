//go:build e2e

// Package debug looks into builds at a terminal: a shell in a step that fails.
package debug

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/test/rig"
)

func newMica(t *testing.T) *rig.Mica {
	t.Helper()
	m := rig.NewMica(t)
	rig.ImportBusybox(t, m, "base")
	return m
}

// context is a directory with a Dockerfile, and with the files a and secret.
func context(t *testing.T, dockerfile string) string {
	t.Helper()
	dir := rig.TempDir(t)
	for name, text := range map[string]string{"Dockerfile": dockerfile, "a": "text of a\n", "secret": "s3cret"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// session is mica at a terminal.
type session struct {
	*rig.Console
	t     *testing.T
	wait  func() int
	modes unix.Termios // before mica
}

func start(t *testing.T, m *rig.Mica, args ...string) *session {
	t.Helper()
	cmd := m.Command(args...)
	s := &session{Console: rig.NewConsole(t), t: t}
	s.modes = s.Modes()
	s.Start(cmd)
	s.wait = func() int {
		_ = cmd.Wait()
		return cmd.ProcessState.ExitCode()
	}
	return s
}

// says types a command, and waits for a line of its output, which the command must not contain.
func (s *session) says(command, want string) {
	s.t.Helper()
	if strings.Contains(command, want) {
		s.t.Fatalf("the terminal echoes %q", want)
	}
	s.Type(command + "\n")
	s.Expect(want)
}

// ends waits for the end of mica, with a code. The terminal is as it was before.
func (s *session) ends(code int) {
	s.t.Helper()
	if got := s.wait(); got != code {
		s.t.Errorf("exit code %d, want %d", got, code)
	}
	if modes := s.Modes(); modes != s.modes {
		s.t.Errorf("the terminal is left with %+v, and was %+v", modes, s.modes)
	}
}

// TestOnErrorShell: the shell has what the step had, and what it left.
func TestOnErrorShell(t *testing.T) {
	m := newMica(t)
	for name, c := range map[string]struct {
		dockerfile string
		args       []string
		keys       [][2]string // typed, shown
	}{
		"files, environment, directory": {
			"FROM base\nARG V=1\nENV E=two\nWORKDIR /w\nRUN echo left > f; echo $V; false", nil,
			[][2]string{{"cat f", "left\r\n"}, {"echo $V-$E-$PWD", "1-two-/w\r\n"}, {"id -u", "0\r\n"}, {"test -t 0 && echo t''ty", "tty\r\n"}},
		},
		"user": {"FROM base\nUSER dev\nRUN cd; touch mine; false", nil, [][2]string{{"id -un; ls ~", "dev\r\nmine\r\n"}, {"> /x", "Permission denied"}}},
		"mounts": {
			"FROM base\nRUN --mount=type=secret,id=s --mount=type=bind,target=/b,rw --mount=type=cache,target=/c --mount=type=tmpfs,target=/t " +
				"--mount=type=secret,id=s,env=TOKEN echo new > /b/new; echo kept > /c/kept; false",
			[]string{"--secret", "id=s,src=secret"},
			[][2]string{{"cat /run/secrets/s; echo -$TOKEN", "s3cret-s3cret\r\n"}, {"cat /b/a /b/new /c/kept", "text of a\r\nnew\r\nkept\r\n"}, {"grep -c ' /t tmpfs' /proc/mounts", "1\r\n"}},
		},
		"no network":    {"FROM base\nRUN --network=none false", nil, [][2]string{{"ls /sys/class/net | wc -w", "1\r\n"}}},
		"the host's":    {"FROM base\nRUN --network=host false", []string{"--allow", "network.host"}, [][2]string{{"readlink /proc/self/ns/net", hostNetwork(t) + "\r\n"}}},
		"insecure":      {"FROM base\nRUN --security=insecure false", []string{"--allow", "security.insecure"}, [][2]string{{"mount -t tmpfs x /mnt 2>&1 || mkdir /m && mount -t tmpfs x /m && echo m''ounted", "mounted\r\n"}}},
		"a document":    {"FROM base\nRUN <<EOT\necho one > /one\nfalse\nEOT", nil, [][2]string{{"cat /one", "one\r\n"}}},
		"a script":      {"FROM base\nRUN <<EOT\n#!/bin/ash\necho one > /one\nfalse\nEOT", nil, [][2]string{{"cat /one", "one\r\n"}}},
		"another shell": {"FROM base\nSHELL [\"/bin/ash\", \"-ec\"]\nRUN false; true", nil, [][2]string{{"readlink -f /proc/$$/exe; tr '\\0' ' ' < /proc/$$/cmdline", "/bin/ash"}}},
		"a limit":       {"FROM base\nRUN false", []string{"--ulimit", "nofile=123:123"}, [][2]string{{"ulimit -n", "123\r\n"}}},
		"another stage": {"FROM base AS one\nRUN touch /one && false\nFROM base\nCOPY --from=one /one /", nil, [][2]string{{"ls /one*", "/one\r\n"}}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := context(t, c.dockerfile)
			for i, a := range c.args {
				c.args[i] = strings.ReplaceAll(a, "src=", "src="+dir+"/")
			}
			s := start(t, m, append(append([]string{"build", "--on-error=shell"}, c.args...), dir)...)
			s.Expect("Running a shell in the failed step")
			s.Expect("built-in commands")
			for _, k := range c.keys {
				s.says(k[0], k[1])
			}
			s.Type("exit 3\n")
			s.Expect("ERROR: failed to build: Dockerfile:")
			s.ends(1)
		})
	}
}

// hostNetwork is the network namespace of this process.
func hostNetwork(t *testing.T) string {
	t.Helper()
	ns, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

const staged = `FROM base AS build
ARG V=one
WORKDIR /w
COPY a copied
RUN --mount=type=tmpfs,target=/t echo $V > ran
ENV E=two
USER dev
RUN id -u

FROM scratch AS last
COPY --from=build /w/ran /
`

// TestShellAt: a shell before a step has what the step finds, whether the steps before it are cached or not.
func TestShellAt(t *testing.T) {
	m := newMica(t)
	dir := context(t, staged)
	for _, c := range []struct {
		at, command string
		want        string // stdout
		code        int
	}{
		{"1", "pwd; ls", "/\nabs-log\nbin\nbroken\ndev\netc\nhome\nopt\nopt-link\nproc\nroot\nrun\nsys\ntmp\nusr\nvar\n", 0},
		{"4", "pwd; echo $V; ls", "/w\none\n", 0},
		{"5", "ls; grep -c ' /t tmpfs' /proc/mounts", "copied\n1\n", 0},
		{"5", "echo changed > copied; exit 7", "", 7},
		{"6", "cat ran copied; echo $V-$E", "one\ntext of a\none-\n", 0},
		{"8", "id -u; echo $V-$E", "1000\none-two\n", 0},
		{"build", "id -u; echo $V-$E", "1000\none-two\n", 0},
		{"last", "ls", "", 1},
		{"last", `["/x"]`, "", 1},
	} {
		out := m.Try(nil, "build", "--shell-at", c.at, "--invoke", c.command, dir)
		if out.Stdout != c.want || out.Code != c.code {
			t.Errorf("%s: %s: %q, exit code %d, want %q, %d\n%s", c.at, c.command, out.Stdout, out.Code, c.want, c.code, out.Stderr)
		}
	}
	s := start(t, m, "build", "--shell-at", "6", dir)
	s.Expect("Running a shell before line 6. Changes are discarded.")
	s.Expect("built-in commands")
	s.says("cat ran; rm ran", "one\r\n")
	s.Resize(33, 99)
	s.says(`while [ "$(stty size)" != "33 99" ]; do :; done; echo res''ized`, "resized\r\n")
	s.says("sh -c \"echo st''arted; exec sleep 100\"", "started\r\n") // by the process that is to get the signal
	s.Type("\x03")
	s.Expect("^C")
	s.says("echo code $?", "code 130\r\n")
	s.Type("exit 3\n")
	s.ends(3)
	m.Run("build", "-q", "--output", "type=tar,dest="+dir+"/out.tar", dir)
	if got := rig.Must(t, "tar", "-xOf", dir+"/out.tar", "ran"); got != "one\n" {
		t.Errorf("the build has %q", got)
	}
}

// TestRunStep: the result of any step of an earlier build can be looked into, and of a step that has failed what it began with.
func TestRunStep(t *testing.T) {
	m := newMica(t)
	dir := context(t, staged+"RUN echo no > /x\nRUN never\n")
	out := m.Try(nil, "build", dir)
	line := regexp.MustCompile(`To look into it: mica build --on-error=shell .* \(before the step: mica run ([0-9a-z]{8}:12)\)\n`).FindStringSubmatch(out.Stderr)
	if out.Code != 1 || line == nil {
		t.Fatalf("exit code %d\n%s", out.Code, out.Stderr)
	}
	const show = "echo $PWD-$V$E; ls /w"
	for step, want := range map[string]string{
		"^0:1": "/-\n", "^0:4": "/w-one\ncopied\n", "^0:5": "/w-one\ncopied\nran\n", "^0:8": "/w-onetwo\ncopied\nran\n", "^0:id -u": "/w-onetwo\ncopied\nran\n",
	} {
		if got := m.Try(nil, "run", step, "sh", "-c", show); got.Stdout != want {
			t.Errorf("%s: %q, want %q\n%s", step, got.Stdout, want, got.Stderr)
		}
	}
	for step, want := range map[string]string{
		line[1]: "has no result: this is what it began with\nmica: exec: \"sh\": executable file not found",
		"^0:13": "was not reached",
		"^0:2":  "has no step at line 2: its steps are at lines 1, 3, 4, 5, 8, 11, 12, 13",
	} {
		if got := m.Try(nil, "run", step, "sh", "-c", show); !strings.Contains(got.Stderr, want) {
			t.Errorf("%s: %+v, want %s", step, got, want)
		}
	}
	if got := m.Try(nil, "run", "^0:5"); got.Code != 125 || !strings.Contains(got.Stderr, "a shell needs a terminal") {
		t.Errorf("without a terminal: %+v", got)
	}
	s := start(t, m, "run", "^0:5")
	s.Expect("built-in commands")
	s.says("cat ran; rm ran", "one\r\n")
	s.Type("exit 3\n")
	s.ends(3)
	s = start(t, m, "run", "^0:5", "cat", "ran")
	s.Expect("one\r\n")
	s.ends(0)
	m.Run("builder", "prune", "-a", "-f")
	if got := m.Try(nil, "run", "^0:5", "true"); got.Code != 125 || !strings.Contains(got.Stderr, "is not in the store: it was pruned, or has stayed in a remote cache; mica build "+dir+" without --cache-from makes it again") {
		t.Errorf("after a prune: %+v", got)
	}
}
