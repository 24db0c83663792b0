// Package seekabletest makes blobs of layers that have a table of contents, for tests.
package seekabletest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Blob is a blob and its descriptor, which is annotated.
type Blob struct {
	ocispec.Descriptor
	Data []byte
}

// ChunkSize is the size of the chunks of files.
const ChunkSize = 64 << 10

func newBlob(mediaType string, data []byte, annotations map[string]string) *Blob {
	return &Blob{Descriptor: ocispec.Descriptor{MediaType: mediaType, Annotations: annotations, Digest: digest.FromBytes(data), Size: int64(len(data))}, Data: data}
}

// Layer is the tar that the blob decompresses to.
func (b *Blob) Layer(t testing.TB) []byte {
	t.Helper()
	var in io.Reader
	var err error
	if b.MediaType == ocispec.MediaTypeImageLayerGzip {
		in, err = gzip.NewReader(bytes.NewReader(b.Data))
	} else {
		in, err = zstd.NewReader(bytes.NewReader(b.Data), zstd.WithDecoderConcurrency(1))
	}
	var tar []byte
	if err == nil {
		tar, err = io.ReadAll(in)
	}
	if err != nil {
		t.Fatal(err)
	}
	return tar
}

// Estargz is a layer as mica and BuildKit write it: the table comes after the end of the tar.
func Estargz(t testing.TB, layer []byte) *Blob {
	t.Helper()
	return Merged(t, layer, 0)
}

// Merged is Estargz with small files in one member of gzip, up to a size.
func Merged(t testing.TB, layer []byte, size int) *Blob {
	t.Helper()
	var out bytes.Buffer
	w := estargz.NewWriterLevel(&out, gzip.BestSpeed)
	w.ChunkSize, w.MinChunkSize = ChunkSize, size
	err := w.AppendTarLossLess(bytes.NewReader(layer))
	if err != nil {
		t.Fatal(err)
	}
	toc, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return newBlob(ocispec.MediaTypeImageLayerGzip, out.Bytes(), map[string]string{estargz.TOCJSONDigestAnnotation: toc.String()})
}

// Converted is a layer as stargz-snapshotter's converter writes it: the table is a file of the layer.
func Converted(t testing.TB, layer []byte) *Blob {
	t.Helper()
	b, err := estargz.Build(io.NewSectionReader(bytes.NewReader(layer), 0, int64(len(layer))), estargz.WithChunkSize(ChunkSize))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(b)
	if err = errors.Join(err, b.Close()); err != nil {
		t.Fatal(err)
	}
	return newBlob(ocispec.MediaTypeImageLayerGzip, data, map[string]string{estargz.TOCJSONDigestAnnotation: b.TOCDigest().String()})
}

// Table is a table of contents as a zstd:chunked blob has it.
type Table struct {
	Version int              `json:"version"`
	Entries []map[string]any `json:"entries"`
}

// Zstd is a layer as podman writes it, zstd:chunked. change, unless it is nil, changes its table.
func Zstd(t testing.TB, layer []byte, change func(*Table)) *Blob {
	t.Helper()
	z := &zstdWriter{t: t, table: &Table{Version: 1}}
	z.files(layer)
	if change != nil {
		change(z.table)
	}
	text, err := json.Marshal(z.table)
	if err != nil {
		t.Fatal(err)
	}
	return ZstdTable(t, z.out.Bytes(), text)
}

// ZstdTable is a blob of zstd data with a table of contents of any text.
func ZstdTable(t testing.TB, data, table []byte) *Blob {
	t.Helper()
	packed := compress(t, table)
	position := fmt.Sprintf("%d:%d:%d:1", len(data)+8, len(packed), len(table))
	data = append(appendFrame(bytes.Clone(data), packed), appendFrame(nil, make([]byte, 64))...)
	return newBlob(ocispec.MediaTypeImageLayerZstd, data, map[string]string{
		"io.github.containers.zstd-chunked.manifest-checksum": digest.FromBytes(packed).String(),
		"io.github.containers.zstd-chunked.manifest-position": position,
	})
}

// appendFrame appends a skippable frame (RFC 8878, 3.1.2).
func appendFrame(to, data []byte) []byte {
	to = binary.LittleEndian.AppendUint32(to, 0x184d2a50)
	return append(binary.LittleEndian.AppendUint32(to, uint32(len(data))), data...)
}

var encoder = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
})

func compress(t testing.TB, data []byte) []byte {
	t.Helper()
	z, err := encoder()
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(data, nil)
}

// zstdWriter writes the contents of files, and what is between them, as frames.
type zstdWriter struct {
	t     testing.TB
	out   bytes.Buffer
	table *Table
}

func (z *zstdWriter) frame(data []byte) {
	if len(data) > 0 {
		z.out.Write(compress(z.t, data))
	}
}

func (z *zstdWriter) files(layer []byte) {
	z.t.Helper()
	in := bytes.NewReader(layer)
	r := tar.NewReader(in)
	done := 0
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			z.t.Fatal(err)
		}
		at := len(layer) - in.Len()
		z.frame(layer[done:at])
		done = at
		if h.Typeflag == tar.TypeReg {
			done += int(h.Size)
		}
		z.entry(h, layer[at:done])
	}
	z.frame(layer[done:])
}

var types = map[byte]string{
	tar.TypeReg: "reg", tar.TypeDir: "dir", tar.TypeSymlink: "symlink", tar.TypeLink: "hardlink", tar.TypeChar: "char", tar.TypeBlock: "block", tar.TypeFifo: "fifo",
}

// entry adds a file to the table, and its content to the data.
func (z *zstdWriter) entry(h *tar.Header, content []byte) {
	e := map[string]any{
		"type": types[h.Typeflag], "name": h.Name, "linkName": h.Linkname, "mode": h.Mode, "size": h.Size, "uid": h.Uid, "gid": h.Gid,
		"modtime": h.ModTime.Format(time.RFC3339Nano), "devMajor": h.Devmajor, "devMinor": h.Devminor,
	}
	attrs := map[string][]byte{}
	for name, value := range h.PAXRecords {
		if attr, ok := strings.CutPrefix(name, "SCHILY.xattr."); ok {
			attrs[attr] = []byte(value)
		}
	}
	e["xattrs"] = attrs
	z.table.Entries = append(z.table.Entries, e)
	if len(content) == 0 {
		return
	}
	e["digest"] = digest.FromBytes(content)
	several := len(content) > ChunkSize
	for at := 0; at < len(content); at += ChunkSize {
		part := content[at:min(at+ChunkSize, len(content))]
		c := e
		if at > 0 {
			c = map[string]any{"type": "chunk", "name": h.Name}
			z.table.Entries = append(z.table.Entries, c)
		}
		c["offset"] = z.out.Len()
		if several {
			c["chunkOffset"], c["chunkSize"], c["chunkDigest"] = at, len(part), digest.FromBytes(part)
		}
		z.frame(part)
	}
	e["endOffset"] = z.out.Len()
}
