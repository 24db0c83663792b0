// Package compression recognises and undoes the compressions that layers, archives and build contexts come in.
package compression

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Algorithm is a compression, by the name that people type.
type Algorithm string

// The algorithms that Docker reads.
const (
	None  Algorithm = "none"
	Gzip  Algorithm = "gzip"
	Zstd  Algorithm = "zstd"
	Bzip2 Algorithm = "bzip2"
	XZ    Algorithm = "xz"
)

var magics = []struct {
	algorithm Algorithm
	magic     []byte
}{
	{Gzip, []byte{0x1f, 0x8b, 0x08}},
	{Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd}},
	{Bzip2, []byte("BZh")},
	{XZ, []byte{0xfd, '7', 'z', 'X', 'Z', 0}},
}

// Detect tells the algorithm from the first bytes of a stream (10 are enough).
func Detect(head []byte) Algorithm {
	for _, m := range magics {
		if bytes.HasPrefix(head, m.magic) {
			return m.algorithm
		}
	}
	return None
}

// maxWindow bounds the memory that a compressed stream can make its reader take: zstd's long mode goes to 128 MiB.
const maxWindow = 128 << 20

// NewReader reads r decompressed, and says how it was compressed. The reader buffers: it may have taken more from r than
// it gave. Close frees what it holds, not r.
func NewReader(r io.Reader) (io.ReadCloser, Algorithm, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	head, err := in.Peek(10)
	if err != nil && err != io.EOF {
		return nil, "", err
	}
	algorithm := Detect(head)
	out, err := open(in, algorithm)
	if err != nil {
		return nil, "", fmt.Errorf("read %s: %w", algorithm, err)
	}
	return out, algorithm, nil
}

func open(in *bufio.Reader, algorithm Algorithm) (io.ReadCloser, error) {
	switch algorithm {
	case Gzip:
		return gzip.NewReader(in)
	case Zstd:
		d, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case Bzip2:
		return io.NopCloser(bzip2.NewReader(in)), nil
	case XZ:
		d, err := xz.ReaderConfig{DictCap: maxWindow}.NewReader(in)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(d), nil
	}
	return io.NopCloser(in), nil
}
