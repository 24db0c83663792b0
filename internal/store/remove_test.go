package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestRemovalOfTrees(t *testing.T) {
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		sub := filepath.Join(tree, fmt.Sprint(i), "deep", "er")
		must(os.MkdirAll(sub, 0o755))
		for j := range 50 {
			must(os.WriteFile(filepath.Join(sub, fmt.Sprint(j)), make([]byte, 5000), 0o400))
		}
	}
	outside := filepath.Join(dir, "outside")
	must(os.Mkdir(outside, 0o755))
	must(os.WriteFile(filepath.Join(outside, "kept"), make([]byte, 1<<20), 0o600))
	must(os.Symlink(outside, filepath.Join(tree, "link")))
	must(os.Link(filepath.Join(outside, "kept"), filepath.Join(tree, "other-name")))
	must(os.WriteFile(filepath.Join(tree, "twice"), make([]byte, 1<<16), 0o600))
	must(os.Link(filepath.Join(tree, "twice"), filepath.Join(tree, "again")))
	// Directories that their owner may neither read nor write to.
	must(os.Chmod(filepath.Join(tree, "3", "deep"), 0o500))
	must(os.Chmod(filepath.Join(tree, "4", "deep"), 0))

	freed, err := removeTree(tree)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(tree); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the tree is still there: %v", err)
	}
	if data, err := os.ReadFile(filepath.Join(outside, "kept")); err != nil || len(data) != 1<<20 {
		t.Errorf("what a link points at: %d bytes, %v", len(data), err)
	}
	// A thousand files of two blocks, one of sixteen, and directories; not the one that has a name elsewhere.
	if least := int64(1000*5000 + 1<<16); freed < least || freed > least*2 {
		t.Errorf("%d bytes became free, want some more than %d", freed, least)
	}
	if freed, err := removeTree(tree); err != nil || freed != 0 {
		t.Errorf("once more: %d, %v", freed, err)
	}
	file := filepath.Join(outside, "kept")
	if freed, err := removeTree(file); err != nil || freed < 1<<20 {
		t.Errorf("a file: %d, %v", freed, err)
	}
}
