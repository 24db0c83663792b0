package view

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWriteFolder(t *testing.T) {
	dir := host(t, regular("kept", "k"), directory("was"), regular("was/in", ""), symlink("out", "/etc"))
	v := tree(
		regular("a", "A").mode(0o640), hardlink("a2", "a"), directory("d").mode(0o1777), regular("d/b", "B"),
		symlink("l", "a"), hardlink("l2", "l"), device("p", TypeFifo, 0, 0), hardlink("p2", "p"), regular("was", "W"), regular("out", "O"),
	)
	if err := WriteFolder(t.Context(), v, dir, false); err != nil {
		t.Fatal(err)
	}
	same(t, listing(t, dirOf(t, dir, DirOptions{})), []string{
		`a = "A" 0640`, "a2 is a 0640", "d/ 1777", `d/b = "B"`, `kept = "k"`, "l -> a", "l2 -> a", `out = "O"`, "p fifo", "p2 fifo", `was = "W"`,
	})
	stat := func(name string) fs.FileInfo {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	for _, name := range []string{"a", "d", "l", "p"} {
		if at := stat(name).ModTime(); !at.Equal(longAgo) {
			t.Errorf("%s is of %v", name, at)
		}
	}
	for _, name := range []string{"a", "l", "p"} {
		if !os.SameFile(stat(name), stat(name+"2")) {
			t.Errorf("%s and %s2 are two files", name, name)
		}
	}
}

// Devices are made by who may make them; for others the rest is written all the same.
func TestWriteFolderWithDevices(t *testing.T) {
	dir := t.TempDir()
	may := unix.Mknod(filepath.Join(dir, "probe"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) == nil
	v := tree(device("null", TypeChar, 1, 3), hardlink("null2", "null"), device("disk", TypeBlock, 7, 0), regular("z", ""))
	if err := WriteFolder(t.Context(), v, dir, false); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{
		"null": fs.ModeDevice | fs.ModeCharDevice | 0o644, "null2": fs.ModeDevice | fs.ModeCharDevice | 0o644, "disk": fs.ModeDevice | 0o644,
	} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if may != (err == nil) || err == nil && info.Mode() != want {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "z")); err != nil {
		t.Error(err)
	}
}

func TestWriteFolderRemovesTheRest(t *testing.T) {
	dir := host(t, regular("old", ""), regular("d/old", ""), regular("gone/x/y", ""), symlink("link", "/etc"), regular("kept", "old"))
	v := tree(directory("d"), regular("d/new", "N"), regular("kept", "K"))
	if err := WriteFolder(t.Context(), v, dir, true); err != nil {
		t.Fatal(err)
	}
	same(t, listing(t, dirOf(t, dir, DirOptions{})), []string{"d/", `d/new = "N"`, `kept = "K"`})
}

func TestDated(t *testing.T) {
	v := Dated(tree(regular("d/f", "F"), symlink("l", "d")), now)
	for _, e := range []string{"d", "d/f", "l"} {
		if e, err := v.Lstat(t.Context(), e); err != nil || !e.ModTime.Equal(now) {
			t.Errorf("%v, %v", e, err)
		}
	}
	same(t, listing(t, v), []string{"d/", `d/f = "F"`, "l -> d"})
	if list, err := v.ReadDir(t.Context(), "."); err != nil || !list[1].ModTime.Equal(now) {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := v.Lstat(t.Context(), "no"); err == nil {
		t.Error("a missing file has a time")
	}
}

func TestCopyOutOfADirectory(t *testing.T) {
	members := []member{symlink("a/l", "x"), directory("b"), hardlink("b/l", "a/l"), regular("b/f", "F"), hardlink("b/g", "b/f")}
	for i := range members {
		members[i] = members[i].owner(os.Getuid(), os.Getgid())
	}
	dir := filepath.Join(t.TempDir(), "new")
	if err := CopyOut(t.Context(), tree(members...), "b", dir); err != nil {
		t.Fatal(err)
	}
	same(t, listing(t, dirOf(t, dir, DirOptions{})), []string{`f = "F"`, "g is f", "l -> x"})
}
