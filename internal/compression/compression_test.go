package compression

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const hello = "hello mica\n"

// hello, compressed by bzip2(1) and xz(1), which Go only reads.
var (
	bzip2Hello = []byte{
		0x42, 0x5a, 0x68, 0x39, 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, 0x45, 0x35, 0x10, 0xf9, 0x00, 0x00, 0x02,
		0xd1, 0x00, 0x00, 0x10, 0x40, 0x00, 0x2a, 0x66, 0xa0, 0x00, 0x22, 0x00, 0x69, 0xea, 0x10, 0x03, 0x09,
		0x2d, 0x2c, 0x38, 0x23, 0xc5, 0xdc, 0x91, 0x4e, 0x14, 0x24, 0x11, 0x4d, 0x44, 0x3e, 0x40,
	}
	xzHello = []byte{
		0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21, 0x01, 0x16,
		0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x0a, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x20, 0x6d,
		0x69, 0x63, 0x61, 0x0a, 0x00, 0x00, 0x38, 0xb0, 0xb9, 0x5a, 0x84, 0xce, 0xfe, 0xd5, 0x00, 0x01, 0x23,
		0x0b, 0xc2, 0x1b, 0xfd, 0x09, 0x1f, 0xb6, 0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x04, 0x59, 0x5a,
	}
	// skippable is a skippable frame of three bytes (RFC 8878, 3.1.2).
	skippable = []byte{0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'a', 'b', 'c'}
)

