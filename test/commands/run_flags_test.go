//go:build e2e

package commands

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// runCase is a run and what it prints and ends with.
type runCase struct {
	code int
	want string // of stdout and stderr
	args []string
}

func checkRuns(t *testing.T, m *rig.Mica, cases []runCase) {
	t.Helper()
	for _, c := range cases {
		out := m.Try(nil, append([]string{"run"}, c.args...)...)
		if got := out.Stdout + out.Stderr; got != c.want || out.Code != c.code {
			t.Errorf("run %q: exit code %d: %q, want %d: %q", c.args, out.Code, got, c.code, c.want)
		}
	}
}

// usage is what follows an error before the process starts.
const usage = "\n\nRun 'mica run --help' for more information\n"

// flagUsage is what follows an error in a flag.
const flagUsage = "\n\nUsage:  mica run [OPTIONS] IMAGE|BUILD:STEP [COMMAND] [ARG...]" + usage

// An init starts the command, reaps what it leaves, forwards signals, and speaks as tini does.
func TestRunInit(t *testing.T) {
	everyRuntime(t, func(t *testing.T, m *rig.Mica) {
		checkRuns(t, m, []runCase{
			{127, "[FATAL tini (7)] exec nosuch failed: No such file or directory\n", []string{"--init", "base", "nosuch"}},
			{126, "[FATAL tini (7)] exec /etc/passwd failed: Permission denied\n", []string{"--init", "base", "/etc/passwd"}},
			{0, "/sbin/docker-init -- cat /proc/1/cmdline ", []string{"--init", "base", "sh", "-c", `exec cat /proc/1/cmdline | tr '\0' ' ' | sed 's/sh -c.*/cat \/proc\/1\/cmdline /'`}},
			{5, "", []string{"--init", "-u", "4242:4242", "base", "sh", "-c", "exit 5"}},
			{137, "", []string{"--init", "base", "sh", "-c", "kill -9 $$"}},
			// What a process leaves behind becomes the init's, which reaps it.
			{0, "1\n", []string{"--init", "base", "sh", "-c", `(sleep 0.5 & echo $! >/pid); pid=$(cat /pid); awk '{print $4}' /proc/$pid/stat; while [ -d /proc/$pid ]; do sleep 0.01; done`}},
			{3, "got\n", []string{"--init", "base", "sh", "-c", "trap 'echo got; exit 3' USR1; kill -USR1 1; while :; do sleep 0.01; done"}},
		})
		console := rig.NewConsole(t)
		cmd := m.Command("run", "--init", "-it", "base", "sh", "-c", "trap 'exit 7' INT; echo ready; while :; do sleep 0.01; done")
		console.Start(cmd)
		console.Expect("ready\r\n")
		console.Type("\x03") // the terminal's foreground is the command
		if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 7 {
			t.Errorf("Ctrl-C: %v", err)
		}
	})
}

// A script finds itself in $0 as the command was written, in containers and in builds.
func TestScriptNamesItself(t *testing.T) {
	everyRuntime(t, func(t *testing.T, m *rig.Mica) {
		dir := world(t, directory(t, map[string]string{"Dockerfile": `FROM base
WORKDIR /w/bin
RUN printf '#!/bin/sh -e\necho "$0" "$@"\n' >x && cp x y && printf '#!/no/such\n' >bad && chmod 755 x bad
WORKDIR /w
RUN ["./bin/x", "built"]
RUN ["bin/../bin/x"]
`}))
		if out := m.Try(nil, "build", "--progress", "plain", "-t", "app", dir); out.Code != 0 || !strings.Contains(out.Stderr, " ./bin/x built\n") ||
			!strings.Contains(out.Stderr, " bin/../bin/x\n") {
			t.Fatalf("exit code %d: %s", out.Code, out.Stderr)
		}
		volume := filepath.Join(filepath.Dir(m.Root), "scripts")
		rig.Must(t, "install", "-d", "-m", "755", volume)
		t.Cleanup(func() { _ = os.RemoveAll(volume) })
		if err := os.WriteFile(filepath.Join(volume, "s"), []byte("#!/bin/sh\necho $0 $*\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		checkRuns(t, m, []runCase{
			{0, "./bin/x a  b\n", []string{"app", "./bin/x", "a ", "b"}},
			{0, "bin/x\n", []string{"app", "bin/x"}},
			{0, "../w/bin/x\n", []string{"app", "../w/bin/x"}},
			{0, "/w/bin/x\n", []string{"app", "/w/bin/x"}},
			{0, "/w/bin/x\n", []string{"-e", "PATH=/w/bin:/bin", "app", "x"}},
			{0, "./s 1\n", []string{"-v", volume + ":/v", "-w", "/v", "app", "./s", "1"}},
			{126, "mica: exec: \"./bin/y\": permission denied\n", []string{"app", "./bin/y"}},
			{1, "exec ./bin/bad: no such file or directory\n", []string{"app", "./bin/bad"}},
		})
	})
}

