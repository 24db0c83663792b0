// Package seekable reads blobs of layers that have a table of contents of their own, eStargz and zstd:chunked: the table, and single
// files, without the rest of the blob.
//
// Such a table is what the publisher of a layer says of it. It is verified by the digest that the manifest has of it, and the contents of
// files by the digests that it has of them. Whether the layer's tar has the same files is known only when the whole blob has been
// read: the table must not become that of the layer in the store.
package seekable

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/layer/convert"
	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/oci"
)

// The limits of a table: a registry must not fill the memory.
const (
	maxPacked = 64 << 20  // compressed, in bytes
	maxTable  = 256 << 20 // decompressed
	maxEntry  = 4 << 20   // of one entry, decompressed
)

// minBlob is the size from which a blob is read in parts. Smaller ones arrive as fast as a whole, and are verified then.
const minBlob = 256 << 10

// Range reads the bytes of a blob from one position up to, not including, another.
type Range func(ctx context.Context, from, to int64) (io.ReadCloser, error)

// Layer is what the table of contents of a blob says of a layer.
type Layer struct {
	// Records is the table. It has the digests of all files. Its TarSize, and the offsets of its places, mean nothing.
	Records *toc.Records
	// Coarse: the table has times in whole seconds, the tar may have more exact ones.
	Coarse bool

	file     []byte // of the table
	size     int64  // of the blob
	read     Range
	chunks   []chunk
	contents []content // sorted by at
	starts   []int64   // of chunks in the blob, sorted, and the end of the last
	files    func() (*index.Node, error)
}

// Has reports whether a manifest says of a blob that it has a table of contents.
func Has(d ocispec.Descriptor) bool {
	return d.Size >= minBlob && Key(d) != ""
}

// Key says which table of contents a manifest says that a blob has, "" for none. Blobs with one digest and one key have the same table.
func Key(d ocispec.Descriptor) string {
	if toc := d.Annotations[estargz.TOCJSONDigestAnnotation]; toc != "" {
		return toc
	}
	if sum := zstdAnnotation(d, checksumAnnotation); sum != "" {
		return sum + " " + zstdAnnotation(d, positionAnnotation)
	}
	return ""
}

// Open reads the table of contents of a blob, the layer id. An error says why the blob must be read as a whole.
func Open(ctx context.Context, d ocispec.Descriptor, id digest.Digest, read Range) (_ *Layer, err error) {
	defer crash.Recover(&err) // of the libraries: the bytes are not trusted
	open, want := openEstargz, digest.Digest(d.Annotations[estargz.TOCJSONDigestAnnotation])
	if want == "" {
		open, want = openZstd, digest.Digest(zstdAnnotation(d, checksumAnnotation))
	}
	if err := oci.CheckDigest(want); err != nil {
		return nil, fmt.Errorf("table of contents: %w", err)
	}
	entries, err := open(ctx, d, want, read)
	if err != nil {
		return nil, fmt.Errorf("table of contents: %w", err)
	}
	parsed, err := convert.List(ctx, entries.next)
	if err = errors.Join(err, entries.close()); err != nil {
		return nil, fmt.Errorf("table of contents: %w", err)
	}
	file, _ := parsed.Finish(id)
	l := &Layer{file: file, Coarse: entries.coarse, size: d.Size, read: read, chunks: entries.chunks, contents: entries.contents}
	if l.Records, err = toc.DecodeRecords(file, id); err != nil {
		return nil, err
	}
	l.files = sync.OnceValues(func() (*index.Node, error) {
		t, err := l.Table()
		if err != nil {
			return nil, err
		}
		return index.FromTable(t)
	})
	for _, c := range l.chunks {
		l.starts = append(l.starts, c.start)
	}
	l.starts = slices.Compact(append(l.starts, entries.end))
	return l, nil
}

// Table returns Records in another form.
func (l *Layer) Table() (*toc.Table, error) { return toc.Decode(l.file, l.Records.DiffID) }

// Files returns the root of the files of the layer alone, whiteouts included.
func (l *Layer) Files() (*index.Node, error) { return l.files() }

// readAll reads a part of a blob into memory.
func (read Range) readAll(ctx context.Context, from, to int64) (data []byte, err error) {
	body, err := read(ctx, from, to)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	data = make([]byte, to-from)
	_, err = io.ReadFull(body, data)
	return data, err
}