func gzipped(t testing.TB, content string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zstandard(t testing.TB, content string) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll([]byte(content), nil)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// decompress reads all of it.
func decompress(r io.Reader) (string, Algorithm, error) {
	d, algorithm, err := NewReader(r)
	if err != nil {
		return "", algorithm, err
	}
	defer func() { _ = d.Close() }()
	data, err := io.ReadAll(d)
	return string(data), algorithm, err
}

func TestDetect(t *testing.T) {
	for name, tt := range map[string]struct {
		head []byte
		want Algorithm
	}{
		"nothing":               {nil, None},
		"gzip":                  {[]byte{0x1f, 0x8b, 8}, Gzip},
		"half of gzip":          {[]byte{0x1f, 0x8b}, None},
		"gzip, another method":  {[]byte{0x1f, 0x8b, 9, 0}, None},
		"zstd":                  {[]byte{0x28, 0xb5, 0x2f, 0xfd}, Zstd},
		"half of zstd":          {[]byte{0x28, 0xb5, 0x2f}, None},
		"zstd, first skippable": {[]byte{0x50, 0x2a, 0x4d, 0x18}, Zstd},
		"zstd, last skippable":  {[]byte{0x5f, 0x2a, 0x4d, 0x18, 0, 0}, Zstd},
		"half of skippable":     {[]byte{0x50, 0x2a, 0x4d}, None},
		"after skippable":       {[]byte{0x60, 0x2a, 0x4d, 0x18}, None},
		"bzip2":                 {[]byte("BZh9"), Bzip2},
		"half of bzip2":         {[]byte("BZ"), None},
		"xz":                    {[]byte{0xfd, '7', 'z', 'X', 'Z', 0}, XZ},
		"half of xz":            {[]byte{0xfd, '7', 'z', 'X', 'Z'}, None},
		"magic further on":      {[]byte{0, 0x1f, 0x8b, 8}, None},
		"text":                  {[]byte("hello"), None},
	} {
		if got := Detect(tt.head); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestNewReader(t *testing.T) {
	long := strings.Repeat("0123456789 abcdefghij ", 100_000)
	for name, tt := range map[string]struct {
		packed []byte
		want   Algorithm
		plain  string
	}{
		"gzip":                         {gzipped(t, hello), Gzip, hello},
		"gzip of nothing":              {gzipped(t, ""), Gzip, ""},
		"gzip of much":                 {gzipped(t, long), Gzip, long},
		"gzip, two members":            {join(gzipped(t, "one "), gzipped(t, "two")), Gzip, "one two"},
		"zstd":                         {zstandard(t, hello), Zstd, hello},
		"zstd of much":                 {zstandard(t, long), Zstd, long},
		"zstd, two frames":             {join(zstandard(t, "one "), zstandard(t, "two")), Zstd, "one two"},
		"zstd after a skippable frame": {join(skippable, zstandard(t, hello)), Zstd, hello},
		"zstd between them":            {join(skippable, skippable, zstandard(t, hello), skippable), Zstd, hello},
		"only a skippable frame":       {skippable, Zstd, ""},
		"bzip2":                        {bzip2Hello, Bzip2, hello},
		"bzip2, two streams":           {join(bzip2Hello, bzip2Hello), Bzip2, hello + hello},
		"xz":                           {xzHello, XZ, hello},
		"xz, two streams":              {join(xzHello, xzHello), XZ, hello + hello},
		"xz with padding":              {join(xzHello, make([]byte, 4)), XZ, hello},
		"nothing":                      {nil, None, ""},
		"one byte":                     {[]byte("x"), None, "x"},
		"text":                         {[]byte(hello), None, hello},
		"long text":                    {[]byte(long), None, long},
		"zeros":                        {make([]byte, 2000), None, string(make([]byte, 2000))},
		"half a magic":                 {[]byte{0x1f, 0x8b}, None, "\x1f\x8b"},
	} {
		t.Run(name, func(t *testing.T) {
			for how, r := range map[string]io.Reader{
				"at once":     bytes.NewReader(tt.packed),
				"in halves":   iotest.HalfReader(bytes.NewReader(tt.packed)),
				"early EOF":   iotest.DataErrReader(bytes.NewReader(tt.packed)),
				"by a bufio":  bufio.NewReader(bytes.NewReader(tt.packed)),
				"small bufio": bufio.NewReaderSize(bytes.NewReader(tt.packed), 16),
			} {
				got, algorithm, err := decompress(r)
				if got != tt.plain || algorithm != tt.want || err != nil {
					t.Errorf("%s: %d bytes of %s, %v; want %d of %s", how, len(got), algorithm, err, len(tt.plain), tt.want)
				}
			}
		})
	}
}

func TestReadersBehaveAsReaders(t *testing.T) {
	for name, packed := range map[string][]byte{
		"gzip": gzipped(t, hello), "zstd": zstandard(t, hello), "bzip2": bzip2Hello, "xz": xzHello, "none": []byte(hello),
	} {
		r, _, err := NewReader(iotest.OneByteReader(bytes.NewReader(packed)))
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(r, []byte(hello)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: close: %v", name, err)
		}
	}
}

// closeTeller tells whether it was closed.
type closeTeller struct {
	io.Reader
	closed bool
}

func (c *closeTeller) Close() error { c.closed = true; return nil }

func TestCloseLeavesTheSourceOpen(t *testing.T) {
	long := strings.Repeat("0123456789 abcdefghij ", 100_000)
	for name, packed := range map[string][]byte{
		"gzip": gzipped(t, long), "zstd": zstandard(t, long), "bzip2": bzip2Hello, "xz": xzHello, "none": []byte(long),
	} {
		source := &closeTeller{Reader: bytes.NewReader(packed)}
		r, _, err := NewReader(source)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, 5)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := r.Close(); err != nil || source.closed {
			t.Errorf("%s: closed early: %v; source closed: %v", name, err, source.closed)
		}
	}
}

// wantError checks that a stream cannot be read, and that the error says of which algorithm it is.
func wantError(t *testing.T, packed []byte, algorithm Algorithm, text string) {
	t.Helper()
	got, _, err := decompress(bytes.NewReader(packed))
	isError(t, got, err, algorithm, text)
}

// isError checks the error of damaged data, after which got was read.
func isError(t *testing.T, got string, err error, algorithm Algorithm, text string) {
	t.Helper()
	var damage *Error
	if !errors.As(err, &damage) || damage.Algorithm != algorithm {
		t.Errorf("read as %.40q (%d bytes): %v; want an error of %s", got, len(got), err, algorithm)
		return
	}
	if want := fmt.Sprintf("%s data %s", algorithm, text); !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %q, want %q…", err, want)
	}
	if !errors.Is(err, damage.Err) {
		t.Errorf("%v does not unwrap", err)
	}
}

func TestTruncatedData(t *testing.T) {
	long := strings.Repeat("0123456789 abcdefghij ", 10_000)
	for name, tt := range map[string]struct {
		packed    []byte
		algorithm Algorithm
		step      int // every how many bytes it is cut
	}{
		"gzip":                         {gzipped(t, hello), Gzip, 1},
		"gzip of more":                 {gzipped(t, long), Gzip, 97},
		"zstd":                         {zstandard(t, hello), Zstd, 1},
		"zstd of more":                 {zstandard(t, long), Zstd, 7},
		"a skippable frame":            {skippable, Zstd, 1},
		"bzip2":                        {bzip2Hello, Bzip2, 1},
		"xz":                           {xzHello, XZ, 9},
		"a second member of gzip":      {join(gzipped(t, ""), gzipped(t, hello))[:len(gzipped(t, ""))+20], Gzip, 1000},
		"a second frame after skipped": {join(skippable, zstandard(t, hello))[:len(skippable)+6], Zstd, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			// Without the whole magic it is not known to be compressed.
			for n := len(tt.packed) - 1; n > 0 && Detect(tt.packed[:n]) == tt.algorithm; n -= tt.step {
				wantError(t, tt.packed[:n], tt.algorithm, "ends too early")
			}
		})
	}
}

