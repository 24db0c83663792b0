//go:build e2e

package commands

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/micabuild/mica/test/rig"
)

// TestSocketLeftByAStep: a layer cannot hold it, and is whole without it, also for the next process.
func TestSocketLeftByAStep(t *testing.T) {
	m := newMica(t)
	m.Run("build", "-q", "-t", "app", directory(t, map[string]string{"Dockerfile": "FROM base\nRUN mkdir /s; syslogd -n -O /s/log & sleep 0.5; cp -a /dev/log /s/sock; test -S /s/sock; kill %1\n"}))
	if got := m.Run("run", "app", "ls", "-d", "/s"); got != "/s\n" {
		t.Errorf("%q", got)
	}
}

// TestPrefixesOfSHA256: the name of the algorithm is no prefix of an ID.
func TestPrefixesOfSHA256(t *testing.T) {
	m := newMica(t)
	m.Run("tag", "base", "sh")
	m.Run("tag", "base", "cafe")
	for _, ref := range []string{"s", "sha", "sha256"} {
		if out := m.Try(nil, "rmi", ref); out.Code == 0 {
			t.Errorf("rmi %s: %s", ref, out.Stdout)
		}
	}
	if got := m.Run("rmi", "sh", "cafe"); got != "Untagged: sh:latest\nUntagged: cafe:latest\n" {
		t.Errorf("rmi says %q", got)
	}
	m.Run("run", "base", "true")
}

// TestFailedExportLeavesTheTag: names move when nothing else can fail.
func TestFailedExportLeavesTheTag(t *testing.T) {
	m := newMica(t)
	m.Run("build", "-q", "-t", "app", directory(t, map[string]string{"Dockerfile": "FROM base\nENV A=1\n"}))
	id := m.Run("images", "-q", "app")
	out := m.Try(nil, "build", "-t", "app", "-o", "type=image", "-o", "type=tar,dest=/dev/full", directory(t, map[string]string{"Dockerfile": "FROM base\nENV A=2\n"}))
	if out.Code == 0 || m.Run("images", "-q", "app") != id {
		t.Errorf("exit code %d, app is %s, was %s", out.Code, m.Run("images", "-q", "app"), id)
	}
}

// TestUmask: the user's is for what mica writes for the user, not for what is in images.
func TestUmask(t *testing.T) {
	m := newMica(t)
	m.Prefix = []string{"sh", "-c", `umask 077; exec "$0" "$@"`}
	m.Run("build", "-q", "-t", "app", directory(t, map[string]string{"Dockerfile": "FROM base\nUSER dev\nRUN echo x > /tmp/x\n"}))
	if got := m.Run("run", "-u", "dev", "app", "sh", "-c", "stat -c %a / /tmp/x; umask"); got != "755\n644\n0022\n" {
		t.Errorf("%q", got)
	}
	file := filepath.Join(rig.TempDir(t), "x.tar")
	m.Run("save", "-o", file, "app")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

// TestContextChangesDuringTheBuild: what is copied is what the key was made of, or nothing is.
func TestContextChangesDuringTheBuild(t *testing.T) {
	m := newMica(t)
	dir := directory(t, map[string]string{"Dockerfile": "FROM base\nRUN echo is-$((1+1)); sleep 2\nCOPY f /f\n", "f": "ONE"})
	cmd := m.Command("build", "--progress", "plain", dir)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewScanner(stderr)
	for in.Scan() && !strings.Contains(in.Text(), " is-2") {
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("TWO"), 0o644); err != nil {
		t.Fatal(err)
	}
	for in.Scan() {
	}
	_ = cmd.Wait()
	// Whether the file was read before or after, the next build has what is there.
	id := strings.TrimSpace(m.Run("build", "-q", dir))
	if got := m.Run("run", id, "cat", "/f"); got != "TWO" {
		t.Errorf("the image has %q", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("ONE"), 0o644); err != nil {
		t.Fatal(err)
	}
	id = strings.TrimSpace(m.Run("build", "-q", dir))
	if got := m.Run("run", id, "cat", "/f"); got != "ONE" {
		t.Errorf("the image has %q", got)
	}
}

// TestTimesThatFilesystemsLack: an archive's year 2500 does not make a layer look damaged.
func TestTimesThatFilesystemsLack(t *testing.T) {
	m := newMica(t)
	dir := directory(t, map[string]string{"Dockerfile": "FROM base\nADD a.tar /a/\nRUN ls /a\n", "x": "x"})
	rig.Must(t, "tar", "--mtime=2500-01-01", "-C", dir, "-cf", filepath.Join(dir, "a.tar"), "x")
	m.Run("build", "-q", "-t", "app", dir)
	if got := m.Run("run", "app", "cat", "/a/x"); got != "x" {
		t.Errorf("%q", got)
	}
}

// TestOverlayAttributesOfAnArchive: they would speak to the mount.
func TestOverlayAttributesOfAnArchive(t *testing.T) {
	m := newMica(t)
	dir := directory(t, map[string]string{"Dockerfile": "FROM base\nADD a.tar /\nRUN cat /etc/passwd > /seen\n", "root/etc/x": "x"})
	rig.Must(t, "setfattr", "-n", "trusted.overlay.opaque", "-v", "y", filepath.Join(dir, "root/etc"))
	rig.Must(t, "tar", "--xattrs", "--xattrs-include=*", "-C", filepath.Join(dir, "root"), "-cf", filepath.Join(dir, "a.tar"), "etc")
	m.Run("build", "-q", "-t", "app", dir)
	if got := m.Run("run", "app", "wc", "-l", "/seen"); got != "3 /seen\n" {
		t.Errorf("%q", got)
	}
}

// TestProxiesOfTheEnvironment: their passwords would be in the history of an image that declares them.
func TestProxiesOfTheEnvironment(t *testing.T) {
	m := newMica(t)
	m.Env = []string{"HTTP_PROXY=http://user:secret@proxy.invalid", "HOME=" + rig.TempDir(t)}
	m.Run("build", "-q", "-t", "app", directory(t, map[string]string{"Dockerfile": "FROM base\nARG HTTP_PROXY\nRUN env > /env\n"}))
	if out := rig.Run(t, exec.Command("grep", "-rlE", "user:secret", m.Root)); out.Stdout != "" {
		t.Errorf("the password is in\n%s", out.Stdout)
	}
}

// TestRootlessKilled: with mica, everything ends that it has started for an ordinary user, and the host's cgroups are out
// of reach.
func TestRootlessKilled(t *testing.T) {
	m := asUser(t, "mica-killed", true)
	importWorld(t, m)
	if got := m.Run("run", "base", "sh", "-c", "ls /sys/fs/cgroup | wc -l; mkdir /sys/fs/cgroup/x 2>/dev/null || echo refused"); got != "0\nrefused\n" {
		t.Errorf("cgroups: %q", got)
	}
	cmd := m.Command("run", "base", "sh", "-c", "echo ready >&2; sleep 98763")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for in := bufio.NewScanner(stderr); in.Scan() && in.Text() != "ready"; {
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for range 300 {
		if exec.Command("pgrep", "-f", "sleep 98763").Run() != nil {
			return
		}
		time.Sleep(10 * time.Millisecond) // the kernel is at it: nothing tells when it is done
	}
	t.Error("the container is still running")
}
