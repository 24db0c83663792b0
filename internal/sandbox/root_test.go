package sandbox

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

func TestMakeIn(t *testing.T) {
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
			fd, err := makeIn(openRoot(t, dir), c.target, c.dir)
			if err != nil {
				t.Fatal(err)
			}
			got, err := isDir(fd)
			if at := pathOf(t, fd); err != nil || got != c.dir || at != filepath.Join(dir, c.want) {
				t.Errorf("%s, a directory: %t, %v", at, got, err)
			}
		})
	}
	dir := t.TempDir()
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	if _, err := makeIn(openRoot(t, dir), "/loop/x", true); !errors.Is(err, unix.ELOOP) {
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
func TestOpenInRace(t *testing.T) {
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
			fd, err := openIn(root, name)
			if err != nil {
				continue
			}
			if at := pathOf(t, fd); at != dir && !strings.HasPrefix(at, dir+"/") {
				t.Fatalf("%s leads to %s", name, at)
			} else if at == dir {
				followed++
			}
		}
		if fd, err := makeIn(root, fmt.Sprintf("d/made-%d/x", i%10), i%2 == 0); err == nil {
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
