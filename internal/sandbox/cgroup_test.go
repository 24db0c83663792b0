package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRemoveCgroups(t *testing.T) {
	root := t.TempDir()
	dead := exitedPID(t)
	alive := (&bundle{dir: "/store/tmp/run-1", owner: cgroupOwner()}).cgroupName()
	if want := fmt.Sprintf("run-%d-", os.Getpid()); !strings.HasPrefix(alive, want) || !strings.HasSuffix(alive, "-1") || strings.Contains(alive, "-0-") {
		t.Errorf("called %s", alive)
	}
	reused := fmt.Sprintf("run-%d-1-2", os.Getpid()) // another process had this number
	for _, dir := range []string{
		"mica/" + alive, "mica/" + reused, fmt.Sprintf("memory/mica/run-%d-77-3/inside", dead), "cpu/mica/run-4", "cpu/mica/" + alive, "cpu/other/run-5", "cpu/mica/kept",
	} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	removeCgroups(root, "/proc")
	var left []string
	_ = filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if strings.HasPrefix(filepath.Base(path), "run-") || filepath.Base(path) == "kept" {
			left = append(left, strings.TrimPrefix(path, root+"/"))
		}
		return err
	})
	if got, want := strings.Join(left, " "), "cpu/mica/kept cpu/mica/"+alive+" cpu/other/run-5 mica/"+alive; got != want {
		t.Errorf("left are %s, want %s", got, want)
	}
}

// exitedPID is the number of a process that has ended.
func exitedPID(t *testing.T) int {
	t.Helper()
	p, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	state, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return state.Pid()
}
