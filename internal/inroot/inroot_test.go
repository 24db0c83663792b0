package inroot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// openRoot is a descriptor of a directory.
func openRoot(t *testing.T, dir string) int {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// pathOf is where a descriptor's file is, and closes the descriptor.
func pathOf(t *testing.T, fd int) string {
	t.Helper()
	at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		t.Error(err)
	}
	_ = unix.Close(fd)
	return at
}

func TestMake(t *testing.T) {
	for _, c := range []struct {
		name, target, want string
		dir                bool
	}{
		{"a directory that is there", "/dir", "dir", true},
		{"a missing directory", "/a/b/c", "a/b/c", true},
		{"a missing file", "/a/b/file", "a/b/file", false},
		{"above the root", "/../../x/../../y", "y", true},
		{"an absolute link", "/absolute/x", "dir/x", true},
		{"a relative link that leads out", "/out/x", "x", true},
		{"a link to nowhere", "/dangling", "dir/gone", false},
		{"below a link to nowhere", "/dangling/x", "dir/gone/x", true},
		{"a link to nowhere that leads out", "/far", "etc/gone", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for link, to := range map[string]string{"absolute": "/dir", "out": "../../..", "dangling": "dir/gone", "far": "../../../etc/gone"} {
				if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Mkdir(filepath.Join(dir, "dir"), 0o755); err != nil {
				t.Fatal(err)
			}
			fd, err := Make(openRoot(t, dir), c.target, c.dir)
			if err != nil {
				t.Fatal(err)
			}
			got, err := IsDir(fd)
			if at := pathOf(t, fd); err != nil || got != c.dir || at != filepath.Join(dir, c.want) {
				t.Errorf("%s, a directory: %t, %v", at, got, err)
			}
		})
	}
	dir := t.TempDir()
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(openRoot(t, dir), "/loop/x", true); !errors.Is(err, unix.ELOOP) {
		t.Errorf("links in a circle: %v", err)
	}
}

// swap exchanges two names in a directory until stop is closed.
func swap(t *testing.T, dir int, a, b string, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		if err := unix.Renameat2(dir, a, dir, b, unix.RENAME_EXCHANGE); err != nil {
			t.Error(err)
			return
		}
	}
}

// A directory that turns into a link to the host's root and back leads nobody out, however often it is tried.
func TestOpenRace(t *testing.T) {
	outside := t.TempDir()
	dir := filepath.Join(outside, "root")
	for _, d := range []string{"d/sub", "e"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"l": outside, "up": "../.."} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	root := openRoot(t, dir)
	stop := make(chan struct{})
	var swappers sync.WaitGroup
	swappers.Go(func() { swap(t, root, "d", "l", stop) })
	swappers.Go(func() { swap(t, root, "e", "up", stop) })
	followed := 0
	for i := range 5000 {
		for _, name := range []string{"d", "e", "d/sub", "e/../d"} {
			fd, err := Open(root, name)
			if err != nil {
				continue
			}
			if at := pathOf(t, fd); at != dir && !strings.HasPrefix(at, dir+"/") {
				t.Fatalf("%s leads to %s", name, at)
			} else if at == dir {
				followed++
			}
		}
		if fd, err := Make(root, fmt.Sprintf("d/made-%d/x", i%10), i%2 == 0); err == nil {
			if at := pathOf(t, fd); !strings.HasPrefix(at, dir+"/") {
				t.Fatalf("made %s", at)
			}
		}
	}
	close(stop)
	swappers.Wait()
	if followed == 0 {
		t.Error("no try met a link: the race is not tested")
	}
	left, err := os.ReadDir(outside)
	if err != nil || len(left) != 1 {
		t.Errorf("outside the root there is %v, %v", left, err)
	}
}

// What is removed after a step is an empty file or directory, where it was made and not where a link leads.
func TestRemoveEmpty(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"root/made/empty", "root/made/full/x", "outside/empty"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"root/made/none": "", "root/made/some": "x", "outside/none": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
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
		RemoveEmpty(root, name)
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
func TestRemoveEmptyRace(t *testing.T) {
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
	if err := os.WriteFile(canary, nil, 0o600); err != nil {
		t.Fatal(err)
	}
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
		RemoveEmpty(root, "d/stub")
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

// TestPath: the path of an opened file is without links, and one outside has none.
func TestPath(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	root := openRoot(t, dir)
	for name, want := range map[string]string{"/": "/", "link/b": "/a/b", "../../a": "/a"} {
		fd, err := Open(root, name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Path(root, fd); err != nil || got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		_ = unix.Close(fd)
	}
	if got, err := Path(openRoot(t, filepath.Join(dir, "a")), root); err == nil {
		t.Errorf("a file outside has the path %q", got)
	}
}

// TestOpenLink: only a link at the end is not followed.
func TestOpenLink(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"link": "/a", "a/link": "/nowhere"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	root := openRoot(t, dir)
	fd, err := OpenLink(root, "link/link")
	if err != nil {
		t.Fatal(err)
	}
	if got := pathOf(t, fd); got != filepath.Join(dir, "a/link") {
		t.Errorf("opened %s", got)
	}
}
