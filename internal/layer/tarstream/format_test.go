package tarstream

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/view"
)

// TestCanonicalTar: the bytes are the identity of a layer. They never change.
func TestCanonicalTar(t *testing.T) {
	t.Parallel()
	if got := digest.FromBytes(canonical(t, entries())); got != "sha256:033d9dde2a873f420bec06c8182cc051917a4a4af51676af60db4b7fef5a566e" {
		t.Errorf("%s", got)
	}
	if got := canonical(t, nil); !bytes.Equal(got, make([]byte, 1024)) {
		t.Errorf("an empty archive has %d bytes", len(got))
	}
}

func TestTimeRecords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		at     time.Time
		field  int64
		record string
	}{
		{time.Time{}, 0, ""}, {time.Unix(0, 0), 0, ""}, {time.Unix(5, 0), 5, ""}, {time.Unix(maxOctal11, 0), maxOctal11, ""},
		{time.Unix(5, 1), 5, "5.000000001"}, {time.Unix(5, 120_000_000), 5, "5.12"}, {time.Unix(-5, 0), 0, "-5"},
		{time.Unix(-1, 500_000_000), 0, "-0.5"}, {time.Unix(-6, 999_999_999), 0, "-5.000000001"}, {time.Unix(maxOctal11+1, 0), maxOctal11, "8589934592"},
	} {
		h := &rawHeader{}
		if got := timeRecord(nil, h, c.at)["mtime"]; got != c.record || h.mtime != c.field {
			t.Errorf("%v: %q and %d, want %q and %d", c.at, got, h.mtime, c.record, c.field)
		}
	}
}

// TestRecordLengths: the length of a record counts its own digits.
func TestRecordLengths(t *testing.T) {
	t.Parallel()
	for n := range 1200 {
		got := string(appendRecord([]byte("before"), "k", strings.Repeat("v", n)))
		got = strings.TrimPrefix(got, "before")
		length, rest, _ := strings.Cut(got, " ")
		if length != fmt.Sprint(len(got)) || rest != "k="+strings.Repeat("v", n)+"\n" {
			t.Fatalf("value of %d bytes: %s of %d", n, length, len(got))
		}
	}
}

func TestOctal(t *testing.T) {
	t.Parallel()
	for v, want := range map[int64]string{0: "0000000\x00", 8: "0000010\x00", maxOctal7: "7777777\x00"} {
		field := []byte("xxxxxxxx")
		if octal(field, v); string(field) != want {
			t.Errorf("%d: %q", v, field)
		}
	}
}

