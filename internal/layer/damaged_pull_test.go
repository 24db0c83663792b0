package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// pulled is a layer of one file that came from elsewhere, and its blob.
func pulled(t *testing.T, l *Layers, unpack bool) (id digest.Digest, blob string) {
	t.Helper()
	data := tarOf(t, tar.Header{Name: "f", Typeflag: tar.TypeReg, Mode: 0o644, Size: 700, ModTime: testTime})
	got, desc, err := l.IngestFrom(t.Context(), Incoming{Reader: bytes.NewReader(data), Unpack: unpack})
	if err != nil {
		t.Fatal(err)
	}
	return got.DiffID, l.store.Path("blobs", "sha256", desc.Digest.Encoded())
}

// TestWriteComparesWithTheDigest: of a layer whose tree was damaged where no look at its metadata shows it, nothing is copied.
func TestWriteComparesWithTheDigest(t *testing.T) {
	l := inDirectories(newLayers(t))
	id, _ := pulled(t, l, true)
	file := l.path(id, tree.DirectoryName, "f")
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Repeat([]byte("y"), 700), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, file, []unix.Timespec{st.Atim, st.Mtim}, 0); err != nil {
		t.Fatal(err)
	}
	v, err := l.View(t.Context(), []digest.Digest{id})
	if err != nil {
		t.Fatal(err)
	}
	o := view.NewOverlay(view.Empty())
	if err := o.Copy(t.Context(), v, "/f", "/g", view.CopyOptions{CreateDestPath: true}); err != nil {
		t.Fatal(err)
	}
	changes, err := o.Changes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []Form{AsBlob, AsTree} {
		if got, err := l.Write(t.Context(), changes, form); err == nil {
			t.Errorf("form %d: a layer with damaged content is written: %+v", form, got)
		}
	}
}

// TestDamagedBlobIsFetchedAgain: who asks for digests finds it, and the layer no longer counts as there.
func TestDamagedBlobIsFetchedAgain(t *testing.T) {
	for _, unpack := range []bool{false, true} {
		l := newLayers(t)
		id, blob := pulled(t, l, unpack)
		info, err := os.Stat(blob)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(blob, make([]byte, info.Size()), 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := New(l.store).View(t.Context(), []digest.Digest{id})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Digest(t.Context(), "f"); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("unpacked %v: %v", unpack, err)
		}
		if now, err := New(l.store).Get(id); err != nil || now.Present() {
			t.Errorf("unpacked %v: a pull finds %+v, %v", unpack, now, err)
		}
	}
}

// TestRecordsOfADamagedTable checks that the records of a table are those of a new one if it is damaged.
func TestRecordsOfADamagedTable(t *testing.T) {
	l := newLayers(t)
	id, _ := pulled(t, l, false)
	want, err := l.Records(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(l.path(id, tocFile), toc.SummarySize+1); err != nil {
		t.Fatal(err)
	}
	got, err := New(l.store).Records(t.Context(), id)
	if err != nil || got.Len() != want.Len() || got.Entry(0).Path != want.Entry(0).Path {
		t.Errorf("records %+v, %v; want %+v", got, err, want)
	}
	if _, err := l.Records(t.Context(), digest.FromString("missing")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("records of no layer: %v", err)
	}
}

func TestTreeOfALayerWithADamagedTable(t *testing.T) {
	l := newLayers(t)
	id, _ := pulled(t, l, false)
	file := l.path(id, tocFile)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := inDirectories(New(l.store)).Tree(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(path, "f")); err != nil || info.Size() != 700 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestTreesUnderADefaultACL have the modes that they should, whatever a directory above takes from those of new files.
func TestTreesUnderADefaultACL(t *testing.T) {
	dir := t.TempDir()
	// acl(5) as the kernel keeps it (posix_acl_xattr.h): version 2; owner rwx, group and others nothing.
	acl := []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 0, 0, 255, 255, 255, 255, 0x20, 0, 0, 0, 255, 255, 255, 255}
	if err := unix.Setxattr(dir, "system.posix_acl_default", acl, 0); err != nil {
		t.Logf("this filesystem has no default ACLs (%v): trees are made without one", err)
	}
	s, err := store.Open(filepath.Join(dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	l := inDirectories(New(s))
	changes := []view.Change{{
		Entry: &view.Entry{Path: "f", Type: view.TypeRegular, Mode: 0o755, Size: 1, ModTime: testTime}, Source: content(map[string][]byte{"f": []byte("x")}), SourcePath: "f",
	}}
	got, err := l.Write(t.Context(), changes, AsTree)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(l.path(got.DiffID, tree.DirectoryName, "f")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := New(s).Tree(t.Context(), got.DiffID); err != nil {
		t.Error(err)
	}
}
