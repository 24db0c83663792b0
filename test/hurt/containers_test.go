//go:build e2e

package hurt

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// TestRootContainersOnFullDisk: what finds no room is refused with the reason and leaves nothing; containers, the server and the store stay as they are.
func TestRootContainersOnFullDisk(t *testing.T) {
	p := &patient{t, rig.NewMica(t)}
	disk := filepath.Join(rig.TempDir(t), "disk")
	p.Root = disk + ".mounted"
	if err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 32<<20), os.Mkdir(p.Root, 0o700)); err != nil {
		t.Fatal(err)
	}
	rig.Must(t, "mkfs.ext4", "-q", "-m", "0", disk)
	rig.Must(t, "mount", "-o", "loop", disk, p.Root)
	t.Cleanup(func() { rig.Must(t, "umount", p.Root) })
	rig.ImportBusybox(t, p.Mica, "base")
	p.Run("build", "-q", "-t", "app", context(t, "FROM base\nCOPY f /f\nRUN echo built > /built\n"))
	t.Run("served", func(t *testing.T) { p.containersOnFullDisk(t) })
	if left := p.temporary(); len(left) > 0 {
		t.Errorf("tmp holds %q", left)
	}
	p.healthy()
}

func (p *patient) containersOnFullDisk(t *testing.T) {
	dir := rig.TempDir(t)
	docker := rig.NewClient(t, rig.Serve(t, p.Mica, dir), dir)
	docker.Run("run", "-d", "--network", "none", "--name", "other", "-v", "volume:/data", "app", "sh", "-c", "echo begun; cat /f >/own; sleep 1000")
	docker.Run("create", "--network", "none", "--name", "created", "app", "true")
	docker.Run("run", "--network", "none", "--name", "changed", "app", "dd", "if=/dev/zero", "of=/large", "bs=1M", "count=4")
	before, temporary := p.state(), p.temporary()
	filler := filepath.Join(p.Root, "filler")
	for _, block := range []string{"bs=1M", "bs=1k"} {
		_ = exec.Command("dd", "if=/dev/zero", "of="+filler+block, block).Run()
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	big := tarOf(t, member{name: "big", data: strings.Repeat("x", 1<<20)})
	refuses := func(args ...string) {
		t.Helper()
		out := docker.Try(bytes.NewReader(big), args...)
		if out.Code == 0 || strings.Count(out.Stderr, "no space left on device") != 1 { // beside it docker says, now and then, that nobody reads its tar
			t.Errorf("%q on a full disk: exit code %d: %q", args, out.Code, out.Stderr)
		}
		if now := p.temporary(); strings.Join(now, " ") != strings.Join(temporary, " ") {
			t.Errorf("%q leaves %q, was %q", args, now, temporary)
		}
	}
	refuses("create", "--network", "none", "--name", "more", "app", "true")
	refuses("run", "--rm", "--network", "none", "app", "true")
	refuses("cp", "-", "other:/")
	refuses("cp", "-", "other:/data")
	refuses("cp", large, "created:/new") // of a directory docker says that it does not exist
	refuses("commit", "changed", "made")
	refuses("volume", "create", "another")
	if got := docker.Run("exec", "other", "sh", "-c", "cat /own; head -c 3000000 /dev/zero >/data/x; rm -f /data/x; i=0; while [ $i -lt 200 ]; do echo line; i=$((i+1)); done"); !strings.HasPrefix(got, "content of f\n") || strings.Count(got, "line\n") != 200 {
		t.Errorf("in a container that runs: %q", got)
	}
	if got := docker.Run("ps", "-a", "--format", "{{.Names}}"); got != "changed\ncreated\nother\n" {
		t.Errorf("containers: %q", got)
	}
	if after := p.state(); after != before {
		t.Errorf("the store changed:\n%s", difference(before, after))
	}
	for _, from := range []string{"other:/own", "created:/f", "changed:/large"} {
		if out := docker.Try(nil, "cp", from, filepath.Join(dir, "copy")); out.Code != 0 {
			t.Errorf("cp %s: %q", from, out.Stderr)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "copy")); err != nil || info.Size() != 4<<20 {
		t.Errorf("the copy of what a container has written: %v, %v", info, err)
	}
	docker.Run("export", "-o", filepath.Join(dir, "export.tar"), "changed")
	docker.Run("rm", "changed") // which makes room
	rig.Must(t, "rm", filler+"bs=1M", filler+"bs=1k")
	docker.Run("commit", "other", "made")
	if got := docker.Run("run", "--rm", "--network", "none", "made", "cat", "/own"); got != "content of f\n" {
		t.Errorf("%q", got)
	}
	docker.Run("rm", "-fv", "other", "created")
	docker.Run("volume", "rm", "volume")
}