func TestLongFields(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("d/", 60)
	for name, c := range map[string]struct {
		header, want rawHeader
		records      map[string]string
	}{
		"short":      {header: rawHeader{name: long[:100], uid: maxOctal7}, want: rawHeader{name: long[:100], uid: maxOctal7}},
		"name":       {rawHeader{name: long}, rawHeader{name: long[:99]}, map[string]string{"path": long}},
		"target":     {rawHeader{link: long}, rawHeader{link: long[:100]}, map[string]string{"linkpath": long}},
		"user":       {rawHeader{uid: maxOctal7 + 1, gid: 5}, rawHeader{gid: 5}, map[string]string{"uid": "2097152"}},
		"group":      {rawHeader{gid: 1 << 32}, rawHeader{}, map[string]string{"gid": "4294967296"}},
		"size":       {rawHeader{size: maxOctal11 + 1}, rawHeader{}, map[string]string{"size": "8589934592"}},
		"large size": {rawHeader{size: maxOctal11}, rawHeader{size: maxOctal11}, nil},
	} {
		h := c.header
		if diff := cmp.Diff(c.records, longFields(nil, &h)); diff != "" || h != c.want {
			t.Errorf("%s: %+v, want %+v: %s", name, h, c.want, diff)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"": ".", ".": ".", "/": ".", "./": ".", "a/..": ".", "/..": ".", "//a": "a", "a//b/": "a/b", "/../a": "a", strings.Repeat("x", 255): strings.Repeat("x", 255),
	} {
		if got, err := entryName(raw); err != nil || got != want {
			t.Errorf("%q: %q, %v", raw, got, err)
		}
	}
	for _, raw := range []string{"..", "../a", "a/../..", strings.Repeat("x", 256), strings.Repeat("x/", 2048) + "x", "a\x00b"} {
		if got, err := entryName(raw); err == nil {
			t.Errorf("%.20q: %.20q", raw, got)
		}
	}
	for name, want := range map[string]bool{".wh.a": true, "a/.wh.b/c": true, "a.wh.b": false, "a/b.wh.": false, "wh.a": false} {
		if got := marksRemoval(name); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
	if got := whiteoutName("a/b"); got != "a/.wh.b" {
		t.Error(got)
	}
	if got := opaqueMarker("."); got != ".wh..wh..opq" {
		t.Error(got)
	}
}

// TestAttributes: those of overlayfs, and those that a file of the type cannot have, are not taken from a tar.
func TestAttributes(t *testing.T) {
	t.Parallel()
	records := map[string]string{"comment": "x"}
	for _, name := range []string{"user.a", "security.capability", "trusted.overlay.opaque", "user.overlay.redirect"} {
		records["SCHILY.xattr."+name] = "v"
	}
	got := fileXattrs(view.TypeRegular, &tar.Header{PAXRecords: records})
	if diff := cmp.Diff(map[string]string{"user.a": "v", "security.capability": "v"}, got); diff != "" {
		t.Error(diff)
	}
	if got := fileXattrs(view.TypeSymlink, &tar.Header{PAXRecords: records}); got["user.a"] != "" {
		t.Errorf("a symlink has %v", got)
	}
	if got := fileXattrs(view.TypeDir, &tar.Header{}); got != nil {
		t.Errorf("%v", got)
	}
	for key, want := range map[string]bool{"GNU.sparse.major": true, "path": false} {
		if got := isSparse(&tar.Header{PAXRecords: map[string]string{key: "1"}}); got != want {
			t.Errorf("%s: sparse %t", key, got)
		}
	}
	if !isSparse(&tar.Header{Typeflag: tar.TypeGNUSparse}) {
		t.Error("GNU's old format is not sparse")
	}
}

// failing fails after n bytes.
type failing struct {
	n   int
	err error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, f.err
	}
	return len(p), nil
}

func TestCopyContentFails(t *testing.T) {
	t.Parallel()
	fault := errors.New("a fault")
	data := tarOf(t, tar.Header{Name: "f", Size: 300_000})
	open := func(ctx context.Context, data []byte) (*Reader, Member) {
		t.Helper()
		r, err := NewReader(ctx, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		m, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		return r, m
	}
	r, m := open(t.Context(), data)
	if err := r.CopyContent(&failing{100_000, fault}, m.Entry); !errors.Is(err, fault) {
		t.Errorf("a writer that fails: %v", err)
	}
	r, m = open(t.Context(), data[:200_000])
	if err := r.CopyContent(io.Discard, m.Entry); err == nil || err.Error() != `layer entry "f": tar ends too early` {
		t.Errorf("a tar that ends: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, m = open(ctx, data)
	cancel()
	if err := r.CopyContent(io.Discard, m.Entry); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if _, err := r.Next(); !errors.Is(err, context.Canceled) {
		t.Errorf("the next after it was canceled: %v", err)
	}
	if err := NewWriter(&failing{0, fault}).Header(&view.Entry{Path: "f", Type: view.TypeRegular}); !errors.Is(err, fault) {
		t.Errorf("%v", err)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	damaged := &compression.Error{}
	for want, c := range map[string]struct {
		err     error
		headers int
	}{
		"tar ends too early":           {fmt.Errorf("x: %w", io.ErrUnexpectedEOF), 1},
		"not a tar archive":            {tar.ErrHeader, 0},
		"tar is damaged before byte 7": {tar.ErrHeader, 1},
		"else":                         {errors.New("else"), 1},
	} {
		r := &Reader{headers: c.headers}
		r.in.N = 7
		if got := r.explain(c.err); got.Error() != want {
			t.Errorf("%v, want %s", got, want)
		}
	}
	if got := (&Reader{}).explain(fmt.Errorf("x: %w", damaged)); !errors.Is(got, damaged) || errors.Unwrap(got) != nil {
		t.Errorf("%v", got)
	}
}
