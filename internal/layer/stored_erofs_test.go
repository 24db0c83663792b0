package layer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/erofs"
	"github.com/micabuild/mica/internal/layer/convert"
	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// erofsDamages are what a power cut may leave of a tree that is a file.
var erofsDamages = map[string]func(file string) error{
	"empty":    func(file string) error { return os.Truncate(file, 0) },
	"cut off":  func(file string) error { return os.Truncate(file, 8192) },
	"zeros":    func(file string) error { return overwrite(file, 0, 64<<10) },
	"inodes":   func(file string) error { return overwrite(file, 4096, 4096) },
	"the root": func(file string) error { return overwrite(file, 1152, 64) },
	"names": func(file string) error { // of a directory: they are written last
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		return overwrite(file, info.Size()-4096, 4096)
	},
}

// overwrite zeroes a part of a file.
func overwrite(file string, from, size int64) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, size), from)
	return errors.Join(err, f.Close())
}

func TestDamagedErofsIsSeen(t *testing.T) {
	for name, hurt := range erofsDamages {
		l := asErofs(newLayers(t))
		got, _, err := l.Ingest(t.Context(), bytes.NewReader(tarOf(t, everything()...)), "", "")
		if err != nil {
			t.Fatal(err)
		}
		path, err := l.Tree(t.Context(), got.DiffID)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(path) != tree.ImageName {
			t.Fatalf("the tree is %s", path)
		}
		if err := hurt(path); err != nil {
			t.Fatal(err)
		}
		other := asErofs(New(l.store))
		if err := other.Verify(t.Context(), got.DiffID); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: verified: %v", name, err)
		}
		if _, err := other.Tree(t.Context(), got.DiffID); err != nil {
			t.Errorf("%s: not mended: %v", name, err)
		}
		if err := other.Verify(t.Context(), got.DiffID); err != nil {
			t.Errorf("%s: mended, but %v", name, err)
		}
	}
}

// TestDamagedErofsOfItsOwn: without a blob there is nothing to make the tree from.
func TestDamagedErofsOfItsOwn(t *testing.T) {
	for name, hurt := range erofsDamages {
		l := asErofs(newLayers(t))
		id := write(t, l, manyChanges(200, 1), AsTree).DiffID
		if err := hurt(l.path(id, tree.ImageName)); err != nil {
			t.Fatal(err)
		}
		other := asErofs(New(l.store))
		if r, err := other.OpenTar(t.Context(), id); err == nil {
			if _, err = io.Copy(io.Discard, r); !errors.Is(err, store.ErrDamaged) {
				t.Errorf("%s: its tar: %v", name, err)
			}
			_ = r.Close()
		} else if !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: its tar: %v", name, err)
		}
		if _, err := other.Tree(t.Context(), id); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: its tree: %v", name, err)
		}
		if other.unpacked(id) {
			t.Errorf("%s: the tree still stands", name)
		}
	}
}

// TestRootErofsElsewhere: a store's images are made directories where they cannot be mounted.
func TestRootErofsElsewhere(t *testing.T) {
	l := asErofs(newLayers(t))
	id := write(t, l, manyChanges(300, 1), AsTree).DiffID
	want := readTar(t, l, id)
	other := inDirectories(New(l.store))
	v, err := other.View(t.Context(), []digest.Digest{id})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entriesOf(t, other, id)[:10] { // from the image
		if !convert.HasContent(e) {
			continue
		}
		f, err := v.Open(t.Context(), e.Path)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(f)
		if err != nil || digest.FromBytes(data) != e.Digest && len(data) > 0 {
			t.Errorf("%s: %d bytes, %v", e.Path, len(data), err)
		}
		_ = f.Close()
	}
	path, err := other.Tree(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		t.Errorf("the tree is %v, %v", info, err)
	}
	if err := other.Verify(t.Context(), id); err != nil {
		t.Error(err)
	}
	if got := readTar(t, New(l.store), id); !bytes.Equal(got, want) {
		t.Error("the directory has another tar than the image")
	}
}

// label writes a filesystem's volume name: where it stands in the superblock is in erofs_fs.h.
func label(t *testing.T, file, value string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte(value), 1024+64)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func labelOf(t *testing.T, file string) erofs.Label {
	t.Helper()
	m, err := erofs.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	return m.Label()
}

const otherBoot = "another boot 12"