// Mounts are as Docker's --mount makes them; the values were compared with Docker 20.10.
func TestRunMounts(t *testing.T) {
	everyRuntime(t, func(t *testing.T, m *rig.Mica) {
		dir := filepath.Join(filepath.Dir(m.Root), "mounts")
		rig.Must(t, "install", "-d", "-m", "777", dir)
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		if err := os.WriteFile(filepath.Join(dir, "f"), []byte("host\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		const bind, options = "type=bind,src=", "grep ' /t ' /proc/mounts | cut -d' ' -f4"
		checkRuns(t, m, []runCase{
			{0, "host\n", []string{"--mount", bind + dir + ",dst=/t", "base", "cat", "/t/f"}},
			{0, "host\n", []string{"--mount", bind + dir + "/f,dst=/t/made/f", "base", "cat", "/t/made/f"}},
			{1, "touch: /t/g: Read-only file system\n", []string{"--mount", bind + dir + ",dst=/t,readonly", "base", "touch", "/t/g"}},
			{0, "README\nCOPYRIGHT\n", []string{"--mount", "type=volume,dst=/usr/share/doc", "base", "sh", "-c", "cd /usr/share/doc && ls README && ls COPYRIGHT"}},
			{0, "", []string{"--mount", "dst=/usr/share/doc,volume-nocopy", "base", "ls", "/usr/share/doc"}},
			{0, "rw,nosuid,nodev,noexec,relatime,size=1024k,mode=700\n", []string{"--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700", "base", "sh", "-c", options + " | sed 's/,uid=.*//'"}},
			{0, "1777\n", []string{"--mount", "type=tmpfs,dst=/t", "base", "stat", "-c", "%a", "/t"}},
			{125, `mica: invalid mount config for type "bind": bind source path does not exist: /nosuch` + usage, []string{"--mount", bind + "/nosuch,dst=/t", "base", "true"}},
			{125, "mica: Duplicate mount point: /t" + usage, []string{"--mount", bind + dir + ",dst=/t", "--tmpfs", "/t", "base", "true"}},
		})
		m.Run("run", "--mount", bind+dir+"/made,dst=/t,bind-create-src", "base", "touch", "/t/g")
		if _, err := os.Stat(dir + "/made/g"); err != nil {
			t.Error(err)
		}
	})
}

// What is mounted below a source is read-only with it, but where the mount says otherwise.
func TestRunMountsRecursive(t *testing.T) {
	for _, runtime := range []string{"crun", "runc"} {
		m := newMica(t)
		m.Env = append(m.Env, "MICA_RUNTIME="+runtime)
		dir := rig.TempDir(t)
		rig.Must(t, "mkdir", dir+"/below")
		rig.Must(t, "mount", "-t", "tmpfs", "below", dir+"/below")
		t.Cleanup(func() { rig.Must(t, "umount", dir+"/below") })
		for options, want := range map[string]string{
			"":                                 "rw rw",
			",ro":                              "ro ro",
			",ro,bind-recursive=writable":      "ro rw",
			",bind-recursive=disabled":         "rw",
			",readonly,bind-recursive=enabled": "ro ro",
		} {
			got := m.Run("run", "--mount", "type=bind,src="+dir+",dst=/t"+options, "base", "sh", "-c", "echo $(grep ' /t' /proc/mounts | cut -d' ' -f4 | cut -d, -f1)")
			if got != want+"\n" {
				t.Errorf("%s %s: %s, want %s", runtime, options, got, want)
			}
		}
	}
}

// The files of the network say what the flags say.
func TestRunNames(t *testing.T) {
	everyRuntime(t, func(t *testing.T, m *rig.Mica) {
		dns := []string{"--dns", "1.1.1.1", "--dns", "::2", "--dns-search", "a.b", "--dns-option", "ndots:3", "base", "cat", "/etc/resolv.conf"}
		for _, network := range []string{"default", "none", "host"} {
			want := "nameserver 1.1.1.1\nnameserver ::2\nsearch a.b\noptions ndots:3\n"
			if got := m.Run(append([]string{"run", "--network", network}, dns...)...); got != want {
				t.Errorf("%s: %q, want %q", network, got, want)
			}
		}
		checkRuns(t, m, []runCase{
			{0, "h\nh\n", []string{"-h", "h", "base", "sh", "-c", "cat /etc/hostname; echo $HOSTNAME; echo >>/etc/hostname"}},
			{125, "invalid argument \"x\" for \"--dns\" flag: IP address is not correctly formatted: x" + flagUsage, []string{"--dns", "x", "base", "true"}},
			{125, "invalid argument \".%\" for \"--dns-search\" flag: .% is not a valid domain" + flagUsage, []string{"--dns-search", ".%", "base", "true"}},
			{125, "invalid argument \"-1\" for \"--shm-size\" flag: invalid size: '-1'" + flagUsage, []string{"--shm-size", "-1", "base", "true"}},
		})
		for size, want := range map[string]string{"1m": "1024", "0": "65536"} {
			got := m.Run("run", "--shm-size", size, "base", "sh", "-c", "df -k /dev/shm | awk 'END {print $2}'")
			if got != want+"\n" {
				t.Errorf("--shm-size %s: %s KiB, want %s", size, got, want)
			}
		}
		if got := m.Run("run", "base", "cat", "/etc/hostname"); len(got) != len(fmt.Sprintln("0123456789ab")) {
			t.Errorf("hostname %q", got)
		}
	})
}

// What separates a container from the host is as the flags say; the values and the errors were compared with Docker 20.10.
func TestRunIsolation(t *testing.T) {
	everyRuntime(t, func(t *testing.T, m *rig.Mica) {
		host := strings.TrimSpace(rig.Must(t, "hostname"))
		profile := filepath.Join(rig.TempDir(t), "profile.json")
		if err := os.WriteFile(profile, []byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}`), 0o644); err != nil {
			t.Fatal(err)
		}
		rig.Must(t, "chmod", "755", filepath.Dir(profile))
		const status = "/proc/self/status"
		checkRuns(t, m, []runCase{
			{0, "NoNewPrivs:\t1\n", []string{"--security-opt", "no-new-privileges", "base", "grep", "NoNew", status}},
			{0, "Seccomp:\t0\n", []string{"--security-opt", "seccomp=unconfined", "base", "grep", "Seccomp:", status}},
			{0, "Seccomp:\t2\n", []string{"base", "grep", "Seccomp:", status}},
			{1, "mkdir: can't create directory '/x': Operation not permitted\n", []string{"--security-opt", "seccomp=" + profile, "base", "mkdir", "/x"}},
			{1, "0\n", []string{"--security-opt", "systempaths=unconfined", "base", "grep", "-c", " /proc/", "/proc/mounts"}},
			{1, "ls: /dev/shm: No such file or directory\n", []string{"--ipc", "none", "base", "ls", "/dev/shm"}},
			{0, "1777\n", []string{"--ipc", "host", "base", "stat", "-c", "%a", "/dev/shm"}},
			{0, host + "\n" + host + "\n", []string{"--uts", "host", "base", "sh", "-c", "hostname; cat /etc/hostname"}},
			{0, host + "\n", []string{"--network", "host", "base", "hostname"}},
			{0, "h\n127.0.0.1\tlocalhost h.a.b h\n", []string{"--network", "none", "-h", "h", "--domainname", "a.b", "base", "sh", "-c", "hostname; head -n1 /etc/hosts"}},
			{0, "1\n", []string{"--network", "none", "--sysctl", "net.ipv4.ip_forward=1", "base", "cat", "/proc/sys/net/ipv4/ip_forward"}},
			{0, "", []string{"--userns", "host", "--ipc", "shareable", "-l", "a=b", "--label", "c", "--detach=false", "--restart", "no", "--health-cmd", "x", "--isolation", "default", "base", "true"}},
			{125, `mica: sysctl "net.ipv4.ip_forward" not allowed in host network namespace` + usage, []string{"--network", "host", "--sysctl", "net.ipv4.ip_forward=1", "base", "true"}},
			{125, `mica: sysctl "kernel.shmmax" not allowed in host ipc namespace` + usage, []string{"--ipc", "host", "--sysctl", "kernel.shmmax=1", "base", "true"}},
			{125, "invalid argument \"vm.swappiness=1\" for \"--sysctl\" flag: sysctl 'vm.swappiness=1' is not allowed" + flagUsage, []string{"--sysctl", "vm.swappiness=1", "base", "true"}},
			{125, "mica: invalid IPC mode: x" + usage, []string{"--ipc", "x", "base", "true"}},
			{125, "mica: conflicting options: hostname and the UTS mode" + usage, []string{"--uts", "host", "-h", "x", "base", "true"}},
			{125, "mica: --pid host is not possible: mica's processes have a pid namespace that ends with mica: leave it out" + usage, []string{"--pid", "host", "base", "true"}},
			{125, "mica: --userns: invalid USER mode" + usage, []string{"--userns", "x", "base", "true"}},
			{125, "mica: invalid signal: X" + usage, []string{"--stop-signal", "X", "base", "true"}},
			{125, "mica: --detach is not supported: mica has no daemon: run it with & or as a service (systemd-run mica run …)" + usage, []string{"-d", "base", "true"}},
			{125, "mica: --link is not supported: containers do not see each other" + usage, []string{"--link", "a:b", "base", "true"}},
			{125, "mica: --restart is not supported: a container is removed when it ends: start it again from a script or a service" + usage, []string{"--restart", "always", "base", "true"}},
			{125, "invalid argument \"=x\" for \"-l, --label\" flag: invalid label '=x': empty name" + flagUsage, []string{"-l", "=x", "base", "true"}},
		})
	})
}

// The ID of a container is written to a new file, and its first digits are the hostname.
func TestRunCIDFile(t *testing.T) {
	m := newMica(t)
	file := filepath.Join(rig.TempDir(t), "cid")
	name := m.Run("run", "--cidfile", file, "base", "hostname")
	id, err := os.ReadFile(file)
	if err != nil || len(id) != 64 || !strings.HasPrefix(string(id), strings.TrimSpace(name)) {
		t.Errorf("%s: %s %v", name, id, err)
	}
	checkRuns(t, m, []runCase{
		{125, "mica: container ID file found, make sure the other container isn't running or delete " + file + usage, []string{"--cidfile", file, "base", "true"}},
	})
}

// A container has the devices that it is given, as far as the user may use them, and no others.
func TestRunDevices(t *testing.T) {
	spec := "/var/run/cdi/mica-test.yaml"
	rig.Must(t, "mkdir", "-p", filepath.Dir(spec))
	t.Cleanup(func() { _ = os.Remove(spec) })
	if err := os.WriteFile(spec, []byte(`cdiVersion: 0.6.0
kind: mica.test/thing
containerEdits:
  env: [THING=set]
devices:
- name: z
  containerEdits:
    deviceNodes: [{path: /dev/thing, hostPath: /dev/zero}]
    mounts: [{hostPath: /etc/hostname, containerPath: /thing/name, options: [ro]}]
    hooks: [{hookName: createRuntime, path: /bin/sh, args: [sh, -c, "cat > /dev/null"]}]
`), 0o644); err != nil {
		t.Fatal(err)
	}
	everyRuntime(t, func(t *testing.T, m *rig.Mica) {
		host := rig.Must(t, "cat", "/etc/hostname")
		checkRuns(t, m, []runCase{
			{0, "3\n", []string{"--device", "/dev/zero:/dev/x:r", "base", "sh", "-c", "head -c3 /dev/x | wc -c"}},
			{0, "3\n", []string{"--device", "/dev/zero:/x/y", "base", "sh", "-c", "head -c3 /x/y | wc -c"}},
			{0, "set 3 " + host, []string{"--device", "mica.test/thing=z", "base", "sh", "-c", "echo $THING $(head -c3 /dev/thing | wc -c) $(cat /thing/name)"}},
			{125, `mica: error gathering device information while adding custom device "/dev/nosuch": no such file or directory` + usage, []string{"--device", "/dev/nosuch", "base", "true"}},
			{125, `mica: error gathering device information while adding custom device "/etc/passwd": not a device node` + usage, []string{"--device", "/etc/passwd", "base", "true"}},
			{125, "mica: bad mode specified: q" + usage, []string{"--device", "/dev/null:/dev/x:q", "base", "true"}},
			{125, "mica: CDI device injection failed: unresolvable CDI devices mica.test/thing=no: looked in /etc/cdi and /var/run/cdi" + usage, []string{"--device", "mica.test/thing=no", "base", "true"}},
			{125, `mica: could not select device driver "" with capabilities: [[gpu]]: unresolvable CDI devices nvidia.com/gpu=all: looked in /etc/cdi and /var/run/cdi: "nvidia-ctk cdi generate" describes NVIDIA's` + usage, []string{"--gpus", "all", "base", "true"}},
		})
		if strings.Contains(t.Name(), "user") {
			out := m.Try(nil, "run", "--device", "/dev/loop0:/dev/x", "base", "sh", "-c", "exec 3</dev/x")
			if out.Code == 0 {
				t.Error("a user's container opens a disk")
			}
			return
		}
		checkRuns(t, m, []runCase{
			{0, "b 7:0 600\n", []string{"--device", "/dev/loop0:/dev/x:r", "base", "sh", "-c", "exec 3</dev/x; (exec 4>/dev/x) 2>/dev/null || stat -c 'b %t:%T %a' /dev/x"}},
			{0, "", []string{"--device-cgroup-rule", "b 7:* rwm", "base", "sh", "-c", "mknod /x b 7 0; exec 3</x"}},
		})
	})
}
