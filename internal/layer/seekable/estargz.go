package seekable

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/layer/convert"
)

const (
	// tailSize is how much of the end of an eStargz blob is read at first: the footer, and the table of most layers.
	tailSize = 64 << 10
	// maxLast limits the data between the last file and the table, compressed and decompressed.
	maxLast = 8 << 20

	block = 512 // of a tar

	memberLength = 4 // bytes at the end of a gzip member that say how long its data is
)

// The footer of eStargz (docs/estargz.md): an empty gzip member with the offset of the table, in hexadecimal, in its extra field.
const (
	offsetAt  = 16
	offsetEnd = 32
)

// TableOffset returns where the table of contents of an eStargz blob begins. The library panics at some footers.
func TableOffset(blob *io.SectionReader) (int64, error) {
	footer := make([]byte, estargz.FooterSize)
	if _, err := blob.ReadAt(footer, blob.Size()-int64(len(footer))); err != nil {
		return 0, err
	}
	at, err := tableAt(footer)
	if err == nil && (at <= 0 || at >= blob.Size()-int64(len(footer))) {
		err = fmt.Errorf("the table is at byte %d of a blob of %d bytes", at, blob.Size())
	}
	return at, err
}

// tableAt returns the offset of the table that the footer of an eStargz blob has.
func tableAt(footer []byte) (int64, error) {
	if len(footer) != estargz.FooterSize {
		return 0, errors.New("the blob has no footer")
	}
	text := footer[offsetAt:offsetEnd]
	extra := append([]byte{'S', 'G', byte(len(text) + len("STARGZ")), 0}, text...)
	if !bytes.Equal(estargz.CreateGzipFooter(append(extra, "STARGZ"...)), footer) {
		return 0, errors.New("the blob does not end with the footer of eStargz")
	}
	at, err := strconv.ParseInt(string(text), 16, 64)
	if err != nil {
		return 0, fmt.Errorf("footer: %w", err)
	}
	return at, nil
}

// tail reads the end of a blob, of which it has the last bytes.
type tail struct {
	read Range
	at   int64
	data []byte
}

func (t *tail) bytes(ctx context.Context, from, to int64) ([]byte, error) {
	if from >= t.at {
		return t.data[from-t.at : to-t.at], nil
	}
	data, err := t.read.readAll(ctx, from, min(to, t.at))
	if err != nil || to <= t.at {
		return data, err
	}
	return append(data, t.data[:to-t.at]...), nil
}

// openEstargz reads the table of an eStargz blob, which the footer leads to. It is a tar of one file, in a gzip member of its own.
func openEstargz(ctx context.Context, d ocispec.Descriptor, want digest.Digest, read Range) (*entries, error) {
	end := &tail{read: read, at: max(0, d.Size-tailSize)}
	var err error
	if end.data, err = read.readAll(ctx, end.at, d.Size); err != nil {
		return nil, err
	}
	footer := d.Size - estargz.FooterSize
	at, err := tableAt(end.data[max(0, footer-end.at):])
	if err != nil {
		return nil, err
	}
	switch {
	case at <= 0 || at >= footer:
		return nil, fmt.Errorf("it is at byte %d of a blob of %d bytes", at, d.Size)
	case footer-at > maxPacked:
		return nil, fmt.Errorf("it is too large: %d bytes", footer-at)
	}
	packed, err := end.bytes(ctx, max(0, at-memberLength), footer)
	if err != nil {
		return nil, err
	}
	if at-memberLength < end.at { // it is not read again
		end.at, end.data = max(0, at-memberLength), packed
	}
	table, err := gzip.NewReader(bytes.NewReader(packed[at-max(0, at-memberLength):]))
	if err != nil {
		return nil, err
	}
	table.Multistream(false)
	in := tar.NewReader(&bounded{table, maxTable + maxEntry})
	h, err := in.Next()
	if err != nil {
		return nil, err
	}
	if h.Name != estargz.TOCTarName || h.Typeflag != tar.TypeReg || h.Size > maxTable {
		return nil, fmt.Errorf("%.80q of %d bytes is in its place", h.Name, h.Size)
	}
	e := newEntries(io.NopCloser(in), want, at)
	e.coarse = true
	e.trailer = func(e *entries) (*convert.Listed, error) { return ownEntry(ctx, e, end, h) }
	return e, nil
}

// ownEntry returns the entry of the table itself, which the table does not list. Some tools write it into the layer's tar, so that the
// layer has it as a file: stargz-snapshotter's converter, nerdctl. Others write it after the end of the tar: BuildKit, mica.
func ownEntry(ctx context.Context, e *entries, end *tail, h *tar.Header) (*convert.Listed, error) {
	ended, err := tarEnds(ctx, e, end)
	if err != nil || ended {
		return nil, err
	}
	own := &convert.Listed{Header: *h, Digest: e.want, At: e.at}
	e.contents = append(e.contents, content{at: e.at}) // without chunks
	return own, nil
}

// tarEnds reports whether the data before the table ends with the end of a tar, zeros. It reads what comes after the last file, unless
// that is nothing: then the length at the end of the file's gzip member (RFC 1952, 2.3.1) tells it.
func tarEnds(ctx context.Context, e *entries, end *tail) (bool, error) {
	from, skip := int64(0), int64(0)
	if n := len(e.chunks); len(e.contents) > 0 {
		file := e.contents[len(e.contents)-1]
		if file.count == 0 {
			return false, errors.New("the last file has no chunks")
		}
		last, size := e.chunks[n-1], e.at-file.at
		from, skip = last.start, last.skip+last.size+(-size&(block-1))
	}
	if e.endsWithContent && skip < math.MaxUint32 {
		length, err := end.bytes(ctx, max(0, e.end-memberLength), e.end)
		return err == nil && !bytes.Equal(length, binary.LittleEndian.AppendUint32(nil, uint32(skip))), err
	}
	if e.end-from > maxLast || skip > maxLast {
		return false, errors.New("the last file is too large to find the end of the tar behind it")
	}
	packed, err := end.bytes(ctx, from, e.end)
	if err != nil {
		return false, err
	}
	in, _, err := compression.NewReader(bytes.NewReader(packed))
	if err != nil {
		return false, err
	}
	defer func() { _ = in.Close() }()
	if _, err := io.CopyN(io.Discard, in, skip); err != nil {
		return false, err
	}
	var last, buf [block]byte
	for left := maxLast / block; ; left-- {
		_, err := io.ReadFull(in, buf[:])
		switch {
		case errors.Is(err, io.EOF):
			return last == [block]byte{} && left < maxLast/block, nil
		case err != nil:
			return false, err
		case left == 0:
			return false, errors.New("there is too much after the last file")
		}
		last = buf
	}
}
