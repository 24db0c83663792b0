//go:build e2e

package commands

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// limitsScript prints the limits of its cgroup, of either version, under version 2's names, and what it is told to do.
const limitsScript = `
c=/sys/fs/cgroup
has() { for f; do [ ! -e $c/$f ] || { echo $(cat $c/$f); return; }; done; echo none; }
echo memory $(has memory/memory.limit_in_bytes memory.max) pids $(has pids/pids.max pids.max) \
	cpus $(has cpuset/cpuset.cpus cpuset.cpus)
if [ -e $c/cpu ]; then
	echo cpu $(has cpu/cpu.cfs_quota_us) $(has cpu/cpu.cfs_period_us) shares $(has cpu/cpu.shares)
else
	echo cpu $(has cpu.max) weight $(has cpu.weight)
fi
ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj
`

// asRoot runs a test as root under each runtime.
func asRoot(t *testing.T, test func(t *testing.T, m *rig.Mica)) {
	t.Helper()
	for _, runtime := range []string{"crun", "runc"} {
		t.Run(runtime, func(t *testing.T) {
			m := newMica(t)
			m.Env = append(m.Env, "MICA_RUNTIME="+runtime)
			test(t, m)
		})
	}
}

func TestRunLimits(t *testing.T) {
	asRoot(t, func(t *testing.T, m *rig.Mica) {
		got := m.Run("run", "-m", "20m", "--cpus", "1.5", "-c", "512", "--cpuset-cpus", "0", "--pids-limit", "20", "--ulimit", "nofile=64:128",
			"--oom-score-adj", "300", "base", "sh", "-c", limitsScript)
		want := regexp.MustCompile("^memory 20971520 pids 20 cpus 0\ncpu 150000 100000 (shares 512|weight 20)\n64\n128\n300\n$")
		if !want.MatchString(got) {
			t.Errorf("the container sees\n%s", got)
		}
		for _, c := range []struct {
			code int
			want string
			args []string
		}{
			{137, "", []string{"-m", "20m", "--memory-swap", "20m", "base", "sh", "-c", "exec dd if=/dev/zero of=/dev/null bs=60M count=1"}},
			{2, "can't fork: Resource temporarily unavailable\n", []string{"--pids-limit", "5", "base", "sh", "-c", "for i in 1 2 3 4 5 6 7; do sleep 1 & done"}},
			{0, "", []string{"--cpu-quota", "-1", "--pids-limit", "-1", "--memory-swap", "-1", "base", "true"}},
			{125, "invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'" + flagUsage, []string{"-m", "x", "base", "true"}},
			{125, "mica: Minimum memory limit allowed is 6MB" + usage, []string{"-m", "5m", "base", "true"}},
			{125, "mica: Invalid value 2000, range for oom score adj is [-1000, 1000]" + usage, []string{"--oom-score-adj", "2000", "base", "true"}},
			{125, "mica: --cgroupns: invalid CGROUP mode" + usage, []string{"--cgroupns", "x", "base", "true"}},
		} {
			if out := m.Try(nil, append([]string{"run"}, c.args...)...); out.Code != c.code || !strings.HasSuffix(out.Stderr, c.want) {
				t.Errorf("run %q: exit code %d, %q, want %d, %q", c.args, out.Code, out.Stderr, c.code, c.want)
			}
		}
	})
}

func TestCgroupNamespace(t *testing.T) {
	asRoot(t, func(t *testing.T, m *rig.Mica) {
		const look = "grep -m 1 -e :pids: -e ^0:: /proc/self/cgroup | cut -d: -f3"
		if got := m.Run("run", "base", "sh", "-c", look); got != "/\n" {
			t.Errorf("by default, the cgroup is %q", got)
		}
		t.Cleanup(func() { removeParent(t, "mica-parent") })
		for _, parent := range []string{"mica-parent", "/../mica-parent"} {
			got := m.Run("run", "--cgroupns", "host", "--cgroup-parent", parent, "-m", "20m", "base", "sh", "-c", look)
			if !strings.HasPrefix(got, "/mica-parent/run-") {
				t.Errorf("below %s, the cgroup is %q", parent, got)
			}
		}
	})
}

// removeParent removes a cgroup that was named, from every hierarchy.
func removeParent(t *testing.T, name string) {
	t.Helper()
	for _, pattern := range []string{name, "*/" + name} {
		dirs, err := filepath.Glob("/sys/fs/cgroup/" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range dirs {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		}
	}
}

// The flags of mica build and the resources of a bake file are checked and set as those of mica run.
func TestBuildLimits(t *testing.T) {
	asRoot(t, func(t *testing.T, m *rig.Mica) {
		dir := directory(t, map[string]string{"Dockerfile": "FROM base\nRUN <<'S' sh >/limits\n" + limitsScript + "S\n"})
		if err := os.WriteFile(filepath.Join(dir, "docker-bake.hcl"), []byte(`
target "default" {
  tags = ["app"]
  no-cache = true
  ulimits = ["nofile=64:128"]
  resources = { memory = "20m", cpu-quota = 50000, cpu-period = 100000, cpu-shares = 512, cpuset-cpus = "0" }
}
`), 0o644); err != nil {
			t.Fatal(err)
		}
		want := regexp.MustCompile("^memory 20971520 pids max cpus 0\ncpu 50000 100000 (shares 512|weight 20)\n64\n128\n")
		for _, args := range [][]string{
			{"build", "-q", "--no-cache", "-t", "app", "-m", "20m", "--cpu-quota", "50000", "--cpu-period", "100000", "-c", "512", "--cpuset-cpus", "0", "--ulimit", "nofile=64:128", dir},
			{"bake", "--allow", "fs.read=" + dir, "-f", filepath.Join(dir, "docker-bake.hcl"), "--set", "*.context=" + dir, "--progress", "quiet"},
		} {
			m.Run(args...)
			if got := m.Run("run", "app", "cat", "/limits"); !want.MatchString(got) {
				t.Errorf("%s: the step sees\n%s", args[0], got)
			}
		}
		if out := m.Try(nil, "build", "-q", "-m", "5m", dir); out.Code != 1 || out.Stderr != "Error: Minimum memory limit allowed is 6MB\n" {
			t.Errorf("too little memory: exit code %d, %q", out.Code, out.Stderr)
		}
	})
}

// An ordinary user without a session cannot have limits, and is told why before anything else happens.
func TestLimitsOfAUser(t *testing.T) {
	m := asUser(t, "mica-limits", true)
	for _, args := range [][]string{{"run", "-m", "20m", "base", "true"}, {"run", "--cgroup-parent", "x", "base", "true"}} {
		out := m.Try(nil, args...)
		if out.Code != 125 || !strings.HasPrefix(out.Stderr, "mica: resource limits need ") || strings.Count(out.Stderr, "\n") != 3 {
			t.Errorf("%q: exit code %d, %q", args, out.Code, out.Stderr)
		}
	}
	importWorld(t, m)
	if got := m.Run("run", "--ulimit", "nofile=64:128", "base", "sh", "-c", "ulimit -n; ulimit -Hn"); got != "64\n128\n" {
		t.Errorf("--ulimit: %q", got)
	}
}
