package compression

import (
	"bufio"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// memberReader reads a gzip stream. Members with lengths in their headers are decompressed side by side; from the first that
// has none, the stream is read as any other. Nothing but decompressing is done in the background: Read alone reads in.
type memberReader struct {
	in      *bufio.Reader
	current *member   // the one that is being read
	plain   []byte    // what of it is left
	ahead   []*member // those after it, in order
	taken   error     // why no more are taken
	rest    io.Reader // of the stream, when all of ahead are read
	err     error     // what Read gives from now on
}

// errNoMember says that what follows has no lengths, or is the end.
var errNoMember = errors.New("no member with lengths")

func newGzipReader(in *bufio.Reader) (io.ReadCloser, error) {
	head, err := in.Peek(memberHeader)
	if _, _, ok := memberLengths(head); ok {
		return &memberReader{in: in}, nil
	}
	if err = peekFailure(err); err != nil {
		return nil, err
	}
	return gzip.NewReader(in)
}

// peekFailure leaves out that there was less to see than asked for.
func peekFailure(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, bufio.ErrBufferFull) {
		return nil
	}
	return err
}

func (r *memberReader) Read(p []byte) (int, error) {
	for len(r.plain) == 0 && r.rest == nil && r.err == nil && len(p) > 0 {
		r.err = r.next()
	}
	switch {
	case len(r.plain) > 0 || len(p) == 0:
		n := copy(p, r.plain)
		r.plain = r.plain[n:]
		return n, nil
	case r.err != nil:
		return 0, r.err
	}
	return r.rest.Read(p)
}

// next makes the following member the one that is read, or rest what follows the last.
func (r *memberReader) next() error {
	if r.current != nil {
		memberPool.Put(r.current)
		r.current = nil
	}
	for r.taken == nil && len(r.ahead) < concurrency() {
		r.taken = r.take()
	}
	if len(r.ahead) > 0 {
		m := r.ahead[0]
		r.ahead = r.ahead[1:]
		if <-m.done; m.err != nil {
			return m.err
		}
		r.current, r.plain = m, m.plain
		return nil
	}
	if !errors.Is(r.taken, errNoMember) {
		return r.taken
	}
	rest, err := gzip.NewReader(r.in) // io.EOF where the stream ends
	r.rest = rest
	return err
}

var gzipReaders = sync.Pool{New: func() any { return new(gzip.Reader) }}

// take reads a member that has lengths, and has it decompressed.
func (r *memberReader) take() error {
	head, err := r.in.Peek(memberHeader)
	packed, plain, ok := memberLengths(head)
	if !ok {
		if err = peekFailure(err); err != nil {
			return err
		}
		return errNoMember
	}
	m := newMember()
	if _, err := io.CopyN(&m.packed, r.in, int64(packed)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	r.ahead = append(r.ahead, m)
	go func() {
		z := gzipReaders.Get().(*gzip.Reader)
		defer gzipReaders.Put(z)
		m.decompress(z, plain)
	}()
	return nil
}

// Close leaves those that are being decompressed to themselves.
func (r *memberReader) Close() error {
	r.current, r.ahead, r.plain, r.rest, r.err = nil, nil, nil, nil, errors.New("read after close")
	return nil
}
