package layer

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/store"
)

// imageDamages are what a power cut may leave of a tree that is a file.
var imageDamages = map[string]func(file string) error{
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

func TestDamagedImageIsSeen(t *testing.T) {
	for name, hurt := range imageDamages {
		l := asImages(newLayers(t))
		got, _, err := l.Ingest(t.Context(), bytes.NewReader(tarOf(t, everything()...)), "", "")
		if err != nil {
			t.Fatal(err)
		}
		tree, err := l.Tree(t.Context(), got.DiffID)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(tree) != treeImage {
			t.Fatalf("the tree is %s", tree)
		}
		if err := hurt(tree); err != nil {
			t.Fatal(err)
		}
		other := asImages(New(l.store))
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

// TestDamagedImageOfItsOwn: without a pack there is nothing to make the tree from.
func TestDamagedImageOfItsOwn(t *testing.T) {
	for name, hurt := range imageDamages {
		l := asImages(newLayers(t))
		id := write(t, l, manyChanges(200, 1), Unpacked).DiffID
		if err := hurt(l.path(id, treeImage)); err != nil {
			t.Fatal(err)
		}
		other := asImages(New(l.store))
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

// TestImageElsewhere: a store's images are made folders where they cannot be mounted.
func TestImageElsewhere(t *testing.T) {
	l := asImages(newLayers(t))
	id := write(t, l, manyChanges(300, 1), Unpacked).DiffID
	want := readTar(t, l, id)
	other := inFolders(New(l.store))
	v, err := other.View(t.Context(), []digest.Digest{id})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entriesOf(t, other, id)[:10] { // from the image
		if !hasContent(e) {
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
	tree, err := other.Tree(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(tree); err != nil || !info.IsDir() {
		t.Errorf("the tree is %v, %v", info, err)
	}
	if _, err := os.Stat(l.path(id, treeImage)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the image is kept, too: %v", err)
	}
	if err := other.Verify(t.Context(), id); err != nil {
		t.Error(err)
	}
	if got := readTar(t, New(l.store), id); !bytes.Equal(got, want) {
		t.Error("the folder has another tar than the image")
	}
}
