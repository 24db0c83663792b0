package layer

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/layer/seekable"
)

// Estargz is a layer as a blob of which one file can be read without the rest (stargz-snapshotter, docs/estargz.md): gzip,
// with a table of contents after the end of the tar.
type Estargz struct {
	// DiffID is that of everything the blob decompresses to, the table included: the layer has the files of the original, but
	// another DiffID.
	DiffID digest.Digest `json:"diffID"`
	// Blob is annotated with the digest of the table, which readers need.
	Blob ocispec.Descriptor `json:"pack"`
}

// Estargz makes such a blob, with a level of gzip, 0 for the default. It follows BuildKit (util/compression/estargz.go): a
// layer that has such a blob stays as it is. A blob that was made before is used again.
func (l *Layers) Estargz(ctx context.Context, id digest.Digest, level int) (*Estargz, error) {
	got, err := l.Get(id)
	if err != nil {
		return nil, err
	}
	for _, p := range got.Blobs {
		if toc, ok := l.estargzTable(p); ok {
			return &Estargz{id, annotateEstargz(p, toc, got.TarSize)}, nil
		}
	}
	if level == 0 {
		level = gzip.DefaultCompression
	}
	known := l.path(id, "estargz"+strconv.Itoa(level))
	if e, ok := l.knownEstargz(known); ok {
		return e, nil
	}
	e, err := l.makeEstargz(ctx, id, level)
	if err != nil {
		return nil, fail(id, err)
	}
	data, err := json.Marshal(e)
	if err != nil {
		return nil, fail(id, err)
	}
	return e, l.store.WriteCacheFile(known, data)
}

// knownEstargz reads what was remembered of a layer, where that is still in the store.
func (l *Layers) knownEstargz(file string) (*Estargz, bool) {
	data, err := os.ReadFile(file)
	e := &Estargz{}
	if err != nil || json.Unmarshal(data, e) != nil {
		return nil, false
	}
	if got, err := l.Get(e.DiffID); err != nil || !got.Present() {
		return nil, false
	}
	size, err := l.store.StatBlob(e.Blob.Digest)
	return e, err == nil && size == e.Blob.Size
}

func (l *Layers) makeEstargz(ctx context.Context, id digest.Digest, level int) (_ *Estargz, err error) {
	tar, err := l.OpenTar(ctx, id)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tar.Close()) }()
	pr, pw := io.Pipe()
	var toc digest.Digest
	done := make(chan struct{})
	go func() {
		defer close(done)
		w := estargz.NewWriterLevel(pw, level)
		err := crash.Guard(func() error { return w.AppendTarLossLess(tar) })()
		if err == nil {
			toc, err = w.Close()
		}
		pw.CloseWithError(err)
	}()
	got, desc, err := l.Ingest(ctx, pr, "", "")
	pr.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	<-done
	if err != nil {
		return nil, err
	}
	return &Estargz{got.DiffID, annotateEstargz(desc, toc, got.TarSize)}, nil
}

// estargzTable is the digest of a blob's table of contents, where the blob is in the store and has one.
func (l *Layers) estargzTable(p ocispec.Descriptor) (digest.Digest, bool) {
	if p.MediaType != ocispec.MediaTypeImageLayerGzip {
		return "", false
	}
	f, err := l.store.OpenBlob(p.Digest)
	if err != nil {
		return "", false
	}
	defer func() { _ = f.Close() }()
	blob := io.NewSectionReader(f, 0, p.Size)
	if !smallTable(blob) {
		return "", false
	}
	r, err := estargz.Open(blob)
	if err != nil {
		return "", false
	}
	return r.TOCDigest(), true
}

// maxTable bounds, in bytes, the table of contents that somebody else's blob can make us decode.
const maxTable = 64 << 20

// smallTable reports whether what a blob's footer calls its table of contents is, decompressed, of a bearable size.
func smallTable(blob *io.SectionReader) bool {
	at, err := seekable.TableOffset(blob)
	if err != nil {
		return false
	}
	table, err := gzip.NewReader(io.NewSectionReader(blob, at, blob.Size()-at))
	if err != nil {
		return false
	}
	n, _ := io.Copy(io.Discard, io.LimitReader(table, maxTable+1)) // what cannot be read, Open will say
	return n <= maxTable
}

func annotateEstargz(d ocispec.Descriptor, toc digest.Digest, size int64) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Annotations: map[string]string{
		estargz.TOCJSONDigestAnnotation: toc.String(), estargz.StoreUncompressedSizeAnnotation: fmt.Sprint(size),
	}}
}
