//go:build e2e

package hurt

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/micabuild/mica/test/rig"
)

// small gives the store a filesystem of a few megabytes.
func (p *patient) small(t *testing.T, size string) {
	t.Helper()
	p.Root = filepath.Join(rig.TempDir(t), "store")
	if err := os.Mkdir(p.Root, 0o700); err != nil {
		t.Fatal(err)
	}
	rig.Must(t, "mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", p.Root)
	t.Cleanup(func() { rig.Must(t, "umount", p.Root) })
}

func TestFullDisk(t *testing.T) {
	p := &patient{t, rig.NewMica(t)}
	p.small(t, "16m")
	rig.ImportBusybox(t, p.Mica, "base")
	p.Run("build", "-q", "-t", "app", context(t, "FROM base\nCOPY f /f\nRUN echo built > /built\n"))
	big := context(t, "FROM base\nCOPY big /big\n")
	if err := os.WriteFile(filepath.Join(big, "big"), bytes.Repeat([]byte("incompressible? "), 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	archive := archiveWith(t, tarOf(t, member{name: "big", data: strings.Repeat("x", 30<<20)}))
	const full = `no space left on device`
	p.refuses(1, full, nil, "build", "-t", "app", big)
	p.refuses(1, `exit code: 1|`+full, nil, "build", "-t", "app", context(t, "FROM base\nRUN head -c 30000000 /dev/zero > /big\n"))
	p.refuses(1, full, bytes.NewReader(archive), "load")
	p.refuses(1, full, bytes.NewReader(tarOf(t, member{name: "big", data: strings.Repeat("x", 30<<20)})), "import", "-", "x")
	p.refuses(1, full, bytes.NewReader(archive), "build", "-t", "app", "-")
	p.healthy()
	p.recordsFull(t)
	// To the last byte: names and records find no room either.
	filler := filepath.Join(p.Root, "filler")
	_ = exec.Command("dd", "if=/dev/zero", "of="+filler, "bs=4k").Run()
	if out := p.Try(nil, "images"); out.Code != 0 || !strings.Contains(out.Stdout, "app ") {
		t.Errorf("images on a full disk: %q %q", out.Stdout, out.Stderr)
	}
	if out := p.Try(nil, "build", "-t", "more", context(t, "FROM base\nENV A=1\n")); out.Code != 1 || !strings.Contains(out.Stderr, full) {
		t.Errorf("build on a full disk: %d %q", out.Code, out.Stderr)
	}
	if out := p.Try(nil, "rmi", "base"); out.Code != 0 {
		t.Errorf("rmi, which makes room, on a full disk: %q", out.Stderr)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	p.healthy()
}

// recordsFull: the history says of a build how it has ended on a disk that it has left full, and has the output for which there was room.
func (p *patient) recordsFull(t *testing.T) {
	t.Helper()
	const mount = "FROM base\nRUN --mount=type=cache,target=/c echo begins; dd if=/dev/zero of=/c/fill bs=4k; "
	p.refuses(1, `exit code: 7`, nil, "build", "-t", "app", context(t, mount+"seq 3000; exit 7\n"))
	if list := p.Run("builds", "ls"); !strings.Contains(strings.Split(list, "\n")[1], "Error") {
		t.Errorf("the build is not shown as failed: %s", list)
	}
	if out := p.Run("builds", "inspect"); !strings.Contains(out, "exit code: 7") {
		t.Errorf("the error is not shown: %s", out)
	}
	p.Run("builder", "prune", "-af")
	p.refuses(1, `exit code: 8`, nil, "build", "-t", "app", context(t, mount+"seq 3000; rm /c/fill; echo ends; exit 8\n"))
	if out := p.Run("builds", "logs"); !strings.Contains(out, "begins") || !strings.Contains(out, "ends") {
		t.Errorf("the output is lost: %s", out)
	}
	p.healthy()
}

// TestRootFullDiskOfFiles: a tree that is a file finds no room, in one line, and leaves nothing.
func TestRootFullDiskOfFiles(t *testing.T) {
	p := &patient{t, rig.NewMica(t)}
	disk := filepath.Join(rig.TempDir(t), "disk")
	p.Root = disk + ".mounted"
	if err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 24<<20), os.Mkdir(p.Root, 0o700)); err != nil {
		t.Fatal(err)
	}
	rig.Must(t, "mkfs.ext4", "-q", disk)
	rig.Must(t, "mount", "-o", "loop", disk, p.Root)
	t.Cleanup(func() { rig.Must(t, "umount", p.Root) })
	rig.ImportBusybox(t, p.Mica, "base")
	p.Run("build", "-q", "-t", "app", context(t, "FROM base\nCOPY f /f\nRUN echo built > /built\n"))
	if files, _ := filepath.Glob(filepath.Join(p.Root, "layers/*/tree.erofs")); len(files) != 2 {
		t.Fatalf("trees: %v", files)
	}
	for name, size := range map[string]int{"many": 4000, "large": 2 << 20} {
		dir := context(t, "FROM base\nCOPY d /d\nRUN true\n")
		if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
			t.Fatal(err)
		}
		for i := range 30 << 20 / size {
			if err := os.WriteFile(filepath.Join(dir, "d", strconv.Itoa(i)), bytes.Repeat([]byte{byte(i), 1, 2, 3}, size/4), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		before := p.state()
		out := p.Try(nil, "build", "-q", "-t", "app", dir)
		lines := strings.Split(strings.TrimSpace(out.Stderr), "\n")
		if last := lines[len(lines)-1]; out.Code != 1 || !strings.HasPrefix(last, "ERROR") || !strings.Contains(last, "no space left on device") {
			t.Errorf("%s: exit code %d, %q", name, out.Code, out.Stderr)
		}
		if p.state() != before {
			t.Errorf("%s: the store has changed", name)
		}
	}
	p.healthy()
}

// running starts mica and returns when a line of its stderr has the word.
func (p *patient) running(word string, stdin io.Reader, args ...string) (*exec.Cmd, func() string) {
	p.t.Helper()
	cmd := p.Command(args...)
	cmd.Stdin = stdin
	stderr, err := cmd.StderrPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	in := bufio.NewScanner(stderr)
	for in.Scan() {
		if strings.Contains(in.Text(), word) {
			break
		}
	}
	return cmd, func() string {
		var last string
		for in.Scan() {
			last = in.Text()
		}
		_ = cmd.Wait()
		return last
	}
}

// gone: no process of a step is left. Its command line has the word.
func (p *patient) gone(word string) {
	p.t.Helper()
	for range 200 {
		if exec.Command("pgrep", "-f", word).Run() != nil {
			return
		}
		time.Sleep(10 * time.Millisecond) // the kernel is at it: nothing tells when it is done
	}
	out, _ := exec.Command("pgrep", "-af", word).Output()
	p.t.Errorf("still running:\n%s", out)
}

func TestBuildInterrupted(t *testing.T) {
	for _, c := range []struct {
		sig  syscall.Signal
		code int
	}{{syscall.SIGINT, 130}, {syscall.SIGTERM, 143}, {syscall.SIGKILL, -1}} {
		t.Run(c.sig.String(), func(t *testing.T) {
			p := newPatient(t)
			before := p.state()
			dir := context(t, "FROM base\nRUN echo is-$((1+1)); touch /left; sleep 98765\n")
			cmd, wait := p.running(" is-2", nil, "build", "--progress", "plain", "-t", "app", dir)
			if err := cmd.Process.Signal(c.sig); err != nil {
				t.Fatal(err)
			}
			last := wait()
			if got := cmd.ProcessState.ExitCode(); got != c.code {
				t.Errorf("exit code %d, want %d", got, c.code)
			}
			if c.sig != syscall.SIGKILL && !strings.Contains(last, "cancel") {
				t.Errorf("says %q", last)
			}
			p.gone("sleep 98765")
			if after := p.state(); after != before {
				t.Errorf("the store changed:\n%s", difference(before, after))
			}
			p.healthy()
			p.Run("builder", "prune", "-f")
			p.Run("image", "prune", "-f")
			if left, err := os.ReadDir(filepath.Join(p.Root, "tmp")); err != nil || len(left) > 0 {
				t.Errorf("tmp holds %v %v", left, err)
			}
			p.healthy()
		})
	}
}

func TestRunInterrupted(t *testing.T) {
	p := newPatient(t)
	cmd, wait := p.running("ready", nil, "run", "app", "sh", "-c", `trap 'echo caught >&2; exit 42' INT; echo ready >&2; while :; do sleep 0.05; done`)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if last := wait(); last != "caught" || cmd.ProcessState.ExitCode() != 42 {
		t.Errorf("exit code %d, %q", cmd.ProcessState.ExitCode(), last)
	}
	cmd, wait = p.running("ready", nil, "run", "app", "sh", "-c", `echo ready >&2; sleep 98764`)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	wait()
	p.gone("sleep 98764")
	p.healthy()
}

// TestLoadKilled kills a load that waits for the second half of its archive.
func TestLoadKilled(t *testing.T) {
	p := newPatient(t)
	archive := archiveWith(t, tarOf(t, member{name: "big", data: strings.Repeat("x", 5<<20)}))
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		before := p.state()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := p.Command("load")
		cmd.Stdin = r
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
		// When all of this is written, mica has read all but what fits in a pipe.
		if _, err := w.Write(archive[:len(archive)/2]); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		_ = w.Close()
		if cmd.ProcessState.Success() {
			t.Error("it succeeded")
		}
		if after := p.state(); after != before {
			t.Errorf("%v: the store changed:\n%s", sig, difference(before, after))
		}
	}
	p.healthy()
	if out := p.Try(bytes.NewReader(archive), "load"); out.Code != 0 {
		t.Errorf("load: %s", out.Stderr)
	}
}

// TestRemoveKilled kills and interrupts rmi and prune at many instants: whatever is still listed is whole.
func TestRemoveKilled(t *testing.T) {
	p := newPatient(t)
	dir := context(t, "FROM base\nCOPY f /f\nRUN mkdir /m && cd /m && for i in $(seq 200); do echo $i > $i; done\n")
	for i := range 24 {
		p.Run("build", "-q", "-t", "victim", dir)
		args := []string{"rmi", "victim"}
		if i%2 == 1 {
			args = []string{"builder", "prune", "-af"}
			p.Run("rmi", "victim")
		}
		cmd := p.Command(args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		sig := syscall.SIGKILL
		if i%3 == 2 {
			sig = syscall.SIGINT
		}
		killer := time.AfterFunc(time.Duration(i)*700*time.Microsecond, func() { _ = cmd.Process.Signal(sig) })
		_ = cmd.Wait()
		killer.Stop()
		for _, ref := range strings.Fields(p.Run("images", "--format", "{{.Repository}}")) {
			if ref == "<none>" {
				continue
			}
			p.Run("save", "-o", "/dev/null", ref)
		}
		p.healthy()
	}
}

// TestTwoBuildsAtOnce: the same step runs once, though two processes want it, and both get the same image.
func TestTwoBuildsAtOnce(t *testing.T) {
	p := newPatient(t)
	dir := context(t, "FROM base\nRUN cat /proc/sys/kernel/random/uuid > /id; sleep 1\nRUN cat /proc/sys/kernel/random/uuid >> /id\n")
	ids := make(chan string, 4)
	for range cap(ids) {
		go func() { ids <- p.Try(nil, "build", "-q", dir).Stdout }()
	}
	first := <-ids
	for range cap(ids) - 1 {
		if id := <-ids; id != first || id == "" {
			t.Errorf("one build gives %q, another %q", first, id)
		}
	}
}

// TestBuildsAndPrunesAtOnce: who removes does not take away what others use.
func TestBuildsAndPrunesAtOnce(t *testing.T) {
	p := newPatient(t)
	done := make(chan rig.Output, 12)
	for i := range cap(done) {
		go func() {
			switch i % 3 {
			case 0:
				done <- p.Try(nil, "build", "-q", "-t", "x"+string(rune('a'+i)), context(t, "FROM base\nCOPY f /f"+string(rune('a'+i))+"\nRUN cat /f? && echo > /g\n"))
			case 1:
				done <- p.Try(nil, "builder", "prune", "-af")
			default:
				done <- p.Try(nil, "image", "prune", "-f")
			}
		}()
	}
	for range cap(done) {
		if out := <-done; out.Code != 0 {
			t.Errorf("exit code %d: %s", out.Code, out.Stderr)
		}
	}
	for _, ref := range []string{"xa", "xd", "xg", "xj"} {
		p.Run("run", ref, "ls", "/g")
	}
	p.healthy()
}
