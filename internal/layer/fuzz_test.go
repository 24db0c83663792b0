package layer

import (
	"archive/tar"
	"bytes"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/convert"
	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/quota"
	"github.com/micabuild/mica/internal/view"
)

// tarOf is a small tar with one of everything.
func tarOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func everything() []tar.Header {
	return []tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "d/f", Size: 700, Mode: 0o4755, Uid: 33, PAXRecords: map[string]string{"SCHILY.xattr.user.k": "v"}},
		{Name: "d/l", Typeflag: tar.TypeLink, Linkname: "d/f", Mode: 0o4755, Uid: 33},
		{Name: "s", Typeflag: tar.TypeSymlink, Linkname: "d/f"},
		{Name: "n", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3},
		{Name: ".wh.gone"},
		{Name: "d/.wh..wh..opq"},
		{Name: strings.Repeat("long/", 40) + "f", Size: 3},
	}
}

// FuzzParseTar gives arbitrary bytes for a layer: an error, or a table of contents that can be read again and whose every
// path stays inside.
func FuzzParseTar(f *testing.F) {
	f.Add(tarOf(f, everything()...))
	f.Add(tarOf(f, tar.Header{Name: "../x"}, tar.Header{Name: "a/../../b"}))
	for _, tt := range odd {
		for _, members := range tt.layers {
			f.Add(tarOf(f, members...))
		}
	}
	f.Add([]byte{})
	f.Add(make([]byte, 1024))
	for _, format := range sparseFormats {
		f.Add(sparseTar(f, 1<<20, 3, format...))
	}
	for _, format := range sparseFormats {
		f.Add(sparseTar(f, 1<<40, 1, format...))
	}
	id := digest.FromString("a layer")
	f.Setenv(quota.Setting, "64m")
	f.Fuzz(func(t *testing.T, data []byte) {
		parsed, err := convert.Parse(t.Context(), bytes.NewReader(data))
		if err != nil {
			return
		}
		file, _ := parsed.Finish(id)
		table, err := toc.Decode(file, id)
		if err != nil {
			t.Fatalf("a layer is accepted whose table of contents is not: %v", err)
		}
		for _, e := range table.Entries {
			if e.Path != path.Clean(e.Path) || strings.HasPrefix(e.Path, "/") || e.Path == ".." || strings.HasPrefix(e.Path, "../") {
				t.Errorf("path %q", e.Path)
			}
		}
		again := index.NewBuilder(id, len(table.Entries))
		for i, e := range table.Entries {
			if err := again.Add(e.Clone(), table.Places[i]); err != nil {
				t.Fatalf("index: %v", err)
			}
		}
		file, _ = again.Table().Finish(id, parsed.Size, false)
		twice, err := toc.Decode(file, id)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(table.Entries, twice.Entries); diff != "" || !slices.Equal(table.Places, twice.Places) {
			t.Errorf("the table of contents means another layer (-tar +table):\n%s", diff)
		}
	})
}

func TestIngestMeansWhatTheTarSays(t *testing.T) {
	l := newLayers(t)
	got, _, err := l.Ingest(t.Context(), bytes.NewReader(tarOf(t, everything()...)), "", "")
	if err != nil {
		t.Fatal(err)
	}
	table, err := l.TOC(t.Context(), got.DiffID)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*view.Entry{}
	for _, e := range table.Entries {
		found[e.Path] = e
	}
	if f := found["d/f"]; f == nil || f.Mode != 0o4755 || f.UID != 33 || f.Size != 700 || f.Xattrs["user.k"] != "v" {
		t.Errorf("d/f is %+v", f)
	}
	if e := found["d/l"]; e == nil || e.Hardlink != "d/f" {
		t.Errorf("d/l is %+v", e)
	}
	if e := found["gone"]; e == nil || e.Type != view.TypeWhiteout {
		t.Errorf("gone is %+v", e)
	}
	if e := found["d"]; e == nil || !e.Opaque {
		t.Errorf("d is %+v", e)
	}
	if e := found["n"]; e == nil || e.Type != view.TypeChar || e.Major != 1 || e.Minor != 3 {
		t.Errorf("n is %+v", e)
	}
}

func TestIngestRefuses(t *testing.T) {
	for name, h := range map[string]tar.Header{
		"above the root":       {Name: "../x"},
		"inside and above":     {Name: "a/../../x"},
		"hard link above":      {Name: "l", Typeflag: tar.TypeLink, Linkname: "../x"},
		"hard link to nothing": {Name: "l", Typeflag: tar.TypeLink, Linkname: "x"},
		"hard link to a hole":  {Name: "l", Typeflag: tar.TypeLink, Linkname: ".wh..wh.plnk/1.2"},
		"long name":            {Name: strings.Repeat("x", 256)},
		"whiteout of nothing":  {Name: ".wh."},
		"whiteout of dot":      {Name: ".wh.."},
		"whiteout of dot-dot":  {Name: ".wh..."},
	} {
		l := newLayers(t)
		if _, _, err := l.Ingest(t.Context(), bytes.NewReader(tarOf(t, h)), "", ""); err == nil {
			t.Errorf("%s: accepted", name)
		}
		wantNothing(t, l)
	}
	l := newLayers(t)
	other := digest.FromString("something else")
	if _, _, err := l.Ingest(t.Context(), bytes.NewReader(tarOf(t, everything()...)), other, ""); err == nil {
		t.Error("another blob is accepted")
	}
	if _, _, err := l.Ingest(t.Context(), bytes.NewReader(tarOf(t, everything()...)), "", other); err == nil {
		t.Error("another layer is accepted")
	}
	wantNothing(t, l)
}

// TestRootDamagedTreeIsSeen: whatever changes in a tree is seen without reading contents, and the tree is made again from its blob.
func TestRootDamagedTreeIsSeen(t *testing.T) {
	l := inDirectories(newLayers(t))
	got, _, err := l.Ingest(t.Context(), bytes.NewReader(tarOf(t, everything()...)), "", "")
	if err != nil {
		t.Fatal(err)
	}
	path, err := l.Tree(t.Context(), got.DiffID)
	if err != nil {
		t.Fatal(err)
	}
	for name, hurt := range treeDamages {
		if err := hurt(path); err != nil {
			t.Fatal(err)
		}
		table, err := l.TOC(t.Context(), got.DiffID)
		if err != nil {
			t.Fatal(err)
		}
		if l.verifyStored(t.Context(), table, false) == nil {
			t.Errorf("%s: not seen", name)
		}
		l.verified.Clear()
		if _, err := l.Tree(t.Context(), got.DiffID); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := l.verifyStored(t.Context(), table, false); err != nil {
			t.Errorf("%s: not made again: %v", name, err)
		}
	}
}
