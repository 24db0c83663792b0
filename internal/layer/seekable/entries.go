package seekable

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"time"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/convert"
	"github.com/micabuild/mica/internal/oci"
)

// maxChunks is how many chunks a table may have.
const maxChunks = 8_000_000

// chunk is a part of a file's content.
type chunk struct {
	start int64 // in the blob, of a gzip member or a zstd frame
	skip  int64 // bytes of the decompressed data that come before it
	size  int64 // decompressed
	sum   [sha256.Size]byte
	known bool // the sum is
}

// content is the content of a file: a run of chunks.
type content struct {
	at    int64 // convert.Listed.At
	first int   // chunk
	count int   // 0 if the chunks are not those of the file
}

// entries reads the entries of a table of contents, JSON that eStargz and zstd:chunked have in common. It is not trusted, and read one
// entry at a time: many small entries need more memory than their text.
type entries struct {
	json    *json.Decoder
	in      *meter
	sum     hash.Hash
	want    digest.Digest // of the JSON; "" if it has been verified
	end     int64         // of the files in the blob
	coarse  bool          // see Layer
	trailer func(e *entries) (*convert.Listed, error)
	close   func() error

	inside bool
	ended  bool

	chunks   []chunk
	contents []content
	at       int64 // of the next content
	file     *estargz.TOCEntry
	covered  int64 // of file by its chunks so far

	endsWithContent bool // the last entry has content
}

// meter limits what is read for one entry.
type meter struct {
	r    io.Reader
	left int64
}

func (m *meter) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, errors.New("an entry is too large")
	}
	n, err := m.r.Read(p[:min(int64(len(p)), m.left)])
	m.left -= int64(n)
	return n, err
}

// newEntries reads the table that r has. The caller calls close, which closes r.
func newEntries(r io.ReadCloser, want digest.Digest, end int64) *entries {
	e := &entries{sum: sha256.New(), want: want, end: end, close: r.Close}
	e.in = &meter{r: io.TeeReader(&bounded{r, maxTable}, e.sum)}
	e.json = json.NewDecoder(e.in)
	return e
}

// bounded fails where a table is larger than its limit.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("it is larger than %d MiB", maxTable>>20)
	}
	return n, err
}

