package pipe

import (
	"io"
	"sync/atomic"

	"github.com/micabuild/mica/internal/crash"
)

// maxChunks is the number of chunks of a Reader: as many as its reader and its tee may each be behind.
const maxChunks = 2 * chunkCount

// Reader reads ahead of its user in a goroutine of its own, and passes everything that it reads to a writer, the tee, in
// another. Chunks are shared, not copied.
type Reader struct {
	full chan *chunk
	free chan *chunk
	stop chan struct{}
	cur  *chunk
	off  int
	err  error // of the source; read once full is closed

	tee *tee
}

// chunk is a piece of a stream. Reader and tee release it when they are done with it.
type chunk struct {
	data  []byte // of chunkSize
	n     int
	users atomic.Int32
}

// tee writes what a Reader reads.
type tee struct {
	w      io.Writer
	full   chan *chunk
	done   chan struct{}
	failed atomic.Bool
	err    error // w's; read only when failed or done
}

// NewReader begins to read r, and to write to w what it reads. An error of w ends the reading. The caller closes the Reader.
func NewReader(r io.Reader, w io.Writer) *Reader {
	a := &Reader{
		full: make(chan *chunk, chunkCount-2),
		free: make(chan *chunk, maxChunks),
		stop: make(chan struct{}),
	}
	a.tee = &tee{w: w, full: make(chan *chunk, chunkCount-2), done: make(chan struct{})}
	go a.runTee()
	go a.run(r)
	return a
}

func (a *Reader) run(r io.Reader) {
	defer close(a.full)
	defer close(a.tee.full)
	for made := 0; ; {
		var c *chunk
		select {
		case c = <-a.free:
		case <-a.stop:
			return
		default:
			if made < maxChunks {
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

// pass hands a chunk to the tee and to the reader. It returns false after Close.
func (a *Reader) pass(c *chunk) bool {
	c.users.Store(2)
	select {
	case a.tee.full <- c:
	case <-a.stop:
		return false
	}
	select {
	case a.full <- c:
	case <-a.stop:
		return false
	}
	return true
}

func (a *Reader) release(c *chunk) {
	if c.users.Add(-1) == 0 {
		a.free <- c
	}
}

func (a *Reader) runTee() {
	defer close(a.tee.done)
	for c := range a.tee.full {
		if a.tee.err == nil {
			if _, err := a.tee.w.Write(c.data[:c.n]); err != nil {
				a.tee.err = err
				a.tee.failed.Store(true)
			}
		}
		a.release(c)
	}
}

// readSome fills p unless r ends or fails: a full chunk is worth waiting for, and an error comes after the bytes before it.
func readSome(r io.Reader, p []byte) (n int, err error) {
	defer crash.Recover(&err)
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

// Read returns the error of the source, or of the tee.
func (a *Reader) Read(p []byte) (int, error) {
	for a.cur == nil || a.off == a.cur.n {
		if a.cur != nil {
			a.release(a.cur)
			a.cur = nil
		}
		if a.tee.failed.Load() {
			return 0, a.tee.err
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

// Wait waits until everything that was read is written to the tee, and returns the tee's error. The source must have been read to its end.
func (a *Reader) Wait() error {
	<-a.tee.done
	return a.tee.err
}

// TeeError returns the tee's error so far.
func (a *Reader) TeeError() error {
	if !a.tee.failed.Load() {
		return nil
	}
	return a.tee.err
}

// Close stops reading and returns when neither source nor tee is in use any more.
func (a *Reader) Close() {
	close(a.stop)
	for range a.full {
	}
	<-a.tee.done
}
