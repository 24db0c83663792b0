//go:build e2e

package commands

import (
	"fmt"
	"os/exec"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// The cgroups of a mica that was killed go with the next one that runs a process, or prunes.
func TestCgroupsOfAKilledRun(t *testing.T) {
	m := newMica(t)
	left := func(cmd *exec.Cmd) string {
		of := fmt.Sprintf("*/mica/run-%d-*", cmd.Process.Pid)
		return rig.Run(t, exec.Command("find", "/sys/fs/cgroup", "-type", "d", "-path", of)).Stdout
	}
	for _, next := range [][]string{{"run", "base", "true"}, {"builder", "prune", "-f"}} {
		const sleep = "sleep 360043" // a command that no other test has
		cmd := m.Command("run", "base", "sh", "-c", "exec "+sleep)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running := func() bool { return rig.Run(t, exec.Command("pgrep", "-fx", sleep)).Code == 0 }
		rig.Eventually(t, "it runs", running)
		if left(cmd) == "" {
			t.Error("it has no cgroup: the test looks in the wrong place")
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		rig.Eventually(t, "it is killed", func() bool { return !running() })
		// The kernel keeps a cgroup for a moment after its last process has ended.
		rig.Eventually(t, fmt.Sprintf("the cgroups go with %v", next), func() bool {
			m.Run(next...)
			return left(cmd) == ""
		})
	}
}
