package inroot

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOpenRegular: only regular files are opened, and only directories listed, wherever links lead inside the root.
func TestOpenRegular(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"link": "/file", "pipelink": "pipe", "up": "../.."} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	root := openRoot(t, dir)
	for _, c := range []struct {
		name       string
		file, list error
	}{
		{"file", nil, unix.ENOTDIR},
		{"link", nil, unix.ENOTDIR},
		{"pipe", ErrNotRegular, unix.ENOTDIR},
		{"pipelink", ErrNotRegular, unix.ENOTDIR},
		{"up", ErrNotRegular, nil},
		{"/", ErrNotRegular, nil},
		{"gone", unix.ENOENT, unix.ENOENT},
	} {
		for _, open := range []struct {
			f    func(int, string) (*os.File, error)
			want error
		}{{OpenRegular, c.file}, {OpenWritable, c.file}, {OpenList, c.list}} {
			f, err := open.f(root, c.name)
			if !errors.Is(err, open.want) {
				t.Errorf("%s: %v, want %v", c.name, err, open.want)
			}
			if err == nil {
				_ = f.Close()
			}
		}
	}
	f, err := OpenWritable(root, "up/link")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteString("next"); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(text) != "next" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestOpenDuringRenames: renames anywhere do not make a path with ".." an error.
func TestOpenDuringRenames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, d := range []string{"d/e", "x", "y"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "d/file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	root := openRoot(t, dir)
	stop := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() { swap(t, root, "x", "y", stop) })
	defer swapper.Wait()
	defer close(stop)
	for range 5000 {
		for name, open := range map[string]func(int, string) (*os.File, error){
			"d/e/../../d/e/../file": OpenRegular, "d/e/../e/../file": OpenWritable, "d/e/../../d": OpenList,
		} {
			f, err := open(root, name)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			_ = f.Close()
		}
	}
}
