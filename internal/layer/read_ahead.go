package layer

import (
	"io"
	"sync/atomic"

	"github.com/micabuild/mica/internal/crash"
)

// maxChunks is how many a readAhead has: as many as its reader and its tee may each be behind.
const maxChunks = 2 * chunkCount

// readAhead reads r in a goroutine of its own, some chunks ahead, and passes all of it on to a tee in another.
// Chunks are shared, not copied.
type readAhead struct {
	full chan *chunk
	free chan *chunk
	stop chan struct{}
	cur  *chunk
	off  int
	err  error // r's; read once full is closed

	tee *tee
}

// chunk is a piece of a stream, which readers and tee give back when they are done with it.
type chunk struct {
	data  []byte // of chunkSize
	n     int
	users atomic.Int32
}

// tee writes what a readAhead has read.
type tee struct {
	w      io.Writer
	full   chan *chunk
	done   chan struct{}
	failed atomic.Bool
	err    error // w's; read only when failed or done
}

// newTee begins to read r. An error of w ends it.
func newTee(r io.Reader, w io.Writer) *readAhead {
	a := &readAhead{
		full: make(chan *chunk, chunkCount-2),
		free: make(chan *chunk, maxChunks),
		stop: make(chan struct{}),
	}
	a.tee = &tee{w: w, full: make(chan *chunk, chunkCount-2), done: make(chan struct{})}
	go a.runTee()
	go a.run(r)
	return a
}

func (a *readAhead) run(r io.Reader) {
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

// pass hands a chunk to the tee and to the reader; false when nobody reads any more.
func (a *readAhead) pass(c *chunk) bool {
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

func (a *readAhead) release(c *chunk) {
	if c.users.Add(-1) == 0 {
		a.free <- c
	}
}

func (a *readAhead) runTee() {
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

// readSome fills p as far as r gives: a full chunk is worth waiting for, and an error comes after the bytes before it.
func readSome(r io.Reader, p []byte) (n int, err error) {
	defer crash.Recover(&err)
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

// finish waits until the tee has written all that was read, and returns its error. All must have been read.
func (a *readAhead) finish() error {
	<-a.tee.done
	return a.tee.err
}

// teeFailure is the tee's error, if it has had one by now.
func (a *readAhead) teeFailure() error {
	if !a.tee.failed.Load() {
		return nil
	}
	return a.tee.err
}

// Close stops reading and returns when neither r nor the tee's writer is in use any more.
func (a *readAhead) Close() {
	close(a.stop)
	for range a.full {
	}
	<-a.tee.done
}
