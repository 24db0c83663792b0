package sandbox

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// What is removed after a step is an empty file or directory, where it was made and not where a link leads.
func TestRemoveStub(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"root/made/empty", "root/made/full/x", "outside/empty"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"root/made/none": "", "root/made/some": "x", "outside/none": ""} {
		writeFile(t, filepath.Join(dir, name), text)
	}
	for name, to := range map[string]string{"root/made/link": "none", "root/out": "../outside"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Stat(filepath.Join(dir, "root/made"))
	if err != nil {
		t.Fatal(err)
	}
	root := openRoot(t, filepath.Join(dir, "root"))
	for _, name := range []string{"made/empty", "made/full", "made/none", "made/some", "made/link", "made/no", "out/empty", "out/none", "../outside/none"} {
		removeStub(root, name)
	}
	for name, stays := range map[string]bool{
		"root/made/empty": false, "root/made/none": false, "root/made/full": true, "root/made/some": true, "root/made/link": true,
		"outside/empty": true, "outside/none": true,
	} {
		if _, err := os.Lstat(filepath.Join(dir, name)); (err == nil) != stays {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after, err := os.Stat(filepath.Join(dir, "root/made")); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the directory's time: %v, %v", after.ModTime(), err)
	}
}

// A directory that turns into a link to another and back does not have that one's files removed.
func TestRemoveStubRace(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"root/d", "outside"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../outside", filepath.Join(dir, "root/l")); err != nil {
		t.Fatal(err)
	}
	canary := filepath.Join(dir, "outside/stub")
	writeFile(t, canary, "")
	root := openRoot(t, filepath.Join(dir, "root"))
	stop := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() { swap(t, root, "d", "l", stop) })
	removed := 0
	for range 5000 {
		// The stub is made again where it was removed, by the name that is the directory at the moment.
		for _, name := range []string{"d", "l"} {
			fd, err := unix.Openat(root, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
			if err != nil {
				continue
			}
			if makeEntry(fd, "stub", false) == nil {
				removed++
			}
			_ = unix.Close(fd)
		}
		removeStub(root, "d/stub")
	}
	close(stop)
	swapper.Wait()
	if removed < 2 {
		t.Error("no stub was removed: the race is not tested")
	}
	if _, err := os.Lstat(canary); err != nil {
		t.Error(err)
	}
}
