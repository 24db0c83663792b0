package containers

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// streams are the standard streams of a container: what the process writes goes to the log and to all clients that are attached, and what
// they send goes to the process.
//
// Clients hold the process back, as a pipe does: they lose nothing. A client's Writer must fail when it has waited for too long.
type streams struct {
	log *Log // nil for none

	mu       sync.Mutex
	attached map[*attachment]bool
	in       *os.File // the read end for the process; nil without stdin
	stdin    *os.File
}

// attachment is an attached client.
type attachment struct {
	out, err io.Writer // nil for a stream that it does not get
	done     chan struct{}
	end      func()
}

func newStreams(log *Log) *streams { return &streams{log: log, attached: map[*attachment]bool{}} }

// openStdin returns the end of the pipe from which the process reads. The first call makes the pipe.
func (s *streams) openStdin() (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stdin == nil {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		s.in, s.stdin = r, w
	}
	return s.in, nil
}

// stdinWait is how long a write waits for the process before it looks whether its client is still attached.
const stdinWait = time.Second

// writeStdin passes on what a client sends, until it is detached. What it sends to a process that has ended is lost.
func (s *streams) writeStdin(a *attachment, data []byte) error {
	s.mu.Lock()
	to := s.stdin
	s.mu.Unlock()
	if to == nil {
		return os.ErrClosed
	}
	for {
		_ = to.SetWriteDeadline(time.Now().Add(stdinWait))
		n, err := to.Write(data)
		data = data[n:]
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		select {
		case <-a.done:
			return os.ErrClosed
		default:
		}
	}
}

// closeStdin ends the process's stdin.
func (s *streams) closeStdin() {
	s.mu.Lock()
	to := s.stdin
	s.mu.Unlock()
	if to != nil {
		_ = to.Close()
	}
}

// attach adds a client, which gets the output until its end or until it is detached.
func (s *streams) attach(out, err io.Writer) *attachment {
	a := &attachment{out: out, err: err, done: make(chan struct{})}
	a.end = sync.OnceFunc(func() { close(a.done) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attached[a] = true
	return a
}

func (s *streams) detach(a *attachment) {
	s.mu.Lock()
	delete(s.attached, a)
	s.mu.Unlock()
	a.end()
}

// stop ends the streams of a process: the clients see the end.
func (s *streams) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.attached {
		a.end()
	}
	clear(s.attached)
	for _, f := range []*os.File{s.in, s.stdin} {
		if f != nil {
			_ = f.Close()
		}
	}
	s.in, s.stdin = nil, nil
}

// output is one stream of the process.
type output struct {
	s      *streams
	stream Stream
}

func (o output) Write(data []byte) (int, error) {
	if o.s.log != nil {
		o.s.log.Write(o.stream, data)
	}
	o.s.mu.Lock()
	var to []*attachment
	for a := range o.s.attached {
		to = append(to, a)
	}
	o.s.mu.Unlock()
	for _, a := range to {
		w := a.out
		if o.stream == Stderr {
			w = a.err
		}
		if w == nil {
			continue
		}
		if _, err := w.Write(data); err != nil {
			o.s.detach(a)
		}
	}
	return len(data), nil
}

// errDetached is the end of an attachment whose client has typed the detach keys.
var errDetached = errors.New("detached")

// IsDetached reports whether an attachment has ended by its detach keys.
func IsDetached(err error) bool { return errors.Is(err, errDetached) }
