package layer

import (
	"archive/tar"
	"bytes"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/compression"
)

// TestRootClamp: everything of a layer is kept, whiteouts and hardlinks too, but for times that are too late.
func TestRootClamp(t *testing.T) {
	for _, form := range []Form{AsBlob, AsTree} {
		l := newLayers(t)
		made, err := l.Write(t.Context(), sampleChanges(), form)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := l.Clamp(t.Context(), made.DiffID, testTime); err != nil || same != made.DiffID {
			t.Errorf("nothing is newer, and it becomes %s: %v", same, err)
		}
		latest := testTime.AddDate(-1, 0, 0)
		id, err := l.Clamp(t.Context(), made.DiffID, latest)
		if err != nil {
			t.Fatal(err)
		}
		before, err := l.TOC(t.Context(), made.DiffID)
		if err != nil {
			t.Fatal(err)
		}
		after, err := l.TOC(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if len(before.Entries) != len(after.Entries) {
			t.Fatalf("%d entries of %d", len(after.Entries), len(before.Entries))
		}
		for i, e := range before.Entries {
			want := e.Clone()
			if want.ModTime.After(latest) {
				want.ModTime = latest
			}
			if got := after.Entries[i]; !got.ModTime.Equal(want.ModTime) || got.Path != want.Path || got.Digest != want.Digest || got.Type != want.Type || got.Hardlink != want.Hardlink || got.Opaque != want.Opaque {
				t.Errorf("%+v, want %+v", got, want)
			}
		}
	}
}

// TestClampImplied: a directory that a layer has a marker in and no entry for looks as in the layer below, clamped or not.
func TestClampImplied(t *testing.T) {
	l := newLayers(t)
	ingest := func(headers ...tar.Header) digest.Digest {
		got, _, err := l.Ingest(t.Context(), bytes.NewReader(tarOf(t, headers...)), "", "")
		if err != nil {
			t.Fatal(err)
		}
		return got.DiffID
	}
	base := ingest(tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 7}, tar.Header{Name: "d/old", Mode: 0o644},
		tar.Header{Name: "e/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 8}, tar.Header{Name: "e/gone", Mode: 0o644})
	late := testTime.AddDate(1, 0, 0)
	upper := ingest(tar.Header{Name: "d/.wh..wh..opq"}, tar.Header{Name: "d/new", Size: 700, Mode: 0o644, ModTime: late, PAXRecords: map[string]string{"SCHILY.xattr.user.k": "v"}},
		tar.Header{Name: "e/.wh.gone"}, tar.Header{Name: "n/.wh.nothing"})
	clamped, err := l.Clamp(t.Context(), upper, testTime)
	if err != nil || clamped == upper {
		t.Fatalf("%s: %v", clamped, err)
	}
	for _, top := range []digest.Digest{upper, clamped} {
		v, err := l.View(t.Context(), []digest.Digest{base, top})
		if err != nil {
			t.Fatal(err)
		}
		for name, mode := range map[string]uint32{"d": 0o1777, "e": 0o700, "d/new": 0o644} {
			if e, err := v.Lstat(t.Context(), name); err != nil || e.Mode != mode {
				t.Errorf("%s is %+v, %v", name, e, err)
			} else if name == "d/new" && (e.ModTime.After(testTime) != (top == upper) || e.Size != 700 || e.Xattrs["user.k"] != "v") {
				t.Errorf("%s is %+v", name, e)
			}
		}
		for _, name := range []string{"d/old", "e/gone"} {
			if _, err := v.Lstat(t.Context(), name); err == nil {
				t.Errorf("%s is there", name)
			}
		}
	}
	if again, err := l.Clamp(t.Context(), clamped, testTime); err != nil || again != clamped {
		t.Errorf("clamped again it is %s, %v", again, err)
	}
}

// TestRootCompress: once, and to the same blob.
func TestRootCompress(t *testing.T) {
	l := newLayers(t)
	made, err := l.Write(t.Context(), sampleChanges(), AsTree)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []compression.Algorithm{compression.Gzip, compression.Zstd} {
		d, err := l.Compress(t.Context(), made.DiffID, a, 0)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := l.Compress(t.Context(), made.DiffID, a, 0); err != nil || again.Digest != d.Digest {
			t.Errorf("%s, then %s: %v", d.Digest, again.Digest, err)
		}
		f, err := l.store.VerifiedBlob(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		plain, _, err := compression.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		h := digest.SHA256.Digester()
		if _, err := io.Copy(h.Hash(), plain); err != nil || h.Digest() != made.DiffID {
			t.Errorf("%s decompresses to %s: %v", a, h.Digest(), err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
