package compression

import (
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// memberWriter writes a gzip stream of members with lengths, some of which are compressed side by side.
type memberWriter struct {
	w       io.Writer
	writers sync.Pool     // of *gzip.Writer
	current *member       // what is not yet blockSize long; nil once closed
	queue   chan *member  // with the current one and the one that is written, concurrency of them
	first   bool          // nothing was sent
	ended   chan struct{} // closed when all is written

	mu  sync.Mutex
	err error // of w
}

func newMemberWriter(w io.Writer, level int) (*memberWriter, error) {
	first, err := gzip.NewWriterLevel(io.Discard, level)
	if err != nil {
		return nil, err
	}
	z := &memberWriter{w: w, current: newMember(), queue: make(chan *member, concurrency()-2), first: true, ended: make(chan struct{})}
	z.writers.New = func() any {
		more, _ := gzip.NewWriterLevel(io.Discard, level) // of a level that there is
		return more
	}
	z.writers.Put(first)
	go z.deliver()
	return z, nil
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
	go func() {
		c := z.writers.Get().(*gzip.Writer)
		defer z.writers.Put(c)
		m.compress(c)
	}()
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
