//go:build e2e

package docker

import (
	"regexp"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// refusal is what is left of an error without who says it and where to read on.
var refusal = regexp.MustCompile(`(?s)^(docker: |mica: |Error response from daemon: )*|\.?\n+(Usage: .*|See |Run )'?.*$|\.?\n$`)

// Limits come to the same values as with the engine, and are refused in the same words.
func TestRunLimits(t *testing.T) {
	p := newPair(t)
	tar, err := rig.BusyboxTar(rig.TempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	const path = "ENV PATH=/bin"
	engine.Run(t, "import", "-c", path, tar, "base")
	p.mica.Run("import", "-c", path, tar, "base")
	const look = `cd /sys/fs/cgroup; for f in memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes memory/memory.soft_limit_in_bytes memory/memory.swappiness memory/memory.oom_control cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpu/cpu.shares cpuset/cpuset.cpus cpuset/cpuset.mems pids/pids.max memory.max memory.swap.max memory.low cpu.max cpu.weight pids.max; do [ ! -e $f ] || echo $f $(cat $f); done; ulimit -n; cat /proc/self/oom_score_adj`
	for _, flags := range []string{
		"", "-m 20m", "-m 20m --memory-swap -1", "-m 20m --memory-swap 20m", "-m 20m --memory-swap 10m", "--memory-swap 20m", "--memory-swap -1",
		"-m 5m", "-m x", "-m -5", "--memory-reservation 5m", "-m 20m --memory-reservation 30m", "-m 20m --memory-reservation 10m",
		"--memory-swappiness 101", "--memory-swappiness -2", "--memory-swappiness 30", "--oom-kill-disable", "--oom-kill-disable -m 20m",
		"--cpus 999", "--cpus a", "--cpus -1", "--cpus .5", "--cpus 1 --cpu-period 1000", "--cpus 1 --cpu-quota 10000",
		"--cpu-period 999", "--cpu-quota 999", "--cpu-quota -1", "--cpu-period 2000 --cpu-quota 1000", "-c 2",
		"--cpuset-cpus 0,999", "--cpuset-cpus x", "--cpuset-cpus 0", "--cpuset-mems 99", "--cpuset-mems 1-0",
		"--pids-limit 50", "--pids-limit -1", "--pids-limit -7", "--pids-limit 0",
		"--ulimit nofile=50:90", "--ulimit nofile=9:5", "--ulimit foo=9", "--ulimit nofile", "--ulimit nofile=1 --ulimit nofile=44",
		"--oom-score-adj 2000", "--oom-score-adj 200", "--blkio-weight 70000", "--blkio-weight 500", "--cgroupns x",
	} {
		args := append(append([]string{"run", "--rm", "--network", "none"}, strings.Fields(flags)...), "base", "sh", "-c", look)
		want, got := engine.Try(t, args...), p.mica.Try(nil, args...)
		if got.Code != want.Code || got.Stdout != want.Stdout {
			t.Errorf("%s: exit code %d, want %d\n%s%s\nwant\n%s%s", flags, got.Code, want.Code, got.Stdout, got.Stderr, want.Stdout, want.Stderr)
		}
		if g, w := refusal.ReplaceAllString(got.Stderr, ""), refusal.ReplaceAllString(inWordsOfToday(want.Stderr), ""); g != w {
			t.Errorf("%s: %q, want %q", flags, g, w)
		}
	}
}
