package dirsync

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/digestcache"
	"github.com/micabuild/mica/internal/view"
)

// Files are the files of a client that were received.
type Files struct {
	records []record
	dir     string
	// memory has the contents that are not in dir but would be in the file with the number inMemory.
	memory   []byte
	inMemory uint32
}

// View returns a view of the files. Digests of what steps select of them are kept in a cache; nil for none.
func (f *Files) View(digests *digestcache.Cache) view.View {
	return view.Stated(f.state(), digests, sync.OnceValue(f.index))
}

// state is a hash of all that is seen of the files but their times.
func (f *Files) state() (state digestcache.Sum) {
	h := sha256.New()
	h.Write([]byte("received\n"))
	var b []byte
	for i := range f.records {
		r := &f.records[i]
		b = append(append(append(append(b[:0], r.path...), 0), r.link...), 0)
		for _, n := range []int64{int64(r.mode), r.major, r.minor} {
			b = binary.AppendVarint(b, n)
		}
		h.Write(append(b, r.content.sum[:]...))
	}
	h.Sum(state[:0])
	return state
}

// index makes the view of the files.
func (f *Files) index() *view.Index {
	x := view.NewIndex(&reader{Files: f, open: newOpener(f.dir)}, len(f.records))
	entries := make([]view.Entry, len(f.records))
	for i := range f.records {
		r, e, tag := &f.records[i], &entries[i], i
		*e = view.Entry{Path: r.path, Type: typeOf(r.mode), Mode: view.UnixMode(r.mode), ModTime: time.Unix(0, r.mtime).UTC()}
		switch e.Type {
		case view.TypeSymlink:
			e.Linkname, e.Mode = r.link, 0o777
		case view.TypeChar, view.TypeBlock:
			e.Major, e.Minor = r.major, r.minor
		case view.TypeRegular:
			if e.Hardlink = r.link; r.link != "" {
				r = find(f.records, r.link)
			}
			e.Size, e.Digest = r.content.length, digest.NewDigestFromBytes(digest.SHA256, r.content.sum[:])
			if e.Hardlink != "" {
				tag = -1
			}
		}
		x.Put(e, tag)
	}
	return x.Freeze()
}

func typeOf(mode fs.FileMode) view.Type {
	switch {
	case mode.IsDir():
		return view.TypeDir
	case mode&fs.ModeSymlink != 0:
		return view.TypeSymlink
	case mode&fs.ModeNamedPipe != 0:
		return view.TypeFifo
	case mode&fs.ModeCharDevice != 0:
		return view.TypeChar
	case mode&fs.ModeDevice != 0:
		return view.TypeBlock
	}
	return view.TypeRegular
}

// reader reads the contents of files.
type reader struct {
	*Files
	open *opener
}

// Open implements view.Content.
func (r *reader) Open(_ context.Context, e *view.Entry, tag int) (io.ReadCloser, error) {
	if tag < 0 {
		return r.content(&find(r.records, e.Hardlink).content)
	}
	return r.content(&r.records[tag].content)
}

func (r *reader) content(at *content) (io.ReadCloser, error) {
	switch {
	case at.file == 0:
		return io.NopCloser(bytes.NewReader(nil)), nil
	case at.file == r.inMemory && len(r.memory) > 0:
		return io.NopCloser(bytes.NewReader(r.memory[at.offset:][:at.length])), nil
	case at.length > small:
		return os.Open(contentPath(r.open.dir, at.file)) // it can be cloned
	}
	f, err := r.open.file(at.file)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(io.NewSectionReader(f, at.offset, at.length)), nil
}

// Digest implements view.Content. It is not called: the entries have their digests.
func (r *reader) Digest(_ context.Context, e *view.Entry, _ int) (digest.Digest, error) {
	return e.Digest, nil
}

// opener opens each file with contents once.
type opener struct {
	dir  string
	mu   sync.Mutex
	open map[uint32]*os.File
}

func newOpener(dir string) *opener { return &opener{dir: dir, open: map[uint32]*os.File{}} }

func (o *opener) file(number uint32) (*os.File, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if f, ok := o.open[number]; ok {
		return f, nil
	}
	f, err := os.Open(contentPath(o.dir, number))
	if err == nil {
		o.open[number] = f
	}
	return f, err
}

func (o *opener) close() {
	var errs []error
	for _, f := range o.open {
		errs = append(errs, f.Close())
	}
	_ = errors.Join(errs...) // they were only read
}
