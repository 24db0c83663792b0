//go:build guest

// Package guest has the tests that package vm runs in virtual machines. They are as root, and make an ordinary user's
// commands from a session of the user tester.
package guest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/test/rig"
)

// payload is where the machine has what the tests need.
const payload = "/payload"

// A seat is who runs mica, and with which runtime.
type seat struct {
	name, user, runtime string
}

// seats runs a test as root and as an ordinary user, with every runtime.
func seats(t *testing.T, test func(t *testing.T, s seat, m *rig.Mica)) {
	t.Helper()
	for _, runtime := range []string{"crun", "runc"} {
		for _, user := range []string{"root", "tester"} {
			s := seat{user + "-" + runtime, user, runtime}
			t.Run(s.name, func(t *testing.T) { test(t, s, s.mica(t)) })
		}
	}
}

// mica is mica with a store of its own and the base image. An ordinary user's runs in a session of its own, as after a
// login.
func (s seat) mica(t *testing.T) *rig.Mica {
	t.Helper()
	m := rig.At(t, filepath.Join(payload, "mica"))
	m.Env = append(m.Env, "MICA_RUNTIME="+s.runtime)
	if s.user != "root" {
		m.Root = filepath.Join("/home", s.user, "store-"+s.runtime)
		m.Prefix = []string{"su", "-l", "-c", `exec "$0" "$@"`, s.user, "--", "env", "MICA_ROOT=" + m.Root, "MICA_RUNTIME=" + s.runtime}
		t.Cleanup(func() { rig.Must(t, "rm", "-rf", m.Root) })
	}
	m.Run("import", "-c", "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", "-c", `CMD ["sh"]`, filepath.Join(payload, "busybox.tar"), "base")
	return m
}

// context is a directory with a Dockerfile, readable by everybody.
func context(t *testing.T, dockerfile string) string {
	t.Helper()
	dir := rig.TempDir(t)
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	rig.Must(t, "chmod", "755", dir)
	return dir
}

// The machine is what these tests are for: systemd, and cgroups of version 2 alone.
func TestMachine(t *testing.T) {
	var st unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &st); err != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
		t.Errorf("cgroups: type %x, %v", st.Type, err)
	}
	comm, err := os.ReadFile("/proc/1/comm")
	if err != nil || string(comm) != "systemd\n" {
		t.Errorf("process 1 is %s, %v", comm, err)
	}
	session := rig.Must(t, "su", "-l", "tester", "-c", "cat /proc/self/cgroup; echo $XDG_RUNTIME_DIR")
	if !strings.HasPrefix(session, "0::/user.slice/user-1000.slice/session-") || !strings.HasSuffix(session, "\n/run/user/1000\n") {
		t.Errorf("a session of tester: %s", session)
	}
}

func TestBuildAndRun(t *testing.T) {
	seats(t, func(t *testing.T, _ seat, m *rig.Mica) {
		m.Run("build", "-q", "-t", "app", context(t, `FROM base
COPY --chown=dev Dockerfile /d
RUN id -u >/who && touch /mine && chown www:staff /mine && chmod 4755 /mine && rm -r /usr/share
USER dev
RUN id -un >~/who
`))
		const look = "cat /who /home/dev/who; stat -c %u:%g:%a /mine; stat -c %U /d; ls /usr; id -u; ls -d /proc/1 /sys/kernel /dev/null"
		const want = "0\ndev\n" + "33:50:4755\n" + "dev\n" + "bin\n" + "1000\n" + "/dev/null\n/proc/1\n/sys/kernel\n"
		if got := m.Run("run", "app", "sh", "-c", look); got != want {
			t.Errorf("the container has %q, want %q", got, want)
		}
		if out := m.Try(nil, "run", "base", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"); out.Code != 137 {
			t.Errorf("a killed process: exit code %d, %s", out.Code, out.Stderr)
		}
	})
}

// A killed mica takes its processes and its mounts with it, and leaves no cgroup to the next command.
func TestKill(t *testing.T) {
	seats(t, func(t *testing.T, s seat, m *rig.Mica) {
		// A process that no other test has.
		sleep := fmt.Sprintf("sleep %d", 360000+len(s.name)*1000+int(s.name[0]))
		dir := context(t, "FROM base\nRUN exec "+sleep+"\n")
		for _, args := range [][]string{{"build", dir}, {"run", "-m", "20m", "base", "sh", "-c", "exec " + sleep}} {
			cmd := m.Command(args...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			rig.Eventually(t, "the step runs", func() bool { return runs(t, sleep) })
			killAll(t, args[0])
			_ = cmd.Wait()
			rig.Eventually(t, "the step is killed", func() bool { return !runs(t, sleep) })
		}
		if got := m.Run("run", "base", "echo", "again"); got != "again\n" {
			t.Errorf("after kill -9: %q", got)
		}
		rig.Eventually(t, "mica and systemd remove the cgroups", func() bool {
			return rig.Must(t, "find", "/sys/fs/cgroup", "-type", "d", "(", "-path", "*/mica/*", "-o", "-name", "mica-main", ")") == ""
		})
		if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(mounts), m.Root) {
			t.Errorf("mounts that are left: %v\n%s", err, mounts)
		}
	})
}

// runs reports whether a process has this command line.
func runs(t *testing.T, command string) bool {
	t.Helper()
	return rig.Run(t, exec.Command("pgrep", "-fx", command)).Code == 0
}

// killAll kills mica's processes that were started with a command, all at once.
func killAll(t *testing.T, command string) {
	t.Helper()
	rig.Must(t, "pkill", "-KILL", "-f", "^(/payload/)?mica "+command+" ")
}
