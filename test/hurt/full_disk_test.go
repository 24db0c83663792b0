//go:build e2e

package hurt

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// TestOutputsOnFullDisk: an archive that finds no room is refused in one line; the file of before stays, and nothing beside it.
func TestOutputsOnFullDisk(t *testing.T) {
	p := newPatient(t)
	disk := rig.TempDir(t)
	rig.Must(t, "mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk)
	t.Cleanup(func() { rig.Must(t, "umount", disk) })
	out := filepath.Join(disk, "out")
	if err := os.WriteFile(out, []byte("as before"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"save", "-o", out, "app"},
		{"build", "-q", "-o", "type=docker,dest=" + out, context(t, "FROM app\n")},
		{"build", "-q", "-o", "type=oci,dest=" + out, context(t, "FROM app\n")},
		{"build", "-q", "-o", "type=tar,dest=" + out, context(t, "FROM app\n")},
	} {
		p.refusesOnFullDisk(nil, args...)
		if got, err := os.ReadFile(out); err != nil || string(got) != "as before" {
			t.Errorf("%s: the file holds %.100q, %v", args[0], got, err)
		}
		if list, err := os.ReadDir(disk); err != nil || len(list) != 1 {
			t.Errorf("%s leaves %v, %v", args[0], list, err)
		}
	}
	for _, args := range [][]string{
		{"-o", "type=local,dest=" + filepath.Join(disk, "files")},
		{"-o", "type=oci,tar=false,dest=" + filepath.Join(disk, "layout")},
		{"-o", "type=cacheonly", "--cache-to", "type=local,dest=" + filepath.Join(disk, "cache")},
	} {
		p.refusesOnFullDisk(nil, append(append([]string{"build", "-q"}, args...), context(t, "FROM app\nRUN head -c 2000000 /dev/urandom >/more\n"))...)
	}
	p.healthy()
}

// TestArrivalsOnFullDisk: an image that finds no room is refused in one line, and leaves nothing of itself.
func TestArrivalsOnFullDisk(t *testing.T) {
	from := newPatient(t)
	random := make([]byte, 24<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(random)
	big := tarOf(t, member{name: "big", data: string(random)})
	if out := from.Try(bytes.NewReader(big), "import", "-", "big"); out.Code != 0 {
		t.Fatalf("%s", out.Stderr)
	}
	file := filepath.Join(rig.TempDir(t), "big.tar")
	from.Run("save", "-o", file, "big")
	registry, err := rig.StartRegistry(rig.TempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := registry.Stop(); err != nil {
			t.Error(err)
		}
	})
	remote := registry.Addr + "/big:latest"
	from.Run("tag", "big", remote)
	from.Run("push", "-q", remote)

	p := &patient{t, rig.NewMica(t)}
	p.small(t, "16m")
	rig.ImportBusybox(t, p.Mica, "base")
	p.Run("build", "-q", "-t", "app", context(t, "FROM base\nCOPY f /f\nRUN echo built > /built\n"))
	before := p.state()
	p.refusesOnFullDisk(nil, "load", "-i", file)
	p.refusesOnFullDisk(big, "import", "-", "big")
	p.refusesOnFullDisk(nil, "pull", "-q", remote)
	p.refuses(1, "no space left on device", nil, "build", "-q", context(t, "FROM "+remote+"\nCOPY f /f\n"))
	if after := p.state(); after != before {
		t.Errorf("the store changed:\n%s", difference(before, after))
	}
	if left := p.temporary(); len(left) > 0 {
		t.Errorf("tmp holds %q", left)
	}
	p.healthy()
}

func (p *patient) refusesOnFullDisk(stdin []byte, args ...string) {
	p.t.Helper()
	out := p.Try(bytes.NewReader(stdin), args...)
	lines := strings.Split(strings.TrimSpace(out.Stderr), "\n")
	if out.Code != 1 || len(lines) != 1 || !strings.Contains(lines[0], "no space left on device") {
		p.t.Errorf("%s on a full disk: exit code %d: %q", args[0], out.Code, out.Stderr)
	}
}
