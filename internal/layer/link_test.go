package layer

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/view"
)

// changesOf are regular files, all of one time.
func changesOf(files map[string][]byte) []view.Change {
	src := content(files)
	var changes []view.Change
	for name, data := range files {
		changes = append(changes, view.Change{
			Entry: &view.Entry{
				Path: name, Type: view.TypeRegular, Mode: 0o644, Size: int64(len(data)), ModTime: testTime, Digest: digest.FromBytes(data),
			},
			Source: src, SourcePath: name,
		})
	}
	return changes
}

// inodeOf tells which file of the host a file of a layer's tree is, and how many names it has.
func inodeOf(t *testing.T, l *Layers, id digest.Digest, name string) (ino, links uint64) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(l.path(id, treeDir, name), &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino, uint64(st.Nlink) //nolint:unconvert // its width depends on the architecture
}

func writeLike(t *testing.T, l *Layers, changes []view.Change, like digest.Digest) digest.Digest {
	t.Helper()
	got, err := l.WriteLike(t.Context(), changes, Unpacked, like)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Verify(t.Context(), got.DiffID); err != nil {
		t.Errorf("the new layer: %v", err)
	}
	return got.DiffID
}

func TestTreesShareFiles(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 3<<16)
	files := map[string][]byte{"d/same": []byte("same"), "d/other": []byte("before"), "empty": {}, "big": big}
	l := newLayers(t)
	first := writeLike(t, l, changesOf(files), "")
	files["d/other"] = []byte("after!")
	changes := changesOf(files)
	second := writeLike(t, l, changes, first)
	alone := write(t, newLayers(t), changes, Unpacked)
	if second != alone.DiffID {
		t.Errorf("with links the layer is %s, without %s", second, alone.DiffID)
	}
	for name, shared := range map[string]bool{"d/same": true, "big": true, "d/other": false, "empty": false} {
		a, _ := inodeOf(t, l, first, name)
		b, _ := inodeOf(t, l, second, name)
		if (a == b) != shared {
			t.Errorf("%s: shared %v, want %v", name, a == b, shared)
		}
	}
	if _, err := l.Remove(first); err != nil {
		t.Fatal(err)
	}
	if err := l.Verify(t.Context(), second); err != nil {
		t.Errorf("after the first is gone: %v", err)
	}
	if _, links := inodeOf(t, l, second, "d/same"); links != 1 {
		t.Errorf("d/same has %d names", links)
	}
}

func TestTreesShareWithTheStageThatIsCopied(t *testing.T) {
	l := newLayers(t)
	stage := writeLike(t, l, changesOf(map[string][]byte{"a": []byte("a"), "b": []byte("b")}), "")
	from, err := l.View(t.Context(), []digest.Digest{stage})
	if err != nil {
		t.Fatal(err)
	}
	var changes []view.Change
	// a is copied twice: the two are not one file.
	for to, name := range map[string]string{"x/a": "a", "x/again": "a", "x/b": "b", "x/owned": "b"} {
		e, err := from.Lstat(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		e = e.Clone()
		if e.Path = to; to == "x/owned" {
			e.UID = 1000
		}
		changes = append(changes, view.Change{Entry: e, Source: from, SourcePath: name})
	}
	got := writeLike(t, l, changes, "")
	a, _ := inodeOf(t, l, stage, "a")
	b, _ := inodeOf(t, l, stage, "b")
	first, _ := inodeOf(t, l, got, "x/a")
	again, _ := inodeOf(t, l, got, "x/again")
	if (first == a) == (again == a) {
		t.Errorf("of two copies of a, just one shares its file: %v, %v", first == a, again == a)
	}
	if ino, _ := inodeOf(t, l, got, "x/b"); ino != b {
		t.Error("b is not shared")
	}
	if ino, _ := inodeOf(t, l, got, "x/owned"); ino == b {
		t.Error("a copy with another owner shares the file")
	}
}

func TestTreesDoNotShareWhatIsDamaged(t *testing.T) {
	for name, damage := range map[string]func(file string) error{
		"longer":  func(file string) error { return os.WriteFile(file, []byte("longer than it was"), 0o600) },
		"touched": func(file string) error { return os.Chtimes(file, testTime, testTime.Add(1e9)) },
		"mode":    func(file string) error { return os.Chmod(file, 0o600) },
		"gone":    os.Remove,
		"a link": func(file string) error {
			if err := os.Remove(file); err != nil {
				return err
			}
			return os.Symlink("/etc/passwd", file)
		},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string][]byte{"f": []byte("content"), "g": []byte("before")}
			l := newLayers(t)
			first := writeLike(t, l, changesOf(files), "")
			if err := damage(filepath.Join(l.path(first, treeDir), "f")); err != nil {
				t.Fatal(err)
			}
			files["g"] = []byte("after")
			second := writeLike(t, l, changesOf(files), first)
			if data, err := os.ReadFile(l.path(second, treeDir, "f")); err != nil || string(data) != "content" {
				t.Errorf("%q, %v", data, err)
			}
		})
	}
}
