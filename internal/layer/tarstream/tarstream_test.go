package tarstream

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/view"
)

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

// members reads all of a tar.
func members(t testing.TB, data []byte) ([]Member, error) {
	t.Helper()
	r, err := NewReader(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var all []Member
	for {
		m, err := r.Next()
		if errors.Is(err, io.EOF) {
			if r.Size() != int64(len(data)) {
				t.Errorf("read %d of %d bytes", r.Size(), len(data))
			}
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, m)
	}
}

func TestMembers(t *testing.T) {
	t.Parallel()
	at := time.Unix(1700000000, 0).UTC()
	for name, tt := range map[string]struct {
		header tar.Header
		want   string // kind and path, "" where it is ignored
	}{
		"file":                     {tar.Header{Name: "a/f", Size: 5}, "0 a/f"},
		"absolute":                 {tar.Header{Name: "/a/f"}, "0 a/f"},
		"dots":                     {tar.Header{Name: "./a/../b/./f"}, "0 b/f"},
		"directory":                {tar.Header{Name: "d/", Typeflag: tar.TypeDir}, "0 d"},
		"root":                     {tar.Header{Name: "./", Typeflag: tar.TypeDir}, ""},
		"removal":                  {tar.Header{Name: "a/.wh.f"}, "1 a/f"},
		"opaque":                   {tar.Header{Name: "a/.wh..wh..opq"}, "2 a"},
		"opaque root":              {tar.Header{Name: ".wh..wh..opq"}, "2 ."},
		"device 0:0":               {tar.Header{Name: "a/n", Typeflag: tar.TypeChar}, "3 a/n"},
		"another device":           {tar.Header{Name: "n", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, "0 n"},
		"linked by AUFS":           {tar.Header{Name: ".wh..wh.plnk/1.2", Size: 1}, "4 .wh..wh.plnk/1.2"},
		"directory of AUFS's own":  {tar.Header{Name: ".wh..wh.plnk", Typeflag: tar.TypeDir}, ""},
		"file of AUFS's own":       {tar.Header{Name: ".wh..wh.aufs"}, ""},
		"and in a directory":       {tar.Header{Name: "a/.wh..wh.orph"}, ""},
		"name with an odd dot":     {tar.Header{Name: "a/.whx"}, "0 a/.whx"},
		"records of all the files": {tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, ""},
	} {
		if tt.header.Typeflag != tar.TypeXGlobalHeader {
			tt.header.ModTime = at
		}
		got, err := members(t, tarOf(t, tt.header))
		text := ""
		for _, m := range got {
			text += fmt.Sprint(int(m.Kind), " ", m.Entry.Path)
		}
		if err != nil || text != tt.want {
			t.Errorf("%s: %q, %v, want %q", name, text, err, tt.want)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		header tar.Header
		want   string
	}{
		"above the root":       {tar.Header{Name: "../x"}, "escapes the root"},
		"inside and above":     {tar.Header{Name: "a/../../x"}, "escapes the root"},
		"hard link above":      {tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "../x"}, "outside the root"},
		"long component":       {tar.Header{Name: strings.Repeat("x", 256)}, "too long a name"},
		"long path":            {tar.Header{Name: strings.Repeat("x/", 2048) + "f"}, "cannot be used"},
		"whiteout of nothing":  {tar.Header{Name: ".wh."}, "no file can have"},
		"whiteout of dot":      {tar.Header{Name: ".wh.."}, "no file can have"},
		"whiteout of dot-dot":  {tar.Header{Name: ".wh..."}, "no file can have"},
		"inside a whiteout":    {tar.Header{Name: ".wh.a/f"}, "inside a whiteout"},
		"link to nothing":      {tar.Header{Name: "s", Typeflag: tar.TypeSymlink}, "target must have"},
		"link to a long name":  {tar.Header{Name: "s", Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("x", 4096)}, "target must have"},
		"owner of another sun": {tar.Header{Name: "f", Uid: 1 << 32}, "no such owner"},
		"device number":        {tar.Header{Name: "n", Typeflag: tar.TypeBlock, Devmajor: 1 << 12}, "no such device"},
		"type":                 {tar.Header{Name: "f", Typeflag: 'Z'}, "unknown type"},
	} {
		if _, err := members(t, tarOf(t, tt.header)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestDamaged(t *testing.T) {
	t.Parallel()
	data := tarOf(t, tar.Header{Name: "f", Size: 700}, tar.Header{Name: "g", Size: 700})
	second := bytes.Clone(data)
	second[512+1024+3] ^= 1
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"text":             {bytes.Repeat([]byte("no tar at all. "), 100), "not a tar archive"},
		"second header":    {second, "tar is damaged before byte 2048"},
		"end in a content": {data[:1000], "tar ends too early"},
		"end in a header":  {data[:512+1024+100], "tar ends too early"},
	} {
		if _, err := members(t, tt.data); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestTrailingBytesAreRead(t *testing.T) {
	t.Parallel()
	for _, tail := range []int{0, 1, 512, 100_000} {
		data := append(tarOf(t, tar.Header{Name: "f", Size: 3}), make([]byte, tail)...)
		if got, err := members(t, data); err != nil || len(got) != 1 {
			t.Errorf("%d bytes after the end: %d members, %v", tail, len(got), err)
		}
	}
}

func TestContent(t *testing.T) {
	t.Parallel()
	data := tarOf(t, tar.Header{Name: "skipped", Size: 700}, tar.Header{Name: "f", Size: 100_000})
	r, err := NewReader(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var m Member
	for range 2 {
		if m, err = r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	var got bytes.Buffer
	if err := r.CopyContent(&got, m.Entry); err != nil {
		t.Fatal(err)
	}
	if want := data[m.Place.Offset:][:100_000]; !bytes.Equal(got.Bytes(), want) || want[0] != 'x' {
		t.Error("the content is not what is at its place")
	}
}

// entries is one of everything that the canonical tar can hold.
func entries() []*view.Entry {
	at := time.Unix(1700000000, 123456789).UTC()
	long := strings.Repeat("long/", 60)
	return []*view.Entry{
		{Path: "d", Type: view.TypeDir, Mode: 0o1777, ModTime: at},
		{Path: "f", Type: view.TypeRegular, Mode: 0o4755, UID: 33, GID: 34, Size: 5, ModTime: at, Xattrs: map[string]string{"user.k": "\x00v\n"}},
		{Path: "l", Type: view.TypeRegular, Hardlink: "f", Mode: 0o4755, UID: 33, GID: 34, ModTime: at, Xattrs: map[string]string{"user.k": "\x00v\n"}},
		{Path: "s", Type: view.TypeSymlink, Mode: 0o777, Linkname: long + "target", ModTime: at},
		{Path: "n", Type: view.TypeChar, Mode: 0o600, Major: 1, Minor: 3, ModTime: at},
		{Path: "b", Type: view.TypeBlock, Mode: 0o600, Major: 8, Minor: 1, ModTime: at},
		{Path: "p", Type: view.TypeFifo, Mode: 0o600, ModTime: time.Unix(-1, 5e8).UTC()},
		{Path: long + "file", Type: view.TypeRegular, Mode: 0o644, UID: 1 << 22, GID: 1 << 31, ModTime: time.Unix(1<<34, 0).UTC()},
		{Path: "gone", Type: view.TypeWhiteout},
		{Path: "odd \xff\n", Type: view.TypeRegular, ModTime: at},
	}
}

func canonical(t testing.TB, list []*view.Entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := NewWriter(&buf)
	for _, e := range list {
		if err := w.Header(e); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, strings.NewReader(strings.Repeat("x", int(e.Size)))); err != nil {
			t.Fatal(err)
		}
		if err := w.Pad(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	if w.Offset() != int64(buf.Len()) {
		t.Errorf("the offset is %d of %d", w.Offset(), buf.Len())
	}
	return buf.Bytes()
}

// TestCanonicalTarReads: what is written is read again as it was.
func TestCanonicalTarReads(t *testing.T) {
	t.Parallel()
	want := entries()
	got, err := members(t, canonical(t, want))
	if err != nil {
		t.Fatal(err)
	}
	var have []*view.Entry
	for _, m := range got {
		have = append(have, m.Entry)
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("(-written +read):\n%s", diff)
	}
}

func TestOpaqueMarker(t *testing.T) {
	t.Parallel()
	got, err := members(t, canonical(t, []*view.Entry{{Path: "d", Type: view.TypeDir, Opaque: true}}))
	if err != nil || len(got) != 2 || got[0].Entry.Path != "d" || got[1].Kind != Opaque || got[1].Entry.Path != "d" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestNotWritten(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]*view.Entry{
		"socket":                 {Path: "s", Type: view.TypeSocket},
		"owner":                  {Path: "f", Type: view.TypeRegular, UID: -1},
		"device number":          {Path: "n", Type: view.TypeChar, Major: 1 << 30},
		"attribute without name": {Path: "f", Type: view.TypeRegular, Xattrs: map[string]string{"": "v"}},
		"attribute with =":       {Path: "f", Type: view.TypeRegular, Xattrs: map[string]string{"user.a=b": "v"}},
	} {
		if err := NewWriter(io.Discard).Header(e); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

func TestCheckEntry(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		entry view.Entry
		ok    bool
	}{
		"file":                {view.Entry{Path: "a/f", Type: view.TypeRegular}, true},
		"root":                {view.Entry{Path: ".", Type: view.TypeDir}, true},
		"root as a file":      {view.Entry{Path: ".", Type: view.TypeRegular}, false},
		"not clean":           {view.Entry{Path: "a//f", Type: view.TypeRegular}, false},
		"absolute":            {view.Entry{Path: "/f", Type: view.TypeRegular}, false},
		"above":               {view.Entry{Path: "a/../../f", Type: view.TypeRegular}, false},
		"empty":               {view.Entry{Type: view.TypeRegular}, false},
		"with NUL":            {view.Entry{Path: "a\x00b", Type: view.TypeRegular}, false},
		"looks like a marker": {view.Entry{Path: "a/.wh.f", Type: view.TypeRegular}, false},
		"device 0:0":          {view.Entry{Path: "n", Type: view.TypeChar}, false},
	} {
		if err := CheckEntry(&tt.entry); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOpenSparse reads GNU's format 1.0: a map of the file in its first block, then the data.
func TestOpenSparse(t *testing.T) {
	t.Parallel()
	content := make([]byte, 512+3)
	copy(content, "1\n1048576\n3\n")
	copy(content[512:], "end")
	h := rawHeader{name: "f", mode: 0o644, flag: '0', size: int64(len(content))}
	block := h.append(nil, map[string]string{
		"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "f", "GNU.sparse.realsize": "1048579",
	})
	data := append(append(block, content...), make([]byte, 512-3+1024)...)
	got, err := members(t, data)
	if err != nil || len(got) != 1 || !got[0].Place.Sparse || got[0].Entry.Size != 1048579 || got[0].Place != (toc.Place{Sparse: true}) {
		t.Fatalf("%+v, %v", got, err)
	}
	r, err := OpenSparse(bytes.NewReader(data[got[0].Place.Offset:]))
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(r)
	if err != nil || len(all) != 1048579 || string(all[1048576:]) != "end" {
		t.Errorf("%d bytes, %v", len(all), err)
	}
}
