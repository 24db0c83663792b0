package compression

import (
	"bufio"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
)

// memberReader reads a gzip stream. It decompresses members with lengths in their headers in parallel, and others sequentially.
// Only Read reads from in, never a background goroutine.
type memberReader struct {
	in      *bufio.Reader
	current *member      // with lengths: the one that is read
	plain   []byte       // the rest of its data
	ahead   []*member    // those after it, in order
	taken   error        // why no more of them are read for now
	z       *gzip.Reader // of the member without lengths that is read; nil if there is none
	err     error        // the result of Read from now on
}

// errNoMember is returned at the end, and for a member without lengths.
var errNoMember = errors.New("no member with lengths")

// newGzipReader reads the first header.
func newGzipReader(in *bufio.Reader) (io.ReadCloser, error) {
	r := &memberReader{in: in}
	if r.taken = r.take(); len(r.ahead) > 0 {
		return r, nil
	}
	return r, r.other()
}

func (r *memberReader) Read(p []byte) (int, error) {
	for len(p) > 0 {
		switch {
		case len(r.plain) > 0:
			n := copy(p, r.plain)
			r.plain = r.plain[n:]
			return n, nil
		case r.err != nil:
			return 0, r.err
		case r.z != nil:
			n, err := r.z.Read(p)
			if !errors.Is(err, io.EOF) {
				return n, err
			}
			gzipReaders.Put(r.z)
			r.z, r.taken = nil, nil
			if n > 0 {
				return n, nil
			}
		default:
			r.err = r.next()
		}
	}
	return 0, nil
}

// next makes the following member the current one. It reads more members until the first of those ahead is ready, and then one
// more: it should not wait long for a slow source.
func (r *memberReader) next() error {
	if r.current != nil {
		memberPool.Put(r.current)
		r.current = nil
	}
	for ready := false; !ready && r.taken == nil && len(r.ahead) < inMemory(); {
		ready = len(r.ahead) > 0 && r.ahead[0].ready()
		r.taken = r.take()
	}
	if len(r.ahead) == 0 {
		return r.other()
	}
	m := r.ahead[0]
	r.ahead = r.ahead[1:]
	<-m.done
	r.current, r.plain = m, m.plain
	return m.err
}

// take reads a member with lengths and starts its decompression.
func (r *memberReader) take() error {
	head, err := r.in.Peek(memberHeader)
	packed, plain, ok := memberLengths(head)
	if !ok {
		// The stream may have less than a header.
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		return errNoMember
	}
	m := newMember()
	n, err := io.ReadFull(r.in, m.packed[:packed])
	m.packed, m.err = m.packed[:n], err
	r.ahead = append(r.ahead, m)
	go m.decompress(plain)
	return err
}

// other starts to read a member without lengths. It returns io.EOF at the end of the stream. The library also returns io.EOF
// for an end within a header.
func (r *memberReader) other() error {
	if !errors.Is(r.taken, errNoMember) {
		return r.taken
	}
	if _, err := r.in.Peek(1); err != nil {
		return err
	}
	r.z = gzipReaders.Get().(*gzip.Reader)
	err := r.z.Reset(r.in)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	r.z.Multistream(false)
	return err
}

// Close does not wait for members that are being decompressed.
func (r *memberReader) Close() error {
	r.current, r.ahead, r.plain, r.z, r.err = nil, nil, nil, nil, errors.New("read after close")
	return nil
}
