//go:build e2e

package hurt

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// waiting is a Dockerfile whose step waits until somebody puts a file into its cache mount.
const waiting = "FROM base\nCOPY f /f\nRUN --mount=type=cache,target=/c echo is-$((1+1)); until [ -e /c/go ]; do sleep 0.05; done\n"

func (p *patient) letGo() {
	p.t.Helper()
	dirs, err := filepath.Glob(filepath.Join(p.Root, "mounts", "*", "data"))
	if err != nil || len(dirs) == 0 {
		p.t.Fatalf("no cache mounts: %v", err)
	}
	for _, dir := range dirs {
		if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *patient) temporary() []string {
	p.t.Helper()
	list, err := os.ReadDir(filepath.Join(p.Root, "tmp"))
	if err != nil {
		p.t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// TestPruneBesideBuild: a prune names the build that it waits for, and leaves when it is told to.
func TestPruneBesideBuild(t *testing.T) {
	p := newPatient(t)
	build, built := p.running(" is-2", nil, "build", "--progress", "plain", "-t", "slow", context(t, waiting))
	by := "process " + strconv.Itoa(build.Process.Pid) + " has the store in use"
	for _, prune := range [][]string{{"builder", "prune", "-af"}, {"image", "prune", "-af"}} {
		before := p.state()
		if out := p.Try(nil, append(prune, "--no-wait")...); out.Code != 1 || !strings.Contains(out.Stderr, by) {
			t.Errorf("%s --no-wait: exit code %d: %s", prune, out.Code, out.Stderr)
		}
		cmd, ended := p.running(by, nil, prune...)
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if last := ended(); cmd.ProcessState.ExitCode() != 130 {
			t.Errorf("%s, interrupted: exit code %d: %s", prune, cmd.ProcessState.ExitCode(), last)
		}
		if after := p.state(); after != before {
			t.Errorf("%s changed the store:\n%s", prune, difference(before, after))
		}
	}
	prune, pruned := p.running(by, nil, "builder", "prune", "-af")
	p.letGo()
	last := built()
	if lastOfPrune := pruned(); build.ProcessState.ExitCode() != 0 || prune.ProcessState.ExitCode() != 0 {
		t.Errorf("exit codes %d, %d: %s\n%s", build.ProcessState.ExitCode(), prune.ProcessState.ExitCode(), last, lastOfPrune)
	}
	p.Run("run", "slow", "ls", "/f")
	p.healthy()
}

// TestLeftoversBesideBuild: what a killed build left goes with the next command, at once, while another build runs.
func TestLeftoversBesideBuild(t *testing.T) {
	p := newPatient(t)
	build, built := p.running(" is-2", nil, "build", "--progress", "plain", "-t", "slow", context(t, waiting))
	before := p.temporary()
	killed, ended := p.running(" is-4", nil, "build", "--progress", "plain", context(t, "FROM base\nRUN echo is-$((2+2)); sleep 98766\n"))
	if len(p.temporary()) <= len(before) {
		t.Error("the second build has nothing in tmp")
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	ended()
	p.gone("sleep 98766")
	p.Run("images")
	if after := p.temporary(); !slices.Equal(before, after) {
		t.Errorf("tmp has %q, want %q", after, before)
	}
	p.letGo()
	if last := built(); build.ProcessState.ExitCode() != 0 {
		t.Errorf("exit code %d: %s", build.ProcessState.ExitCode(), last)
	}
	p.healthy()
}
