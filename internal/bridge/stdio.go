package bridge

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/micabuild/mica/internal/grpcserver"
)

// maxCalls is how many calls a front end in a process may have at once: with the largest messages they have 1 GiB.
const maxCalls = 64

// Serve answers the front end at the other end of a connection, until one of them closes it.
func (b *Bridge) Serve(conn net.Conn) error {
	s := grpcserver.New(maxCalls)
	gwpb.RegisterLLBBridgeServer(s, b)
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	one := &single{conn: make(chan net.Conn, 1), closed: make(chan struct{})}
	one.conn <- &closing{Conn: conn, listener: one}
	defer s.Stop()
	if err := s.Serve(one); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// single is a listener with one connection, which is closed with it.
type single struct {
	conn   chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *single) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *single) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (*single) Addr() net.Addr { return address{} }

type closing struct {
	net.Conn
	listener *single
}

func (c *closing) Close() error { return errors.Join(c.Conn.Close(), c.listener.Close()) }

// Stdio is the connection to a process by its standard input and output.
type Stdio struct {
	Stdin, Stdout *os.File // of the process
	in, out       *os.File // the other ends
}

// NewStdio returns a connection for a process that is to be started.
func NewStdio() (*Stdio, error) {
	s := &Stdio{}
	var err error
	if s.Stdin, s.in, err = os.Pipe(); err != nil {
		return nil, err
	}
	if s.out, s.Stdout, err = os.Pipe(); err != nil {
		return nil, errors.Join(err, s.Stdin.Close(), s.in.Close())
	}
	return s, nil
}

// Conn returns this process's end.
func (s *Stdio) Conn() net.Conn { return &pipes{s.out, s.in} }

// Close closes both ends. The process keeps its own.
func (s *Stdio) Close() {
	for _, f := range []*os.File{s.Stdin, s.Stdout, s.in, s.out} {
		_ = f.Close()
	}
}

// pipes are a connection without deadlines: a process may take its time to start.
type pipes struct{ from, to *os.File }

func (p *pipes) Read(data []byte) (int, error)  { return p.from.Read(data) }
func (p *pipes) Write(data []byte) (int, error) { return p.to.Write(data) }
func (p *pipes) Close() error                   { return errors.Join(p.from.Close(), p.to.Close()) }
func (*pipes) LocalAddr() net.Addr              { return address{} }
func (*pipes) RemoteAddr() net.Addr             { return address{} }
func (*pipes) SetDeadline(time.Time) error      { return nil }
func (*pipes) SetReadDeadline(time.Time) error  { return nil }
func (*pipes) SetWriteDeadline(time.Time) error { return nil }

type address struct{}

func (address) Network() string { return "pipe" }
func (address) String() string  { return "front end" }
