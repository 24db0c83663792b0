//go:build guest

package guest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// Limits are kept on cgroups of version 2: root's in a cgroup of mica's, a user's in a scope of the user's systemd.
func TestLimits(t *testing.T) {
	seats(t, func(t *testing.T, s seat, m *rig.Mica) {
		const look = `cd /sys/fs/cgroup; cat memory.max memory.swap.max memory.low cpu.max cpu.weight pids.max; ulimit -n
cat /proc/self/cgroup; touch x 2>&1; (for i in 1 2 3 4 5 6 7 8 9 10 11; do sleep 1 & done); exec dd if=/dev/zero of=/dev/null bs=60M count=1 iflag=fullblock`
		network := map[string]string{"crun": "host", "runc": "default"}[s.runtime]
		out := m.Try(nil, "run", "-m", "20m", "--memory-reservation", "10m", "--cpus", "1.5", "-c", "512", "--pids-limit", "10", "--ulimit", "nofile=64",
			"--network", network, "base", "sh", "-c", look)
		const want = "20971520\n20971520\n10485760\n150000 100000\n20\n10\n64\n0::/\ntouch: x: Read-only file system\n"
		if out.Stdout != want || out.Stderr != "sh: can't fork: Resource temporarily unavailable\n" || out.Code != 137 {
			t.Errorf("the container sees %q, %q, and exits with %d, want %q", out.Stdout, out.Stderr, out.Code, want)
		}
		dir := context(t, "FROM base\nRUN test \"$(cat /sys/fs/cgroup/memory.max):$(cat /sys/fs/cgroup/cpu.max)\" = '20971520:50000 100000'\n")
		m.Run("build", "-q", "-m", "20m", "--cpu-quota", "50000", dir)
		s.bakeLimits(t, m, dir)
		s.limitSets(t, m)
		if left := rig.Must(t, "find", "/sys/fs/cgroup", "-type", "d", "-name", "run-*-*-*"); left != "" {
			t.Errorf("cgroups that are left:\n%s", left)
		}
	})
}

// bakeLimits limits the steps of a target: mica starts anew for a user's before it reads the file for good.
func (s seat) bakeLimits(t *testing.T, m *rig.Mica, dir string) {
	t.Helper()
	if s.name != "tester-crun" {
		return
	}
	file := filepath.Join(dir, "docker-bake.hcl")
	target := "target \"default\" {\n no-cache = true\n resources = { memory = \"20m\", cpu-quota = 50000 }\n}\n"
	if err := os.WriteFile(file, []byte(target), 0o644); err != nil {
		t.Fatal(err)
	}
	m.Run("bake", "--progress", "quiet", "--allow", "fs.read="+dir, "-f", file, "--set", "*.context="+dir)
}

// limitSets limits by a controller that systemd does not delegate to users.
func (s seat) limitSets(t *testing.T, m *rig.Mica) {
	t.Helper()
	out := m.Try(nil, "run", "--cpuset-cpus", "1", "base", "cat", "/sys/fs/cgroup/cpuset.cpus.effective")
	if s.user == "root" {
		if out.Stdout != "1\n" {
			t.Errorf("cpuset: %q, %s", out.Stdout, out.Stderr)
		}
		return
	}
	if out.Code != 125 || !strings.HasPrefix(out.Stderr, "mica: resource limits: the cgroup controller cpuset is not delegated to you: run as root, or ") {
		t.Errorf("cpuset: exit code %d, %s", out.Code, out.Stderr)
	}
}

// Root of a container has no cgroup without processes to share out, and is told so.
func TestLimitsInContainer(t *testing.T) {
	s := seat{"root-crun", "root", "crun"}
	m := s.mica(t)
	const enter = `umount /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && "$0" "$@"`
	m.Prefix = []string{"systemd-run", "--quiet", "--property=Delegate=yes", "--wait", "--pipe", "--setenv=MICA_ROOT=" + m.Root, "unshare", "-C", "-m", "sh", "-c", enter}
	out := m.Try(nil, "run", "-m", "20m", "base", "true")
	if out.Code != 125 || !strings.HasPrefix(out.Stderr, "mica: resource limits need a cgroup of your own: this container's processes are in the cgroup") {
		t.Errorf("%+v", out)
	}
}

// Without a session there is nobody who delegates a cgroup, unless mica is started in one.
func TestLimitsWithoutSession(t *testing.T) {
	s := seat{"tester-crun", "tester", "crun"}
	m := s.mica(t)
	for name, prefix := range map[string][]string{
		"delegated": {"systemd-run", "--quiet", "--uid=tester", "--property=Delegate=yes", "--wait", "--pipe", "--setenv=HOME=/home/tester", "--setenv=MICA_ROOT=" + m.Root},
		"none":      {"setpriv", "--reuid", "tester", "--regid", "tester", "--init-groups", "--reset-env", "env", "XDG_RUNTIME_DIR=/nowhere", "MICA_ROOT=" + m.Root},
	} {
		m.Prefix = prefix
		out := m.Try(nil, "run", "-m", "20m", "base", "cat", "/sys/fs/cgroup/memory.max")
		if name == "delegated" && out.Stdout != "20971520\n" {
			t.Errorf("in a unit with a cgroup of its own: %+v", out)
		}
		if name == "none" && (out.Code != 125 || !strings.HasPrefix(out.Stderr, "mica: resource limits need a cgroup of your own: no systemd of yours answers in /nowhere: ")) {
			t.Errorf("without a session: %+v", out)
		}
	}
}