func TestDamagedData(t *testing.T) {
	flip := func(data []byte, at int) []byte {
		data = bytes.Clone(data)
		if at < 0 {
			at += len(data)
		}
		data[at] ^= 0x10
		return data
	}
	long := strings.Repeat("0123456789 abcdefghij ", 10_000)
	for name, tt := range map[string]struct {
		packed    []byte
		algorithm Algorithm
	}{
		"gzip, its checksum":         {flip(gzipped(t, hello), -8), Gzip},
		"gzip, its size":             {flip(gzipped(t, hello), -4), Gzip},
		"gzip, the data":             {flip(gzipped(t, long), 200), Gzip},
		"gzip, then something else":  {join(gzipped(t, hello), []byte("something else")), Gzip},
		"zstd, its checksum":         {flip(zstandard(t, hello), -1), Zstd},
		"zstd, the data":             {flip(zstandard(t, hello), 12), Zstd},
		"zstd, then something else":  {join(zstandard(t, hello), []byte("something else")), Zstd},
		"zstd, a window of 256 MiB":  {[]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x90, 0x01, 0, 0}, Zstd},
		"bzip2, a block's checksum":  {flip(bzip2Hello, 11), Bzip2},
		"bzip2, the data":            {flip(bzip2Hello, 30), Bzip2},
		"bzip2, no block":            {[]byte("BZh9 and what follows is none"), Bzip2},
		"bzip2, a level that is not": {[]byte("BZhx and what follows is none"), Bzip2},
		"xz, its header":             {flip(xzHello, 8), XZ},
		"xz, the data":               {flip(xzHello, 30), XZ},
		"xz, a checksum":             {flip(xzHello, 42), XZ},
		"xz, its index":              {flip(xzHello, 50), XZ},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, tt.packed, tt.algorithm, "is damaged: ") })
	}
}

// What goes wrong in reading the source at its beginning is not the data's fault.
func TestSourceThatFails(t *testing.T) {
	failure := errors.New("no such disk")
	for name, head := range map[string][]byte{"at once": nil, "within the magic": {0x1f}, "after the magic": gzipped(t, hello)[:5]} {
		_, _, err := NewReader(io.MultiReader(bytes.NewReader(head), iotest.ErrReader(failure)))
		var damage *Error
		if !errors.Is(err, failure) || errors.As(err, &damage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Plain data gives the source's error as it is.
	if got, _, err := decompress(io.MultiReader(strings.NewReader(hello+hello), iotest.ErrReader(failure))); got != hello+hello || err != failure { //nolint:errorlint // itself
		t.Errorf("%q, %v", got, err)
	}
	// Later, the failure can still be told.
	if _, _, err := decompress(io.MultiReader(bytes.NewReader(gzipped(t, hello)[:20]), iotest.ErrReader(failure))); !errors.Is(err, failure) {
		t.Errorf("in the middle: %v", err)
	}
}

// FuzzNewReader gives arbitrary bytes: they pass, or are decompressed, or are refused with an *Error that names what they
// seemed to be.
func FuzzNewReader(f *testing.F) {
	for _, seed := range [][]byte{
		gzipped(f, hello), zstandard(f, hello), bzip2Hello, xzHello, join(skippable, zstandard(f, hello)), skippable,
		[]byte(hello), {}, {0x1f, 0x8b, 8}, {0x28, 0xb5, 0x2f, 0xfd}, []byte("BZh1"), {0xfd, '7', 'z', 'X', 'Z', 0},
		withDictionary(xzHello, 40), join(xzHello, withDictionary(xzHello, 30)),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		want := Detect(data)
		check := func(err error) {
			var damage *Error
			if !errors.As(err, &damage) || damage.Algorithm != want || err.Error() == "" {
				t.Errorf("%v is not an error of %s", err, want)
			}
		}
		r, algorithm, err := NewReader(bytes.NewReader(data))
		if err != nil {
			check(err)
			return
		}
		defer func() { _ = r.Close() }()
		if algorithm != want {
			t.Errorf("read as %s, detected as %s", algorithm, want)
		}
		var out bytes.Buffer
		if _, err := io.Copy(&out, io.LimitReader(r, 1<<20)); err != nil { // a few bytes may stand for very many
			check(err)
		}
		if want == None && !bytes.Equal(out.Bytes(), data[:min(len(data), 1<<20)]) {
			t.Error("plain data is changed")
		}
	})
}