// next returns the next entry but those of chunks. It returns io.EOF after the last, when the table has been verified.
func (e *entries) next() (*convert.Listed, error) {
	for {
		entry, err := e.decode()
		if errors.Is(err, io.EOF) { // which would be the end of a table that is verified
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		if entry == nil {
			break
		}
		if entry.Type != "chunk" {
			e.finishFile()
			e.endsWithContent = entry.Type == "reg" && entry.Size > 0
			return e.header(entry)
		}
		if err := e.addChunk(entry); err != nil {
			return nil, err
		}
	}
	e.finishFile()
	if e.trailer != nil && !e.ended {
		e.ended = true
		h, err := e.trailer(e)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if h != nil || err != nil {
			return h, err
		}
	}
	return nil, io.EOF
}

// decode reads the next entry; nil after the last.
func (e *entries) decode() (*estargz.TOCEntry, error) {
	if e.ended {
		return nil, nil
	}
	e.in.left = maxEntry
	if !e.inside {
		if err := e.enter(); err != nil {
			return nil, err
		}
	}
	if !e.json.More() {
		return nil, e.leave()
	}
	entry := &estargz.TOCEntry{}
	return entry, e.json.Decode(entry)
}

// enter reads up to the first entry.
func (e *entries) enter() error {
	if err := e.delim('{'); err != nil {
		return err
	}
	for e.json.More() {
		key, err := e.json.Token()
		if err != nil {
			return err
		}
		if key == "entries" {
			e.inside = true
			return e.delim('[')
		}
		if err := e.field(key); err != nil {
			return err
		}
	}
	return errors.New("it has no entries")
}

// field reads a field beside the entries.
func (e *entries) field(key json.Token) error {
	var value json.RawMessage
	if err := e.json.Decode(&value); err != nil {
		return err
	}
	switch {
	case key == "entries":
		return errors.New("it has entries twice")
	case key == "version" && string(value) != "1":
		return fmt.Errorf("it has the unknown version %.20q", value)
	}
	return nil
}

// leave reads the end of the table, and verifies it.
func (e *entries) leave() error {
	if err := e.delim(']'); err != nil {
		return err
	}
	for e.json.More() {
		key, err := e.json.Token()
		if err != nil {
			return err
		}
		if err := e.field(key); err != nil {
			return err
		}
	}
	if err := e.delim('}'); err != nil {
		return err
	}
	e.in.left = math.MaxInt64
	if _, err := io.Copy(io.Discard, e.in); err != nil {
		return err
	}
	if got := digest.NewDigest(digest.SHA256, e.sum); e.want != "" && got != e.want {
		return &digestError{got, e.want}
	}
	return nil
}

func (e *entries) delim(want json.Delim) error {
	got, err := e.json.Token()
	if err == nil && got != want {
		err = fmt.Errorf("%.20q in place of %s", fmt.Sprint(got), want)
	}
	return err
}

// digestError is the error of a table that is not the one that the manifest names.
type digestError struct{ got, want digest.Digest }

func (e *digestError) Error() string {
	return fmt.Sprintf("it has the digest %s, the manifest says %s", e.got, e.want)
}

var tarTypes = map[string]byte{
	"reg": tar.TypeReg, "dir": tar.TypeDir, "symlink": tar.TypeSymlink, "hardlink": tar.TypeLink, "char": tar.TypeChar, "block": tar.TypeBlock,
	"fifo": tar.TypeFifo,
}

// header is the tar header of an entry.
func (e *entries) header(entry *estargz.TOCEntry) (*convert.Listed, error) {
	flag, ok := tarTypes[entry.Type]
	if !ok {
		return nil, fmt.Errorf("entry %.80q has the unknown type %.20q", entry.Name, entry.Type)
	}
	h := &convert.Listed{At: e.at, Header: tar.Header{
		Typeflag: flag, Name: entry.Name, Linkname: entry.LinkName, Mode: entry.Mode, Uid: entry.UID, Gid: entry.GID,
		Devmajor: int64(entry.DevMajor), Devminor: int64(entry.DevMinor), ModTime: time.Unix(0, 0),
	}}
	if entry.ModTime3339 != "" {
		var err error
		if h.ModTime, err = time.Parse(time.RFC3339, entry.ModTime3339); err != nil {
			return nil, fmt.Errorf("entry %.80q: %w", entry.Name, err)
		}
	}
	for name, value := range entry.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+name] = string(value)
	}
	if flag != tar.TypeReg {
		return h, nil
	}
	h.Size, h.Digest = entry.Size, digest.Digest(entry.Digest)
	if entry.Size < 0 || e.at+entry.Size < 0 {
		return nil, fmt.Errorf("entry %.80q has the invalid size %d", entry.Name, entry.Size)
	}
	if entry.Size == 0 {
		return h, nil
	}
	if err := oci.CheckDigest(h.Digest); err != nil {
		return nil, fmt.Errorf("entry %.80q: %w", entry.Name, err)
	}
	e.file, e.covered = entry, 0
	e.contents = append(e.contents, content{at: e.at, first: len(e.chunks)})
	e.at += entry.Size
	return h, e.addChunk(entry)
}

// addChunk adds a chunk to the file that is being read.
func (e *entries) addChunk(c *estargz.TOCEntry) error {
	if e.file == nil || len(e.chunks) >= maxChunks {
		return errors.New("there is a chunk of no file, or too many")
	}
	size := c.ChunkSize
	if size == 0 {
		size = e.file.Size - c.ChunkOffset
	}
	least := int64(1) // in a frame of its own, after that of its header
	if e.coarse {
		least = 0 // eStargz may have small files in the member that the blob begins with
	}
	if n := len(e.chunks); n > 0 {
		least = e.chunks[n-1].start
	}
	if c.ChunkOffset != e.covered || size <= 0 || size > e.file.Size-e.covered || c.InnerOffset < 0 || c.Offset < least || c.Offset >= e.end {
		e.covered = -1 // and so are those after it
		return nil
	}
	e.covered += size
	made := chunk{start: c.Offset, skip: c.InnerOffset, size: size}
	if c.ChunkDigest != "" {
		if err := oci.CheckDigest(digest.Digest(c.ChunkDigest)); err != nil {
			return err
		}
		raw, err := hex.DecodeString(digest.Digest(c.ChunkDigest).Encoded())
		if err != nil {
			return err
		}
		made.sum, made.known = [sha256.Size]byte(raw), true
	}
	e.chunks = append(e.chunks, made)
	return nil
}

// finishFile ends the file that is being read. One whose chunks do not make its content cannot be read alone.
func (e *entries) finishFile() {
	if e.file == nil {
		return
	}
	last := &e.contents[len(e.contents)-1]
	if e.covered == e.file.Size {
		last.count = len(e.chunks) - last.first
	}
	e.file = nil
}
