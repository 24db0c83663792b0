//go:build e2e

package hurt

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// waits is a Dockerfile whose step says "is-2" and waits for letGo of the cache mount id.
func waits(id string) string {
	return "FROM base\nCOPY f /f\nRUN echo shared > /s\nRUN --mount=type=cache,id=" + id +
		",target=/c rm -f /c/go; mkfifo /c/go; echo " + id + " > /id; echo is-$((1+1)); cat /c/go\nRUN cat /f /s /id > /all\n"
}

// letGo lets the step go on that waits.
func (p *patient) letGo(id string) {
	p.t.Helper()
	ids, err := filepath.Glob(filepath.Join(p.Root, "mounts", "*", "id"))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, file := range ids {
		if got, err := os.ReadFile(file); err != nil || string(got) != "/"+id {
			continue
		}
		f, err := os.OpenFile(filepath.Join(filepath.Dir(file), "data", "go"), os.O_WRONLY, 0)
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			p.t.Fatal(err)
		}
		return
	}
	p.t.Fatalf("no cache mount %s", id)
}

// slow is a build that waits.
type slow struct {
	id     string
	cmd    *exec.Cmd
	finish func() string
}

func (p *patient) slow(id string) *slow {
	p.t.Helper()
	cmd, finish := p.running(" is-2", nil, "build", "--progress", "plain", "-t", id, context(p.t, waits(id)))
	p.t.Cleanup(func() { _ = cmd.Process.Kill() }) // of a test that failed
	return &slow{id, cmd, finish}
}

// end lets a build that waits go on: its image has what all its steps made.
func (p *patient) end(b *slow) {
	p.t.Helper()
	p.letGo(b.id)
	if last := b.finish(); b.cmd.ProcessState.ExitCode() != 0 {
		p.t.Fatalf("build %s: exit code %d: %s", b.id, b.cmd.ProcessState.ExitCode(), last)
	}
	if got, want := p.Run("run", b.id, "cat", "/all"), "content of f\nshared\n"+b.id+"\n"; got != want {
		p.t.Errorf("%s has %q, want %q", b.id, got, want)
	}
}

