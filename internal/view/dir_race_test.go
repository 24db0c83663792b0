package view

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A directory that turns into a link to another and back while it is read has nothing of that one.
func TestDirRace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, attr := range map[string]string{"root/d/f": "inside", "outside/f": "outside"} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := unix.Setxattr(name, "user."+attr, []byte("x"), 0); err != nil {
			t.Skip("no extended attributes here:", err)
		}
	}
	root := filepath.Join(dir, "root")
	if err := os.Symlink("../outside", filepath.Join(root, "l")); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() {
		d, l := filepath.Join(root, "d"), filepath.Join(root, "l")
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, d, unix.AT_FDCWD, l, unix.RENAME_EXCHANGE)
			}
		}
	})
	defer func() {
		close(stop)
		swapper.Wait()
	}()
	read := 0
	for range 3000 {
		v, err := Dir(root, DirOptions{})
		if err != nil {
			continue // it changed in between
		}
		for _, name := range []string{"d/f", "l/f"} {
			e, err := v.Lstat(t.Context(), name)
			if err != nil {
				continue
			}
			read++
			if e.Xattrs["user.outside"] != "" {
				t.Fatalf("%s has the attributes of a file outside: %v", name, e.Xattrs)
			}
		}
	}
	if read == 0 {
		t.Error("the directory was never read: the race is not tested")
	}
}
