package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

// TestWatchOOM: processes are reported when the kernel counts them, also those of before the watch and those that nobody was told of.
func TestWatchOOM(t *testing.T) {
	t.Parallel()
	const file = "mica/run-1/memory.events"
	h := files(t, map[string]string{file: "low 0\noom 1\noom_kill 1\noom_group_kill 0\n"})
	killed := make(chan bool, 10)
	w, err := h.watchOOM("/mica/run-1", func() { killed <- true })
	if err != nil {
		t.Fatal(err)
	}
	<-killed
	if err := write(filepath.Join(h.root, file), "low 0\noom 2\noom_kill 3\n"); err != nil {
		t.Fatal(err)
	}
	<-killed
	<-killed
	if err := os.Rename(filepath.Join(h.root, file), filepath.Join(h.root, "gone")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.root, file), []byte("oom_kill 4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if n := len(killed); n != 1 {
		t.Errorf("%d were reported at the end", n)
	}
	if _, err := h.watchOOM("/mica/run-2", nil); err == nil {
		t.Error("a cgroup that does not exist was watched")
	}
}

func TestOOMKills(t *testing.T) {
	t.Parallel()
	h := files(t, map[string]string{"v1": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", "old": "oom_kill_disable 0\n", "bad": "oom_kill x\n"})
	for name, want := range map[string]uint64{"v1": 2, "old": 0} {
		if got, err := oomKills(filepath.Join(h.root, name)); got != want || err != nil {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
	for _, name := range []string{"bad", "missing"} {
		if _, err := oomKills(filepath.Join(h.root, name)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