// count is the number of files in one of the store's directories.
func (p *patient) count(dir string) int {
	p.t.Helper()
	list, err := os.ReadDir(filepath.Join(p.Root, dir))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(list)
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

// TestPruneBesideBuild: prunes do not wait for a build, remove what it does not use, and leave it what it does, whatever they
// or rmi are told to remove.
func TestPruneBesideBuild(t *testing.T) {
	p := newPatient(t)
	p.Run("build", "-q", "-t", "other", context(t, "FROM base\nRUN echo other > /other\n"))
	b := p.slow("one")
	layers, blobs := p.count("layers"), p.count("blobs/sha256")
	if out := p.Run("image", "prune", "-af"); !strings.Contains(out, "untagged: other:latest") || strings.Contains(out, "untagged: base:latest") {
		t.Errorf("image prune: %s", out)
	}
	if out := p.Run("builder", "prune", "-af"); !strings.Contains(out, "Deleted build cache objects:") {
		t.Errorf("builder prune: %s", out)
	}
	p.Run("rmi", "-f", "base")
	// Of base, f and s nothing goes; the layers of app's RUN and of other do, and two manifests and configs.
	if got := p.count("layers"); got != layers-2 {
		t.Errorf("%d layers are left of %d", got, layers)
	}
	if got := p.count("blobs/sha256"); got != blobs-4 {
		t.Errorf("%d blobs are left of %d", got, blobs)
	}
	p.end(b)
	p.Run("rmi", "one")
	p.Run("builder", "prune", "-af")
	for _, dir := range []string{"layers", "blobs/sha256", "cache/records", "mounts", "tmp"} {
		if got := p.count(dir); got != 0 {
			t.Errorf("%d are left in %s when nobody uses them any more", got, dir)
		}
	}
}

// TestPrunesBesideAChainOfBuilds: builds that overlap, so that there is always one, keep nothing from being removed, and lose
// nothing.
func TestPrunesBesideAChainOfBuilds(t *testing.T) {
	p := newPatient(t)
	last := p.slow("b0")
	for i := range 100 {
		next := p.slow("b" + strconv.Itoa(i+1))
		p.Run("builder", "prune", "-af")
		p.end(last)
		if i%2 == 0 {
			p.Run("rmi", last.id)
		}
		p.Run("image", "prune", "-f")
		last = next
	}
	p.Run("builder", "prune", "-af")
	p.end(last)
	// base's layer, f, s and app's, and of each image that is left two of its own.
	if got, want := p.count("layers"), 4+2*51; got != want {
		t.Errorf("%d layers are left, want %d", got, want)
	}
	p.healthy()
}

// TestPrunesAndBuildsInALoop: builds that all share their steps, and prunes of all that is not used, as fast as they can.
func TestPrunesAndBuildsInALoop(t *testing.T) {
	p := newPatient(t)
	var builders, pruners sync.WaitGroup
	done := make(chan struct{})
	for _, prune := range [][]string{{"builder", "prune", "-af"}, {"image", "prune", "-f"}} {
		pruners.Go(func() {
			for {
				if out := p.Try(nil, prune...); out.Code != 0 || out.Stderr != "" {
					t.Errorf("%s: exit code %d: %s", prune, out.Code, out.Stderr)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	dir := context(t, "FROM base\nCOPY f /f\nRUN --mount=type=cache,target=/c cat /f > /one\nRUN cat /one > /two\n")
	for n := range 3 {
		builders.Go(func() {
			name := "loop" + strconv.Itoa(n)
			for range 34 {
				for _, args := range [][]string{{"build", "-q", "-t", name, dir}, {"run", name, "cat", "/two"}, {"save", "-o", "/dev/null", name}, {"rmi", name}} {
					if out := p.Try(nil, args...); out.Code != 0 {
						t.Errorf("%s: exit code %d: %s", args, out.Code, out.Stderr)
					}
				}
			}
		})
	}
	builders.Wait()
	close(done)
	pruners.Wait()
	p.healthy()
}

// TestBuildKilledBesidePrunes: what a build used goes with the next prune after its death.
func TestBuildKilledBesidePrunes(t *testing.T) {
	p := newPatient(t)
	p.Run("builder", "prune", "-af")
	before := p.state()
	b := p.slow("one")
	p.Run("builder", "prune", "-af")
	if p.state() == before {
		t.Error("the build has made nothing yet")
	}
	if err := b.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	b.finish()
	p.gone("cat /c/go")
	p.Run("builder", "prune", "-af")
	if after := p.state(); after != before {
		t.Errorf("the store changed:\n%s", difference(before, after))
	}
	if left := p.temporary(); len(left) > 0 {
		t.Errorf("tmp has %q", left)
	}
	p.healthy()
}

// TestPruneKilledBesideBuild: a prune that dies at any moment leaves a build what it uses, and nothing that stays.
func TestPruneKilledBesideBuild(t *testing.T) {
	p := newPatient(t)
	for i := range 20 {
		b := p.slow("b" + strconv.Itoa(i))
		p.Run("build", "-q", context(t, "FROM base\nRUN mkdir /m && cd /m && for i in $(seq 200); do echo $i > $i; done\n"))
		cmd := p.Command("image", "prune", "-f")
		if i%2 == 1 {
			cmd = p.Command("builder", "prune", "-af")
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		killer := time.AfterFunc(time.Duration(i)*800*time.Microsecond, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		killer.Stop()
		p.end(b)
		p.Run("rmi", b.id)
		p.healthy()
	}
	p.Run("image", "prune", "-f")
	p.Run("builder", "prune", "-af")
	if left := p.temporary(); len(left) > 0 {
		t.Errorf("tmp has %q", left)
	}
	if got := p.count("layers"); got != 3 { // app's
		t.Errorf("%d layers are left, want 3", got)
	}
	p.healthy()
}

// TestLeftoversBesideBuild: what a killed build left goes with the next command, at once, while another build runs.
func TestLeftoversBesideBuild(t *testing.T) {
	p := newPatient(t)
	b := p.slow("one")
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
	p.end(b)
	p.healthy()
}
