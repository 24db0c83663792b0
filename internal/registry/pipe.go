package registry

import (
	"io"
	"sync"
)

// pipe is an io.Pipe whose ends need not wait for each other at every write: compressing, hashing and sending go on side by
// side, some chunks apart.
type pipe struct {
	full chan []byte
	free chan []byte
	made int
	buf  []byte // the writer's
	cur  []byte // the reader's, and what is left of it
	rest []byte

	once    sync.Once
	stopped chan struct{} // the reader has ended
	why     error
	err     error // the writer's last word; read once full is closed
}

const (
	pipeChunk  = 256 << 10
	pipeChunks = 4
)

func newPipe() *pipe {
	return &pipe{full: make(chan []byte, pipeChunks-2), free: make(chan []byte, pipeChunks), stopped: make(chan struct{})}
}

// Write gives the reader's error once that has ended.
func (p *pipe) Write(data []byte) (int, error) {
	written := 0
	for len(data) > 0 {
		if p.buf == nil {
			if err := p.chunk(); err != nil {
				return written, err
			}
		}
		n := min(len(data), pipeChunk-len(p.buf))
		p.buf = append(p.buf, data[:n]...)
		data, written = data[n:], written+n
		if len(p.buf) == pipeChunk {
			if err := p.pass(); err != nil {
				return written, err
			}
		}
	}
	return written, nil
}

// chunk takes an empty one.
func (p *pipe) chunk() error {
	select {
	case p.buf = <-p.free:
		return nil
	default:
	}
	if p.made < pipeChunks {
		p.made++
		p.buf = make([]byte, 0, pipeChunk)
		return nil
	}
	select {
	case p.buf = <-p.free:
		return nil
	case <-p.stopped:
		return p.why
	}
}

func (p *pipe) pass() error {
	select {
	case p.full <- p.buf:
		p.buf = nil
		return nil
	case <-p.stopped:
		return p.why
	}
}

// end is the writer's last call: the reader gets what was written, and then err, or io.EOF for nil.
func (p *pipe) end(err error) {
	if err == nil && len(p.buf) > 0 {
		err = p.pass()
	}
	p.err = err
	close(p.full)
}

// Read implements io.Reader.
func (p *pipe) Read(data []byte) (int, error) {
	if err := p.fill(); err != nil {
		return 0, err
	}
	n := copy(data, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: a chunk at a time, not copied.
func (p *pipe) WriteTo(w io.Writer) (written int64, err error) {
	for {
		if err := p.fill(); err == io.EOF { //nolint:errorlint // never wrapped: the writer's end
			return written, nil
		} else if err != nil {
			return written, err
		}
		n, err := w.Write(p.rest)
		written += int64(n)
		p.rest = p.rest[n:]
		if err != nil {
			return written, err
		}
	}
}

// fill waits for a chunk if there is nothing left of the last one.
func (p *pipe) fill() error {
	if len(p.rest) > 0 {
		return nil
	}
	if p.cur != nil {
		p.free <- p.cur[:0]
		p.cur = nil
	}
	select {
	case <-p.stopped:
		return p.why
	default:
	}
	c, ok := <-p.full
	switch {
	case ok:
		p.cur, p.rest = c, c
		return nil
	case p.err != nil:
		return p.err
	}
	return io.EOF
}

// stop ends the reading: what is written from now on gets err.
func (p *pipe) stop(err error) {
	p.once.Do(func() {
		p.why = err
		close(p.stopped)
	})
}