// TestErofsOfAnEarlierBoot: contents that a power cut may have taken are not trusted.
func TestErofsOfAnEarlierBoot(t *testing.T) {
	l := asErofs(newLayers(t))
	id := write(t, l, manyChanges(200, 1), AsTree).DiffID
	file := l.path(id, tree.ImageName)
	boot := labelOf(t, file)
	if boot == (erofs.Label{}) {
		t.Fatal("it has no label")
	}
	if _, err := asErofs(New(l.store)).Tree(t.Context(), id); err != nil || labelOf(t, file) != boot {
		t.Errorf("just made, it is %x, %v", labelOf(t, file), err)
	}
	hourAgo := time.Now().Add(-time.Hour)
	if err := os.Chtimes(file, hourAgo, hourAgo); err != nil {
		t.Fatal(err)
	}
	if _, err := asErofs(New(l.store)).Tree(t.Context(), id); err != nil || labelOf(t, file) != (erofs.Label{}) {
		t.Errorf("after an hour it is %x, %v", labelOf(t, file), err)
	}
	label(t, file, otherBoot)
	if _, err := asErofs(New(l.store)).Tree(t.Context(), id); err != nil || labelOf(t, file) != (erofs.Label{}) {
		t.Errorf("whole, after another boot, it is %x, %v", labelOf(t, file), err)
	}
	// A file's content, where only reading it tells.
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, bytes.Repeat([]byte{1, 7, 0, '\n'}, 20))
	if err := overwrite(file, int64(at), 80); err != nil {
		t.Fatal(err)
	}
	label(t, file, otherBoot)
	if _, err := asErofs(New(l.store)).Tree(t.Context(), id); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("damaged, after another boot: %v", err)
	}
	write(t, l, manyChanges(200, 1), AsTree)
	if err := New(l.store).Verify(t.Context(), id); err != nil {
		t.Error(err)
	}
}

func TestErofsOfAnEarlierBootWithABlob(t *testing.T) {
	l := asErofs(newLayers(t))
	got, _, err := l.IngestFrom(t.Context(), Incoming{Reader: bytes.NewReader(tarOf(t, everything()...)), Unpack: true})
	if err != nil {
		t.Fatal(err)
	}
	file := l.path(got.DiffID, tree.ImageName)
	boot := labelOf(t, file)
	label(t, file, otherBoot)
	if _, err := asErofs(New(l.store)).Tree(t.Context(), got.DiffID); err != nil || labelOf(t, file) != boot {
		t.Errorf("it is not made again: %x, %v", labelOf(t, file), err)
	}
}

// TestCopyFromADamagedErofs falls back to the blob.
func TestCopyFromADamagedErofs(t *testing.T) {
	l := asErofs(newLayers(t))
	id, _ := pulled(t, l, true)
	if err := os.Truncate(l.path(id, tree.ImageName), 0); err != nil {
		t.Fatal(err)
	}
	other := asErofs(New(l.store))
	v, err := other.View(t.Context(), []digest.Digest{id})
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxStreams + 2 {
		f, err := v.Open(t.Context(), "f")
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(f); err != nil || len(data) != 700 {
			t.Errorf("read %d: %d bytes, %v", i, len(data), err)
		}
		_ = f.Close()
	}
	if _, err := other.Tree(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := other.Verify(t.Context(), id); err != nil {
		t.Errorf("the tree was not made again: %v", err)
	}
}

// TestRootDamagedErofsElsewhere: it is set aside where it cannot be mounted, too, so that building again mends it.
func TestRootDamagedErofsElsewhere(t *testing.T) {
	for name, hurt := range map[string]func(string) error{
		"empty":   func(file string) error { return os.Truncate(file, 0) },
		"content": func(file string) error { return overwrite(file, 4096+64+8, 40) },
	} {
		l := asErofs(newLayers(t))
		id := write(t, l, manyChanges(200, 1), AsTree).DiffID
		if err := hurt(l.path(id, tree.ImageName)); err != nil {
			t.Fatal(err)
		}
		other := inDirectories(New(l.store))
		if _, err := other.Tree(t.Context(), id); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		write(t, other, manyChanges(200, 1), AsTree)
		if _, err := other.Tree(t.Context(), id); err != nil {
			t.Errorf("%s: built again: %v", name, err)
		}
		if err := other.Verify(t.Context(), id); err != nil {
			t.Errorf("%s: built again: %v", name, err)
		}
	}
}

// TestErofsWithALoop: a directory that is in itself is damage, which ends.
func TestErofsWithALoop(t *testing.T) {
	l := asErofs(newLayers(t))
	id := write(t, l, manyChanges(300, 1), AsTree).DiffID
	file := l.path(id, tree.ImageName)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// The root's block of names: its last entry is d0002, whose inode becomes the root's.
	at := bytes.Index(data, []byte("...d0000d0001d0002")) - 12
	binary.LittleEndian.PutUint64(data[at:], (1024+128)/32)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := New(l.store).Verify(t.Context(), id); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "twice") {
		t.Errorf("it is %v", err)
	}
}

// TestRootAmongNamesBeforeIt: some names sort before ".".
func TestRootAmongNamesBeforeIt(t *testing.T) {
	for _, as := range []func(*Layers) *Layers{inDirectories, asErofs} {
		l := as(newLayers(t))
		id := write(t, l, []view.Change{
			{Entry: &view.Entry{Path: "!a", Type: view.TypeDir, Mode: 0o755}}, {Entry: &view.Entry{Path: ".", Type: view.TypeDir, Mode: 0o700, ModTime: testTime}},
		}, AsTree).DiffID
		stored, err := l.trees.Open(l.path(id))
		if err != nil {
			t.Fatal(err)
		}
		if list, err := stored.Walk(t.Context()); err != nil || len(list) != 1 {
			t.Errorf("%+v, %v", list, err)
		}
		stored.Close()
	}
}
