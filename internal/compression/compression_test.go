package compression

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

func gzipped(s string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return b.Bytes()
}

func zstandard(s string) []byte {
	w, _ := zstd.NewWriter(nil)
	return w.EncodeAll([]byte(s), nil)
}

// decode is for what Go's libraries cannot write.
func decode(s string) []byte {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

var (
	hello = "hello\n"
	// echo hello | bzip2, xz
	bzipped = decode("QlpoOTFBWSZTWcHAgOIAAAFBAAAQAkSgADDNAMNGKZcXckU4UJDBwIDi")
	xzipped = decode("/Td6WFoAAATm1rRGAgAhARYAAAB0L+WjAQAFaGVsbG8KAAAApWCX8ZT2/eAAAR4GwS+kHR+2830BAAAAAARZWg==")
)

func TestNewReader(t *testing.T) {
	skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3}, zstandard(hello)...)
	for _, c := range []struct {
		want Algorithm
		data []byte
	}{
		{None, []byte(hello)}, {None, nil}, {None, []byte("x")}, {Gzip, gzipped(hello)}, {Gzip, append(gzipped("hel"), gzipped("lo\n")...)},
		{Zstd, zstandard(hello)}, {Zstd, skippable}, {Bzip2, bzipped}, {XZ, xzipped},
	} {
		r, got, err := NewReader(bytes.NewReader(c.data))
		if err != nil || got != c.want {
			t.Errorf("%s: %s %v", c.want, got, err)
			continue
		}
		data, err := io.ReadAll(r)
		if want := strings.Repeat(hello, min(1, len(c.data)/2)); err != nil || (string(data) != want && c.want != None) {
			t.Errorf("%s: %q %v", c.want, data, err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: close: %v", c.want, err)
		}
	}
}

func TestDamagedAndTruncated(t *testing.T) {
	for _, whole := range [][]byte{gzipped(strings.Repeat(hello, 1000)), zstandard(strings.Repeat(hello, 1000)), bzipped, xzipped} {
		for _, data := range [][]byte{whole[:len(whole)-3], whole[:20]} {
			r, algorithm, err := NewReader(bytes.NewReader(data))
			if err == nil {
				_, err = io.ReadAll(r)
				_ = r.Close()
			}
			var damaged *Error
			if !errors.As(err, &damaged) || errors.Is(err, io.EOF) {
				t.Errorf("%s, %d bytes: %v", algorithm, len(data), err)
			}
		}
	}
}

func FuzzNewReader(f *testing.F) {
	for _, seed := range [][]byte{gzipped(hello), zstandard(hello), bzipped, xzipped, []byte(hello)} {
		f.Add(seed)
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		r, _, err := NewReader(bytes.NewReader(data))
		if err != nil {
			return
		}
		_, _ = io.CopyN(io.Discard, r, 1<<20)
		_ = r.Close()
	})
}
