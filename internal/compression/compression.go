// Package compression detects, reads and writes the compressions of layers, archives and build contexts.
package compression

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// Algorithm is a compression, by its name in options.
type Algorithm string

// The algorithms that Docker reads.
const (
	None  Algorithm = "none"
	Gzip  Algorithm = "gzip"
	Zstd  Algorithm = "zstd"
	Bzip2 Algorithm = "bzip2"
	XZ    Algorithm = "xz"
)

// Estargz is gzip with a table of contents in the layer, which changes the layer's tar.
const Estargz Algorithm = "estargz"

var magics = []struct {
	algorithm Algorithm
	magic     []byte
}{
	{Gzip, []byte{0x1f, 0x8b, 0x08}},
	{Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd}},
	{Bzip2, []byte("BZh")},
	{XZ, []byte{0xfd, '7', 'z', 'X', 'Z', 0}},
}

// Detect returns the algorithm of a stream by its first bytes. 10 are enough.
func Detect(head []byte) Algorithm {
	for _, m := range magics {
		if bytes.HasPrefix(head, m.magic) {
			return m.algorithm
		}
	}
	// A zstd stream may begin with a skippable frame (RFC 8878, 3.1.2), as those of zstd:chunked and pzstd do.
	if len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}) {
		return Zstd
	}
	return None
}

// maxWindow bounds the memory that a compressed stream can make its reader take: what `zstd -d` and `xz -9 -d` accept.
const maxWindow = 128 << 20

// NewReader returns a reader of the decompressed data of r and the algorithm. It reads ahead. If r is a *bufio.Reader, the data
// after the compressed stream can still be read from r. Errors in the data are of type *Error. Close does not close r.
func NewReader(r io.Reader) (io.ReadCloser, Algorithm, error) {
	in, ok := r.(*bufio.Reader)
	if !ok {
		in = bufio.NewReaderSize(r, 64<<10)
	}
	head, err := in.Peek(10)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	}
	algorithm := Detect(head)
	out, err := open(in, algorithm)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, "", &Error{algorithm, err}
	}
	if algorithm == None {
		return out, None, nil
	}
	return decompressed{out, algorithm}, algorithm, nil
}

func open(in *bufio.Reader, algorithm Algorithm) (io.ReadCloser, error) {
	switch algorithm {
	case Gzip:
		return newGzipReader(in)
	case Zstd:
		d, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case Bzip2:
		return io.NopCloser(bzip2.NewReader(in)), nil
	case XZ:
		f := &xzFooter{in: in, blocks: newXZBlocks()}
		d, err := xz.ReaderConfig{DictCap: lzma.MinDictCap}.NewReader(f) // or what a block's header says, if that is more
		if err != nil {
			return nil, err
		}
		f.out = d
		return io.NopCloser(readerFunc(f.check)), nil
	}
	return io.NopCloser(in), nil
}

// xzFooter verifies that a stream ends with a footer ("The .xz File Format", 2.1.2.4): the library accepts the end of the input
// between any two blocks as the end of the stream.
type xzFooter struct {
	in   io.Reader
	out  io.Reader
	tail [2]byte // the last two bytes read, stream padding left out

	blocks *xzBlocks
}

func (f *xzFooter) Read(p []byte) (int, error) {
	n, err := f.in.Read(p)
	if end := bytes.TrimRight(p[:n], "\x00"); len(end) > 1 {
		copy(f.tail[:], end[len(end)-2:])
	} else if len(end) == 1 {
		f.tail = [2]byte{f.tail[1], end[0]}
	}
	if tooLarge := f.blocks.feed(p[:n]); tooLarge != nil {
		return 0, tooLarge // before the library allocates it
	}
	return n, err
}

func (f *xzFooter) check(p []byte) (int, error) {
	n, err := f.out.Read(p)
	if errors.Is(err, io.EOF) && string(f.tail[:]) != "YZ" {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// decompressed adds the algorithm to errors.
type decompressed struct {
	io.ReadCloser
	algorithm Algorithm
}

func (d decompressed) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &Error{d.algorithm, err}
	}
	return n, err
}

// Error is returned for compressed data that is damaged or incomplete.
type Error struct {
	Algorithm Algorithm
	Err       error
}

func (e *Error) Error() string {
	if errors.Is(e.Err, io.ErrUnexpectedEOF) {
		return fmt.Sprintf("%s data ends too early", e.Algorithm)
	}
	return fmt.Sprintf("%s data is damaged: %v", e.Algorithm, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }
