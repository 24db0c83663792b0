package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/store"
)

// TestDigestsAreComputedWhenAskedFor: of a layer that came from elsewhere, and for every process after the first.
func TestDigestsAreComputedWhenAskedFor(t *testing.T) {
	l := newLayers(t)
	got, _, err := l.Ingest(t.Context(), bytes.NewReader(tarOf(t,
		tar.Header{Name: "f", Typeflag: tar.TypeReg, Size: 700},
		tar.Header{Name: "empty", Typeflag: tar.TypeReg},
		tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "f"},
	)), "", "")
	if err != nil {
		t.Fatal(err)
	}
	toc, err := l.TOC(t.Context(), got.DiffID)
	if err != nil || !toc.Undigested {
		t.Fatalf("the table of contents is digested from the start, %v", err)
	}
	v, err := l.View(t.Context(), []digest.Digest{got.DiffID})
	if err != nil {
		t.Fatal(err)
	}
	f, err := v.Open(t.Context(), "f")
	if err != nil {
		t.Fatal(err)
	}
	var content bytes.Buffer
	if _, err := content.ReadFrom(f); err != nil {
		t.Fatal(err)
	}
	want := digest.FromBytes(content.Bytes())
	for _, name := range []string{"f", "l", "f"} {
		if d, err := v.Digest(t.Context(), name); err != nil || d != want {
			t.Errorf("%s: %v, %v, want %v", name, d, err, want)
		}
	}
	if d, err := v.Digest(t.Context(), "empty"); err != nil || d != digest.FromString("") {
		t.Errorf("empty: %v, %v", d, err)
	}
	other := New(l.store)
	toc, err = other.TOC(t.Context(), got.DiffID)
	if err != nil || toc.Undigested || toc.Entries[0].Digest != want {
		t.Errorf("another process: %+v, %v", toc.Entries[0], err)
	}
	if err := other.Verify(t.Context(), got.DiffID); err != nil {
		t.Error(err)
	}
}

// TestDigestsOfADamagedBlob are not believed.
func TestDigestsOfADamagedBlob(t *testing.T) {
	l := newLayers(t)
	got, desc, err := l.Ingest(t.Context(), bytes.NewReader(tarOf(t, tar.Header{Name: "f", Typeflag: tar.TypeReg, Size: 700})), "", "")
	if err != nil {
		t.Fatal(err)
	}
	blob := l.store.Path("blobs", "sha256", desc.Digest.Encoded())
	data, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	data[600] ^= 1 // of the content
	if err := os.WriteFile(blob, data, 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := l.View(t.Context(), []digest.Digest{got.DiffID})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := v.Digest(t.Context(), "f"); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("the digest is %s, %v", d, err)
	}
}
