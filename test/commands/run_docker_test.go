//go:build e2e

package commands

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// everyRuntime runs a test under each runtime, as root and as an ordinary user.
func everyRuntime(t *testing.T, test func(t *testing.T, m *rig.Mica)) {
	t.Helper()
	for _, runtime := range []string{"crun", "runc"} {
		t.Run(runtime, func(t *testing.T) {
			m := rig.NewMica(t)
			m.Env = append(m.Env, "MICA_RUNTIME="+runtime)
			rig.ImportBusybox(t, m, "base")
			test(t, m)
		})
		t.Run(runtime+" as a user", func(t *testing.T) {
			m := asUser(t, "mica-run", true)
			m.Prefix = append(m.Prefix, "MICA_RUNTIME="+runtime)
			importWorld(t, m)
			test(t, m)
		})
	}
}

// What a process is given without being asked, as docker run gives it. The values were compared with Docker 20.10.
func TestRunEnvironment(t *testing.T) {
	everyRuntime(t, func(t *testing.T, m *rig.Mica) {
		m.Prefix = append([]string{"env"}, m.Prefix...)
		m.Prefix = append(m.Prefix, "env", "GIVEN=by the host")
		for _, c := range []struct {
			want string
			args []string
		}{
			{"by the host\n", []string{"-e", "GIVEN", "base", "sh", "-c", "echo $GIVEN"}},
			{"PATH=/usr/sbin:/usr/bin:/sbin:/bin\nHOSTNAME=h\nA=1\nHOME=/root\n", []string{"-h", "h", "-e", "A=1", "-e", "NOWHERE", "base", "env"}},
			{"/bin\n", []string{"-e", "PATH", "-e", "PATH=/bin", "base", "sh", "-c", "echo $PATH"}},
			{"/\n", []string{"-u", "4242", "base", "sh", "-c", "echo $HOME"}},
			{"/home/dev\n", []string{"-u", "dev", "base", "sh", "-c", "echo $HOME"}},
			{"/mine\n", []string{"-e", "HOME=/mine", "base", "sh", "-c", "echo $HOME"}},
			{"/root\n", []string{"-e", "HOME=", "base", "sh", "-c", "echo $HOME"}},
			{"1777\n", []string{"--tmpfs", "/new", "base", "stat", "-c", "%a", "/new"}},
			{"700 rw,nosuid,nodev,relatime\n", []string{"--tmpfs", "/new:mode=700,exec,size=1m", "base", "sh", "-c", `echo $(stat -c %a /new) $(grep ' /new ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1-4)`}},
			{"0:755 0:755\n", []string{"-w", "/made/by", "-u", "dev", "base", "sh", "-c", "echo $(stat -c %u:%a /made /made/by)"}},
			{"::1 10.0.0.1 127.0.0.1\n", []string{"--add-host", "a=[::1]", "--add-host", "b:10.0.0.1", "--add-host", "c=host-gateway", "--network", "host", "base", "sh", "-c", "echo $(grep -w '[abc]$' /etc/hosts | cut -f1)"}},
		} {
			if got := m.Run(append([]string{"run"}, c.args...)...); got != c.want {
				t.Errorf("run %q: %q, want %q", c.args, got, c.want)
			}
		}
		dir := world(t, directory(t, map[string]string{"Dockerfile": "FROM base\nUSER 4242\nRUN echo $HOME >/tmp/home\nUSER dev\nRUN echo $HOME >>/tmp/home2\n"}))
		m.Run("build", "-q", "-t", "homes", dir)
		if got := m.Run("run", "homes", "cat", "/tmp/home", "/tmp/home2"); got != "/\n/home/dev\n" {
			t.Errorf("HOME of steps: %q", got)
		}
	})
}

