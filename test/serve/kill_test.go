//go:build e2e

package serve

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// begin starts a build, and returns when its step has printed a word.
func begin(t *testing.T, build *exec.Cmd, word string) {
	t.Helper()
	stderr, err := build.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := build.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		if strings.HasSuffix(lines.Text(), " "+word) {
			return
		}
	}
	t.Fatalf("the build ends before it prints %q", word)
}

// runs reports whether a process has this command line.
func runs(t *testing.T, command string) bool {
	t.Helper()
	return rig.Run(t, exec.Command("pgrep", "-fx", command)).Code == 0
}

// mounts are the mounts of a store, in the mount namespaces of all processes.
func mounts(t *testing.T, m *rig.Mica) string {
	t.Helper()
	return rig.Must(t, "sh", "-c", `cat /proc/[0-9]*/mountinfo 2>/dev/null | grep -F "$1" | sort -u || true`, "sh", m.Root)
}

// TestKilledClient: the build of a client that is killed ends with its step, as do its mounts; those of other clients go on.
func TestKilledClient(t *testing.T) {
	m := rig.NewMica(t)
	rig.ImportBusybox(t, m, "base")
	s := start(t, m, rig.TempDir(t))
	sleep := fmt.Sprintf("sleep %d", 500000+os.Getpid())
	killed := s.buildctl(t, directory(t, map[string]string{"Dockerfile": "FROM base\nRUN --mount=type=cache,target=/c echo begun; " + sleep + "\n"}))
	begin(t, killed, "begun")
	gate := filepath.Join(rig.TempDir(t), "out")
	other := s.buildctl(t, directory(t, map[string]string{"Dockerfile": "FROM base\nRUN echo also; sleep 2; echo done >/done\n"}), "--output", "type=local,dest="+gate)
	begin(t, other, "also")
	_ = killed.Process.Kill()
	_ = killed.Wait()
	rig.Eventually(t, "the step ends", func() bool { return !runs(t, sleep) })
	if err := other.Wait(); err != nil {
		t.Errorf("the build of another client: %v", err)
	}
	rig.Eventually(t, "nothing is mounted", func() bool { return mounts(t, m) == "" })
	if list := m.Run("builds", "ls"); strings.Count(list, "Canceled") != 1 || strings.Count(list, "Completed") != 1 {
		t.Errorf("builds:\n%s", list)
	}
}

// TestKilledServer: a server that is killed leaves no process and no mount, and what it has not completed is removed by the next command
// that removes garbage.
func TestKilledServer(t *testing.T) {
	m := rig.NewMica(t)
	rig.ImportBusybox(t, m, "base")
	dir := rig.TempDir(t)
	s := start(t, m, dir)
	sleep := fmt.Sprintf("sleep %d", 600000+os.Getpid())
	build := s.buildctl(t, directory(t, map[string]string{"Dockerfile": "FROM base\nCOPY Dockerfile /\nRUN dd if=/dev/zero of=/big bs=1M count=20 && echo begun; " + sleep + "\n"}))
	begin(t, build, "begun")
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	_ = build.Wait()
	rig.Eventually(t, "the step ends", func() bool { return !runs(t, sleep) })
	rig.Eventually(t, "nothing is mounted", func() bool { return mounts(t, m) == "" })
	if list := m.Run("builds", "ls"); !strings.Contains(list, "Interrupted") && !strings.Contains(list, "Error") {
		t.Errorf("builds:\n%s", list)
	}
	m.Run("builder", "prune", "-a", "-f")
	if left := rig.Must(t, "find", filepath.Join(m.Root, "tmp"), "-mindepth", "1"); left != "" {
		t.Errorf("left in the store:\n%s", left)
	}
	again := start(t, m, dir)
	again.build(t, directory(t, map[string]string{"Dockerfile": "FROM base\nRUN echo works\n"}))
}

// TestRestartedServer: a server removes at its start what a killed one has left, and nothing of one that lives.
func TestRestartedServer(t *testing.T) {
	m := rig.NewMica(t)
	rig.ImportBusybox(t, m, "base")
	living := start(t, m, rig.TempDir(t))
	dir := directory(t, map[string]string{"Dockerfile": "FROM base\nRUN echo begun >/file; echo begun; sleep 1000\n"})
	other := living.buildctl(t, dir, "--no-cache")
	begin(t, other, "begun")
	t.Cleanup(func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	})
	temporary := func() string { return rig.Must(t, "ls", filepath.Join(m.Root, "tmp")) }
	before := temporary()
	place := rig.TempDir(t)
	killed := start(t, m, place)
	build := killed.buildctl(t, directory(t, map[string]string{"Dockerfile": "FROM base\nRUN echo begun >/other; echo begun; sleep 1000\n"}))
	begin(t, build, "begun")
	_ = killed.cmd.Process.Kill()
	_ = killed.cmd.Wait()
	_ = build.Wait()
	if temporary() == before {
		t.Fatal("the killed server has left nothing")
	}
	start(t, m, place)
	rig.Eventually(t, "what the killed server has left is removed", func() bool { return temporary() == before })
}

// TestOneStep: clients that build the same step at the same time run it once.
func TestOneStep(t *testing.T) {
	m := rig.NewMica(t)
	rig.ImportBusybox(t, m, "base")
	s := start(t, m, rig.TempDir(t))
	const mount = "RUN --mount=type=cache,target=/c "
	var builds []*exec.Cmd
	for i := range 4 {
		b := s.buildctl(t, directory(t, map[string]string{
			"Dockerfile": "FROM base\n" + mount + "echo run >>/c/runs; sleep 1\n" + mount + fmt.Sprintf("test $(wc -l </c/runs) = 1 && echo client %d\n", i),
		}))
		b.Stderr = os.Stderr
		if err := b.Start(); err != nil {
			t.Fatal(err)
		}
		builds = append(builds, b)
	}
	for _, b := range builds {
		if err := b.Wait(); err != nil {
			t.Error(err)
		}
	}
}
