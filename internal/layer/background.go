package layer

import (
	"io"
	"sync/atomic"
)

// Hashing, reading, decompressing and writing a layer each keep a processor or a disk busy: backgroundWriter and
// readAhead let them overlap, a few chunks apart, so that memory does not grow with the layer.
const (
	chunkSize  = 256 << 10
	chunkCount = 4
)

// backgroundWriter passes what is written to it on to w, in a goroutine of its own. Close waits until all is written.
type backgroundWriter struct {
	buf    []byte
	full   chan []byte
	free   chan []byte
	made   int
	done   chan struct{}
	failed atomic.Bool
	err    error // w's; read only when failed or done
}

func newBackgroundWriter(w io.Writer) *backgroundWriter {
	b := &backgroundWriter{
		full: make(chan []byte, chunkCount),
		free: make(chan []byte, chunkCount),
		done: make(chan struct{}),
	}
	go b.run(w, b.full)
	return b
}

func (b *backgroundWriter) run(w io.Writer, full <-chan []byte) {
	defer close(b.done)
	for chunk := range full {
		if b.err == nil {
			if _, err := w.Write(chunk); err != nil {
				b.err = err
				b.failed.Store(true)
			}
		}
		b.free <- chunk[:0]
	}
}

func (b *backgroundWriter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		if b.failed.Load() {
			return written, b.err
		}
		if b.buf == nil {
			b.buf = b.chunk()
		}
		n := min(len(p), chunkSize-len(b.buf))
		b.buf = append(b.buf, p[:n]...)
		p, written = p[n:], written+n
		if len(b.buf) == chunkSize {
			b.full <- b.buf
			b.buf = nil
		}
	}
	return written, nil
}

func (b *backgroundWriter) chunk() []byte {
	select {
	case c := <-b.free:
		return c
	default:
	}
	if b.made < chunkCount {
		b.made++
		return make([]byte, 0, chunkSize)
	}
	return <-b.free
}

// Close writes what is left and returns w's first error. It may be called again.
func (b *backgroundWriter) Close() error {
	if b.full != nil {
		if len(b.buf) > 0 {
			b.full <- b.buf
		}
		close(b.full)
		b.full = nil
	}
	<-b.done
	return b.err
}

// readAhead reads r in a goroutine of its own, some chunks ahead, and passes all of it on to a tap, if there is one, in
// another. Chunks are shared, not copied.
type readAhead struct {
	full chan *chunk
	free chan *chunk
	stop chan struct{}
	cur  *chunk
	off  int
	err  error // r's; read once full is closed

	tap *tap
}

// chunk is a piece of a stream, which readers and tap give back when they are done with it.
type chunk struct {
	data  []byte // of chunkSize
	n     int
	users atomic.Int32
}

// tap writes what a readAhead has read.
type tap struct {
	w      io.Writer
	full   chan *chunk
	done   chan struct{}
	failed atomic.Bool
	err    error // w's; read only when failed or done
}

func newReadAhead(r io.Reader) *readAhead { return newTapped(r, nil) }

// newTapped is a readAhead that writes to w, too. An error of w ends it.
func newTapped(r io.Reader, w io.Writer) *readAhead {
	a := &readAhead{
		full: make(chan *chunk, chunkCount-2),
		free: make(chan *chunk, 2*chunkCount),
		stop: make(chan struct{}),
	}
	if w != nil {
		a.tap = &tap{w: w, full: make(chan *chunk, chunkCount-2), done: make(chan struct{})}
		go a.runTap()
	}
	go a.run(r)
	return a
}

func (a *readAhead) run(r io.Reader) {
	defer close(a.full)
	if a.tap != nil {
		defer close(a.tap.full)
	}
	for made := 0; ; {
		var c *chunk
		select {
		case c = <-a.free:
		case <-a.stop:
			return
		default:
			if made < 2*chunkCount {
				made++
				c = &chunk{data: make([]byte, chunkSize)}
				break
			}
			select {
			case c = <-a.free:
			case <-a.stop:
				return
			}
		}
		var err error
		if c.n, err = readSome(r, c.data); c.n > 0 && !a.pass(c) {
			return
		}
		if err != nil {
			a.err = err
			return
		}
	}
}

// pass hands a chunk to the tap and to the reader; false when nobody reads any more.
func (a *readAhead) pass(c *chunk) bool {
	c.users.Store(1)
	if a.tap != nil {
		c.users.Store(2)
		select {
		case a.tap.full <- c:
		case <-a.stop:
			return false
		}
	}
	select {
	case a.full <- c:
	case <-a.stop:
		return false
	}
	return true
}

func (a *readAhead) release(c *chunk) {
	if c.users.Add(-1) == 0 {
		a.free <- c
	}
}

func (a *readAhead) runTap() {
	defer close(a.tap.done)
	for c := range a.tap.full {
		if a.tap.err == nil {
			if _, err := a.tap.w.Write(c.data[:c.n]); err != nil {
				a.tap.err = err
				a.tap.failed.Store(true)
			}
		}
		a.release(c)
	}
}

// readSome fills p as far as r gives: a full chunk is worth waiting for, and an error comes after the bytes before it.
func readSome(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

func (a *readAhead) Read(p []byte) (int, error) {
	for a.cur == nil || a.off == a.cur.n {
		if a.cur != nil {
			a.release(a.cur)
			a.cur = nil
		}
		if a.tap != nil && a.tap.failed.Load() {
			return 0, a.tap.err
		}
		c, ok := <-a.full
		if !ok {
			if a.err == nil {
				return 0, io.ErrClosedPipe
			}
			return 0, a.err
		}
		a.cur, a.off = c, 0
	}
	n := copy(p, a.cur.data[a.off:a.cur.n])
	a.off += n
	return n, nil
}

// finish waits until the tap has written all that was read, and returns its error. All must have been read.
func (a *readAhead) finish() error {
	<-a.tap.done
	return a.tap.err
}

// tapFailure is the tap's error, if it has had one by now.
func (a *readAhead) tapFailure() error {
	if a.tap == nil || !a.tap.failed.Load() {
		return nil
	}
	return a.tap.err
}

// Close stops reading and returns when neither r nor the tap's writer is in use any more.
func (a *readAhead) Close() {
	close(a.stop)
	for range a.full {
	}
	if a.tap != nil {
		<-a.tap.done
	}
}