// A process that cannot be started is one line, in Docker's words and with its codes.
func TestRunFailures(t *testing.T) {
	everyRuntime(t, func(t *testing.T, m *rig.Mica) {
		dir := world(t, directory(t, map[string]string{"Dockerfile": `FROM base
RUN printf '#!/no/such\n' >/bad; printf garbage >/format; chmod 755 /bad /format
`}))
		m.Run("build", "-q", "-t", "app", dir)
		for _, c := range []struct {
			code int
			want string
			args []string
		}{
			{1, "exec /bad: no such file or directory\n", []string{"app", "/bad"}},
			{1, "exec /format: exec format error\n", []string{"app", "/format"}},
			{127, "mica: exec: \"nosuch\": executable file not found in $PATH\n", []string{"app", "nosuch"}},
			{125, "mica: unable to find user nosuch: no matching entries in passwd file" + usage, []string{"-u", "nosuch", "app", "id"}},
		} {
			if out := m.Try(nil, append([]string{"run"}, c.args...)...); out.Code != c.code || out.Stderr != c.want {
				t.Errorf("run %q: exit code %d: %q, want %q", c.args, out.Code, out.Stderr, c.want)
			}
		}
		out := m.Try(nil, "run", "--tmpfs", "/dev/shm:bogus=1", "app", "true")
		if out.Code != 125 || !strings.HasPrefix(out.Stderr, "mica: OCI runtime create failed: ") || strings.Count(out.Stderr, "\n") != 1 {
			t.Errorf("exit code %d: %q", out.Code, out.Stderr)
		}
	})
}

// Whatever an image has in the place of its account files costs neither memory nor time.
func TestOddAccountsOfAnImage(t *testing.T) {
	everyRuntime(t, func(t *testing.T, m *rig.Mica) {
		dir := world(t, directory(t, map[string]string{"Dockerfile": `FROM base AS zero
RUN ln -sf /dev/zero /etc/passwd && ln -sf /dev/zero /etc/group
FROM base AS huge
RUN rm /etc/passwd /etc/group && truncate -s 11M /etc/passwd /etc/group
`}))
		for _, target := range []string{"zero", "huge"} {
			m.Run("build", "-q", "-t", target, "--target", target, dir)
			limited := *m
			limited.Prefix = append(slices.Clone(m.Prefix), "sh", "-c", `ulimit -d 600000 && exec "$0" "$@"`)
			out := limited.Try(nil, "run", "-u", "7:7", target, "sh", "-c", "echo $HOME")
			switch runc := strings.Contains(t.Name(), "runc"); {
			case !runc && out.Stdout != "/\n":
				t.Errorf("%s: %d %q %q", target, out.Code, out.Stdout, out.Stderr)
			case runc && (out.Code != 125 || !strings.Contains(out.Stderr, "/etc/passwd: it is ")):
				t.Errorf("%s: %d %q %q", target, out.Code, out.Stdout, out.Stderr)
			}
		}
	})
}

// A terminal of the container's own has the size of the user's, and follows it; without one, output alone is a terminal's.
func TestRunTerminal(t *testing.T) {
	everyRuntime(t, func(t *testing.T, m *rig.Mica) {
		console := rig.NewConsole(t)
		console.Resize(33, 77)
		cmd := m.Command("run", "-it", "base", "sh", "-c", "stty size; trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.05; done")
		console.Start(cmd)
		console.Expect("33 77\r\nready\r\n")
		console.Resize(44, 88)
		console.Expect("44 88\r\n")
		if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 3 {
			t.Errorf("%v", err)
		}
		console = rig.NewConsole(t)
		echo := m.Command("run", "-it", "base", "sh", "-c", "trap 'exit 7' INT; echo ready; cat")
		console.Start(echo)
		console.Expect("ready\r\n")
		console.Type("typed\n")
		console.Expect("typed\r\ntyped\r\n")
		console.Type("\x03") // the process's own terminal makes a signal of it
		if err := echo.Wait(); err == nil || echo.ProcessState.ExitCode() != 7 {
			t.Errorf("Ctrl-C: %v", err)
		}
		if out := m.Try(nil, "run", "-t", "base", "sh", "-c", "tty; echo $TERM; echo err >&2"); out.Stdout != "/dev/pts/0\r\nxterm\r\nerr\r\n" || out.Stderr != "" || out.Code != 0 {
			t.Errorf("without a terminal: %+v", out)
		}
	})
}

// The network's files are there below a volume on /etc, and nothing of them is left in an image.
func TestRunVolumeOnEtc(t *testing.T) {
	everyRuntime(t, func(t *testing.T, m *rig.Mica) {
		etc := filepath.Join(filepath.Dir(m.Root), "etc")
		rig.Must(t, "install", "-d", "-m", "777", etc)
		t.Cleanup(func() { _ = os.RemoveAll(etc) })
		want, err := os.ReadFile("/etc/resolv.conf")
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Run("run", "--network", "host", "-v", etc+":/etc", "base", "cat", "/etc/resolv.conf"); got != string(want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}
