package compression

import (
	"io"
	"sync"
)

// memberWriter writes a gzip stream of members with lengths, which it compresses in parallel.
type memberWriter struct {
	w       io.Writer
	level   int
	current *member       // the member that is filled; nil once closed
	queue   chan *member  // those that are compressed; with current and the one that is written, inMemory of them
	ended   chan struct{} // closed when all is written

	mu  sync.Mutex
	err error // of compressing or writing, after which nothing is written
}

// newMemberWriter takes a level of 1 to 9.
func newMemberWriter(w io.Writer, level int) *memberWriter {
	z := &memberWriter{w: w, level: level, current: newMember(), queue: make(chan *member, inMemory()-2), ended: make(chan struct{})}
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
		if len(z.current.plain) == blockSize {
			z.send()
			z.current = newMember()
		}
		n := min(len(p)-written, blockSize-len(z.current.plain))
		z.current.plain = append(z.current.plain, p[written:written+n]...)
		written += n
	}
	return written, nil
}

// send starts to compress the current member and queues it for writing.
func (z *memberWriter) send() {
	z.queue <- z.current
	go z.current.compress(z.level)
}

// deliver writes compressed members in order. After an error, it discards them.
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

// Close writes the rest of the stream. An empty stream has one empty member.
func (z *memberWriter) Close() error {
	if z.current != nil {
		z.send()
		z.current = nil
		close(z.queue)
	}
	<-z.ended
	return z.failure()
}
