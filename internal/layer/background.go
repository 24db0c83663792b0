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
