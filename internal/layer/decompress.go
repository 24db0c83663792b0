package layer

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/ulikunitz/xz"
)

// maxWindow bounds the memory that a compressed stream may ask for: what `zstd -d` and `xz -9 -d` accept.
const maxWindow = 128 << 20

// compression is one way a tar may be packed.
type compression struct {
	magic     string
	mediaType string
	open      func(io.Reader) (io.ReadCloser, error)
}

// Media types of layers that no specification names; registries do not have them, archives to import do.
const (
	mediaTypeBzip2 = "application/vnd.oci.image.layer.v1.tar+bzip2"
	mediaTypeXZ    = "application/vnd.oci.image.layer.v1.tar+xz"
)

// detect tells how r is packed from its first bytes.
func detect(r *bufio.Reader) compression {
	for _, c := range []compression{
		{"\x1f\x8b\x08", ocispec.MediaTypeImageLayerGzip, openGzip},
		{"\x28\xb5\x2f\xfd", ocispec.MediaTypeImageLayerZstd, openZstd},
		{"BZh", mediaTypeBzip2, openBzip2},
		{"\xfd7zXZ\x00", mediaTypeXZ, openXZ},
	} {
		if head, _ := r.Peek(len(c.magic)); bytes.Equal(head, []byte(c.magic)) {
			return c
		}
	}
	// A zstd stream may begin with a skippable frame (RFC 8878, 3.1.2), as those of zstd:chunked and pzstd do.
	if head, _ := r.Peek(4); len(head) == 4 && head[0]&0xf0 == 0x50 && string(head[1:]) == "\x2a\x4d\x18" {
		return compression{"", ocispec.MediaTypeImageLayerZstd, openZstd}
	}
	return compression{"", ocispec.MediaTypeImageLayer, openPlain}
}

func openPlain(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(r), nil }

func openGzip(r io.Reader) (io.ReadCloser, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, decompressError{"gzip", err}
	}
	return decompressed{"gzip", z, z.Close}, nil
}

func openZstd(r io.Reader) (io.ReadCloser, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(2))
	if err != nil {
		return nil, decompressError{"zstd", err}
	}
	return decompressed{"zstd", z, func() error { z.Close(); return nil }}, nil
}

func openBzip2(r io.Reader) (io.ReadCloser, error) {
	return decompressed{"bzip2", bzip2.NewReader(r), func() error { return nil }}, nil
}

func openXZ(r io.Reader) (io.ReadCloser, error) {
	z, err := xz.ReaderConfig{DictCap: maxWindow}.NewReader(r)
	if err != nil {
		return nil, decompressError{"xz", err}
	}
	return decompressed{"xz", z, func() error { return nil }}, nil
}

// decompressed names the format in its errors.
type decompressed struct {
	format string
	io.Reader
	close func() error
}

func (d decompressed) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = decompressError{d.format, err}
	}
	return n, err
}

func (d decompressed) Close() error { return d.close() }

// decompressError says that a compressed stream cannot be read.
type decompressError struct {
	format string
	err    error
}

func (e decompressError) Error() string {
	if errors.Is(e.err, io.ErrUnexpectedEOF) || errors.Is(e.err, io.EOF) {
		return fmt.Sprintf("%s data ends too early", e.format)
	}
	return fmt.Sprintf("%s data is damaged: %v", e.format, e.err)
}

func (e decompressError) Unwrap() error { return e.err }
