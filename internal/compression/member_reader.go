package compression

import (
	"bufio"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
)

// memberReader reads a gzip stream. Members with lengths in their headers are decompressed side by side, others one after
// another. Nothing but decompressing is done in the background: Read alone reads in.
type memberReader struct {
	in      *bufio.Reader
	current *member      // with lengths: the one that is read
	plain   []byte       // what of it is left
	ahead   []*member    // those after it, in order
	taken   error        // why no more of them are taken for now
	z       *gzip.Reader // of the member without lengths that is read; nil if there is none
	err     error        // what Read gives from now on
}

// errNoMember says that what follows has no lengths, or is the end.
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

// next makes the following member the one that is read. More are taken until the first of those ahead is ready, and then one:
// it is not to wait long for a source that is slow.
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

// take reads a member that has lengths, and has it decompressed.
func (r *memberReader) take() error {
	head, err := r.in.Peek(memberHeader)
	packed, plain, ok := memberLengths(head)
	if !ok {
		// There may be less to see than was asked for.
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

// other begins with a member that has no lengths; io.EOF is the end of the stream. To the library, an end within a header is
// one, too.
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

// Close leaves those that are being decompressed to themselves.
func (r *memberReader) Close() error {
	r.current, r.ahead, r.plain, r.z, r.err = nil, nil, nil, nil, errors.New("read after close")
	return nil
}
