package layer

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/layer/convert"
	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/pipe"
	"github.com/micabuild/mica/internal/store"
)

// Incoming is a layer that comes from elsewhere and is not trusted: a tar, plain or compressed with gzip, zstd, bzip2 or
// xz.
type Incoming struct {
	Reader io.Reader
	// Blob and DiffID are verified where not "".
	Blob, DiffID digest.Digest
	// Into is where the blob is written, nil for a new one.
	Into *store.BlobWriter
	// Unpack makes the tree in the same pass. Of a layer that needs a second look (names that occur twice or lead through
	// its own symlinks) it is not made; Tree makes it then.
	Unpack bool
}

// Ingest is IngestFrom of a reader alone.
func (l *Layers) Ingest(ctx context.Context, r io.Reader, wantBlob, wantDiffID digest.Digest) (*Layer, ocispec.Descriptor, error) {
	return l.IngestFrom(ctx, Incoming{Reader: r, Blob: wantBlob, DiffID: wantDiffID})
}

// IngestFrom reads one layer to its end in one pass: blob, DiffID, table of contents and, if asked, tree. A
// mismatch is store.ErrDamaged, and leaves nothing in the store. The descriptor is the blob's as it came.
func (l *Layers) IngestFrom(ctx context.Context, from Incoming) (*Layer, ocispec.Descriptor, error) {
	got, desc, err := l.ingest(ctx, from)
	if err != nil {
		if name := cmp.Or(from.DiffID, from.Blob); name != "" {
			err = fail(name, err)
		} else {
			err = fmt.Errorf("layer: %w", err)
		}
	}
	return got, desc, err
}

func (l *Layers) ingest(ctx context.Context, from Incoming) (*Layer, ocispec.Descriptor, error) {
	none := ocispec.Descriptor{}
	blob := from.Into
	if blob == nil {
		var err error
		if blob, err = l.store.NewBlob(); err != nil {
			return nil, none, err
		}
		defer func() { _ = blob.Close() }()
	}
	temp, err := l.store.TempDir("layer")
	if err != nil {
		return nil, none, err
	}
	defer func() { _ = temp.Remove() }()
	d := &draft{temp: temp}
	in, err := l.unpackStream(ctx, from, blob, d)
	if err != nil {
		return nil, none, err
	}
	if from.DiffID != "" && in.id != from.DiffID {
		return nil, none, fmt.Errorf("%w: its content is %s", store.ErrDamaged, in.id)
	}
	if got, ok := l.madeHere(ctx, in, blob, from.Blob); ok {
		return got, ocispec.Descriptor{MediaType: in.mediaType, Digest: in.id, Size: blob.Size()}, nil
	}
	name, err := blob.Commit(from.Blob)
	if err != nil {
		return nil, none, err
	}
	desc := ocispec.Descriptor{MediaType: in.mediaType, Digest: name, Size: blob.Size()}
	d.blobs.Stored = []ocispec.Descriptor{desc}
	d.toc, d.sum = in.parsed.Finish(in.id)
	got, err := l.install(ctx, d)
	return got, desc, err
}

// madeHere returns the layer if it is stored as a tree from which its plain tar, which has come, can be written again: a
// second copy need not be kept.
func (l *Layers) madeHere(ctx context.Context, in *incoming, blob *store.BlobWriter, wantBlob digest.Digest) (*Layer, bool) {
	s, err := l.summary(in.id)
	if err != nil || !s.Canonical || blob.Digest() != in.id || wantBlob != "" && wantBlob != in.id || !l.unpacked(in.id) {
		return nil, false
	}
	if l.verifyTree(ctx, in.id) != nil {
		return nil, false
	}
	got, err := l.Get(in.id)
	return got, err == nil
}

// incoming is what reading a layer gives.
type incoming struct {
	id        digest.Digest
	mediaType string
	parsed    *convert.Parsed
}

// unpackStream reads a layer to its end, and copies it to blob as it came. Reading, writing the blob, decompressing,
// hashing, parsing and making the tree overlap.
func (l *Layers) unpackStream(ctx context.Context, from Incoming, blob *store.BlobWriter, d *draft) (_ *incoming, err error) {
	source := &sourceReader{ctx: ctx, r: from.Reader}
	raw := pipe.NewReader(source, blob)
	defer raw.Close()
	defer func() {
		// A disk that is full or a connection that broke looks like damaged data to who decompresses it.
		if err != nil {
			err = cmp.Or(source.failure(), raw.TeeError(), err)
		}
	}()
	compressed := bufio.NewReaderSize(raw, 64<<10)
	plain, algorithm, err := compression.NewReader(compressed)
	if err != nil {
		return nil, err
	}
	defer func() { _ = plain.Close() }()
	content := io.Reader(plain)
	hash := sha256.New()
	var hashed *pipe.Reader
	if algorithm != compression.None {
		hashed = pipe.NewReader(plain, hash)
		defer hashed.Close()
		content = hashed
	}
	var w tree.Writer
	if from.Unpack {
		if w, err = l.trees.Create(d.temp.Path); err != nil {
			return nil, err
		}
		defer w.Close()
	}
	parsed, err := convert.Skim(ctx, content, w)
	if err != nil {
		return nil, err
	}
	if parsed.Unpacked {
		d.tree = w.Path()
	}
	// What follows the compressed stream, as the padding of the archive that it came in, belongs to the blob.
	if _, err := io.Copy(io.Discard, compressed); err != nil {
		return nil, err
	}
	if err := raw.Wait(); err != nil {
		return nil, err
	}
	id := blob.Digest() // of a plain tar
	if hashed != nil {
		if err := hashed.Wait(); err != nil {
			return nil, err
		}
		id = digest.NewDigest(digest.SHA256, hash)
	}
	return &incoming{id, oci.LayerType(string(algorithm)), parsed}, nil
}

// sourceReader remembers why reading ended.
type sourceReader struct {
	ctx context.Context
	r   io.Reader

	mu  sync.Mutex
	err error // the end left out
}

func (c *sourceReader) Read(p []byte) (int, error) {
	err := c.ctx.Err()
	n := 0
	if err == nil {
		n, err = c.r.Read(p)
	}
	if failed := nonEOF(err); failed != nil {
		c.mu.Lock()
		c.err = failed
		c.mu.Unlock()
	}
	return n, err
}

func (c *sourceReader) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func nonEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
