package compression

import (
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// memberWriter writes a gzip stream of members with lengths, some of which are compressed side by side.
type memberWriter struct {
	w       io.Writer
	level   int
	current *member       // what is not yet blockSize long; nil once closed
	queue   chan *member  // with the current one and the one that is written, concurrency of them
	first   bool          // nothing was sent
	ended   chan struct{} // closed when all is written

	mu  sync.Mutex
	err error // of w
}

// newMemberWriter takes a level of 1 to 9.
func newMemberWriter(w io.Writer, level int) *memberWriter {
	z := &memberWriter{w: w, level: level, current: newMember(), queue: make(chan *member, concurrency()-2), first: true, ended: make(chan struct{})}
	go z.deliver()
	return z
}

func (z *memberWriter) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		if err := z.failure(); err != nil {
			return written, err
		}
		if z.current == nil {
			return written, io.ErrClosedPipe
		}
		n := min(len(p)-written, blockSize-len(z.current.plain))
		z.current.plain = append(z.current.plain, p[written:written+n]...)
		written += n
		if len(z.current.plain) == blockSize {
			z.send(newMember())
		}
	}
	return written, nil
}

// send has the current member compressed and written, and goes on with another.
func (z *memberWriter) send(next *member) {
	m := z.current
	z.current, z.first = next, false
	z.queue <- m
	go m.compressAt(z.level)
}

// compressing bounds the gzip.Writers of all streams, of more than a MiB each: one for each processor.
var compressing = sync.OnceValue(func() chan struct{} { return make(chan struct{}, runtime.GOMAXPROCS(0)) })

var gzipWriters [gzip.BestCompression + 1]sync.Pool // of *gzip.Writer, by level

// compressAt fills packed, when it is its turn.
func (m *member) compressAt(level int) {
	compressing() <- struct{}{}
	defer func() { <-compressing() }()
	z, ok := gzipWriters[level].Get().(*gzip.Writer)
	if !ok {
		z, _ = gzip.NewWriterLevel(io.Discard, level)
	}
	defer gzipWriters[level].Put(z)
	m.compress(z)
}

// deliver writes what is compressed, in order, until the writing fails; then it throws away.
func (z *memberWriter) deliver() {
	defer close(z.ended)
	for m := range z.queue {
		<-m.done
		err := m.err
		if err == nil && z.failure() == nil {
			_, err = z.w.Write(m.packed)
		}
		if err != nil {
			z.mu.Lock()
			z.err = err
			z.mu.Unlock()
		}
		memberPool.Put(m)
	}
}

func (z *memberWriter) failure() error {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.err
}

// Close ends the stream. One of nothing is a member that holds nothing.
func (z *memberWriter) Close() error {
	if z.current != nil {
		if z.first || len(z.current.plain) > 0 {
			z.send(nil)
		}
		z.current = nil
		close(z.queue)
	}
	<-z.ended
	return z.failure()
}
