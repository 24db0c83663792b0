package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestRootTree: a tree has the binds of a container, by the links of its root filesystem, and is whole until it is closed.
func TestRootTree(t *testing.T) {
	h, p := realHost(t, runtimes(t)[0])
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "f"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.Mounts = append(p.Mounts, Mount{Type: MountBind, Source: source, Target: "/data", ReadOnly: true}, Mount{Type: MountTmpfs, Target: "/memory"})
	c, err := h.Open(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := c.Tree()
	if err != nil {
		t.Fatal(err)
	}
	other, err := c.Tree()
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Tree(); !errors.Is(err, ErrClosed) {
		t.Errorf("the tree of a container that has ended: %v", err)
	}
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", tree.Root().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	if text, err := root.ReadFile("data/f"); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
	if err := root.WriteFile("data/g", nil, 0o600); err == nil {
		t.Error("the bind for reading was written to")
	}
	if _, err := root.Stat("memory"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if last := tree.Mounts()[len(tree.Mounts())-1]; last != (Mounted{"/data", true}) {
		t.Errorf("%+v", last)
	}
	tree.Close()
}
