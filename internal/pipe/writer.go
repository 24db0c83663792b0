// Package pipe lets the steps that a stream of bytes passes through overlap. Hashing, reading, decompressing and writing each
// keep a processor or a disk busy: a Writer and a Reader run them in goroutines of their own, a few chunks apart, so that
// memory does not grow with the stream.
package pipe

import (
	"io"
	"sync/atomic"
)

const (
	chunkSize  = 256 << 10
	chunkCount = 4
)

// Writer passes what is written to it to another writer, in a goroutine of its own. It is for one goroutine to write to.
type Writer struct {
	buf    []byte
	full   chan []byte
	free   chan []byte
	made   int
	done   chan struct{}
	failed atomic.Bool
	err    error // of the other writer; read only when failed or done
}

// NewWriter returns a Writer that writes to w. The caller closes it.
func NewWriter(w io.Writer) *Writer {
	b := &Writer{
		full: make(chan []byte, chunkCount),
		free: make(chan []byte, chunkCount),
		done: make(chan struct{}),
	}
	go b.run(w, b.full)
	return b
}

func (b *Writer) run(w io.Writer, full <-chan []byte) {
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

// Write copies p. It returns the error of an earlier write, if there has been one.
func (b *Writer) Write(p []byte) (int, error) {
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

func (b *Writer) chunk() []byte {
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

// Close waits until everything is written and returns the first error of the other writer. It may be called again.
func (b *Writer) Close() error {
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
