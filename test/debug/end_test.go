//go:build e2e

package debug

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// twoFail has two stages that fail, and one that would take a minute.
const twoFail = "FROM base AS one\nRUN echo one > /who; sleep 0.2; false\nFROM base AS two\nRUN echo two > /who; sleep 0.2; false\n" +
	"FROM base AS three\nRUN sleep 60\nFROM base\nCOPY --from=one /who /1\nCOPY --from=two /who /2\nCOPY --from=three /x /\n"

// TestOneShell: of steps that fail at the same time, one is looked into, and the others have ended.
func TestOneShell(t *testing.T) {
	m := newMica(t)
	dir := context(t, twoFail)
	bake := "group \"default\" { targets = [\"one\", \"two\", \"three\"] }\n"
	for _, name := range []string{"one", "two", "three"} {
		bake += "target \"" + name + "\" {\n  context = \"" + dir + "\"\n  target = \"" + name + "\"\n}\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "bake.hcl"), []byte(bake), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"build", dir}, {"bake", "-f", filepath.Join(dir, "bake.hcl"), "--allow", "fs.read=" + dir}} {
		s := start(t, m, append(args, "--on-error=shell")...)
		s.Expect("Running a shell in the failed step (Dockerfile:")
		s.Expect("built-in commands")
		s.says("wc -l < /who; echo al''one", "1\r\nalone\r\n")
		s.Type("exit\n")
		s.Expect("ERROR: failed to build: Dockerfile:")
		s.ends(1)
		if got := m.Try(nil, append(args, "--invoke", "cat /who")...); got.Code != 1 || strings.Count(got.Stderr, "\none\n")+strings.Count(got.Stderr, "\ntwo\n") != 1 {
			t.Errorf("without a terminal: %+v", got)
		}
	}
}

// TestNoTerminal: without a terminal nothing waits.
func TestNoTerminal(t *testing.T) {
	m := newMica(t)
	dir := context(t, "FROM base\nRUN echo left > /f; exit 3\n")
	plain := m.Try(nil, "build", dir)
	shell := m.Try(nil, "build", "--on-error=shell", dir)
	if shell.Code != plain.Code || plain.Code != 1 || !strings.HasPrefix(shell.Stderr, "NOTE: a shell needs a terminal") {
		t.Errorf("%+v, %+v", plain, shell)
	}
	if got := m.Try(strings.NewReader("typed"), "build", "--on-error=shell", "--invoke", "cat; cat /f; exit 9", dir); got.Code != 1 || !strings.Contains(got.Stderr, "\nleft\nNOTE: cat; cat /f; exit 9: exit code: 9\n") || got.Stdout != "" {
		t.Errorf("a command: %+v", got)
	}
	if got := m.Try(nil, "build", "--shell-at=2", dir); got.Code != 125 || !strings.HasPrefix(got.Stderr, "--shell-at needs a terminal") {
		t.Errorf("a place: %+v", got)
	}
}

// TestEnds: a signal to mica ends the shell; whatever ends mica, no process, mount or directory is left after the next prune.
func TestEnds(t *testing.T) {
	m := newMica(t)
	dir := context(t, "FROM base\nRUN --mount=type=secret,id=s false\n")
	for _, c := range []struct {
		signal syscall.Signal
		code   int
		tidy   bool // without a prune
	}{{syscall.SIGTERM, 143, true}, {syscall.SIGHUP, 1, true}, {syscall.SIGKILL, -1, false}} {
		s := &session{Console: rig.NewConsole(t), t: t}
		s.modes = s.Modes()
		cmd := m.Command("build", "--on-error=shell", "--secret", "id=s,src="+dir+"/secret", dir)
		s.Start(cmd)
		s.Expect("built-in commands")
		s.says("sh -c \"echo st''arted; exec sleep 4321\"", "started\r\n")
		if err := cmd.Process.Signal(c.signal); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != c.code {
			t.Errorf("%v: exit code %d, want %d", c.signal, code, c.code)
		}
		if modes := s.Modes(); c.tidy && modes != s.modes {
			t.Errorf("%v: the terminal is left with %+v, and was %+v", c.signal, modes, s.modes)
		}
		if !c.tidy {
			m.Run("builder", "prune", "-f")
		}
		rig.Eventually(t, "the end of the processes", func() bool { return !bytes.Contains(commandLines(t), []byte("sleep\x004321")) })
		if left, err := os.ReadDir(filepath.Join(m.Root, "tmp")); len(left) > 0 || err != nil {
			t.Errorf("%v: %v is left, %v", c.signal, left, err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || bytes.Contains(mounts, []byte(m.Root)) {
		t.Errorf("a mount is left: %s, %v", mounts, err)
	}
}

// commandLines are those of all processes.
func commandLines(t *testing.T) (all []byte) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		line, _ := os.ReadFile(f)
		all = append(append(all, line...), '\n')
	}
	return all
}

// TestNothingStays: what is written in a shell is in no result, and a secret is nowhere in the store.
func TestNothingStays(t *testing.T) {
	m := newMica(t)
	dir := context(t, "FROM base\nARG CODE=1\nRUN --mount=type=secret,id=s --mount=type=cache,target=/c touch /made; exit $CODE\n")
	secret := []string{"--secret", "id=s,src=" + dir + "/secret"}
	s := start(t, m, append([]string{"build", "--on-error=shell", dir}, secret...)...)
	s.Expect("Changes are discarded, except in /c.")
	s.Expect("built-in commands")
	s.says("touch /typed /c/typed; cat /run/secrets/s", "s3cret")
	s.Type("exit 0\n")
	s.ends(1)
	m.Run(append([]string{"build", "-q", "-t", "app", "--build-arg", "CODE=0", dir}, secret...)...)
	if got := m.Run("run", "app", "sh", "-c", "ls /made /typed 2>/dev/null; true"); got != "/made\n" {
		t.Errorf("the image has %q", got)
	}
	err := filepath.WalkDir(m.Root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte("s3cret")) {
			t.Errorf("%s has the secret", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestOrdinaryUser: the same as an ordinary user, with and without ranges of IDs.
func TestOrdinaryUser(t *testing.T) {
	for name, ranges := range map[string]bool{"mica-debug": true, "mica-debug-one": false} {
		m := rig.AsUser(t, name, ranges)
		tar, err := rig.BusyboxTar(rig.TempDir(t))
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(tar)
		if err != nil {
			t.Fatal(err)
		}
		m.RunIn(f, "import", "-c", "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", "-", "base")
		_ = f.Close()
		dir := context(t, "FROM base\nWORKDIR /w\nRUN --mount=type=secret,id=s cp /run/secrets/s copied; false\n")
		for _, path := range []string{dir, filepath.Join(dir, "secret")} {
			if err := os.Chmod(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		s := start(t, m, "build", "--on-error=shell", "--secret", "id=s,src="+dir+"/secret", dir)
		s.Expect("built-in commands")
		s.says("id -u; cat copied /run/secrets/s; echo; test -t 0 && echo t''ty", "0\r\ns3crets3cret\r\ntty\r\n")
		s.Type("exit 3\n")
		s.ends(1)
		if got := m.Try(nil, "build", "--shell-at", "3", "--invoke", "pwd", dir); got.Stdout != "/w\n" {
			t.Errorf("%+v", got)
		}
		if got := m.Try(nil, "run", "^0:2", "pwd"); got.Stdout != "/w\n" {
			t.Errorf("%+v", got)
		}
	}
}
