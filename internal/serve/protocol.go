package serve

import (
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/micabuild/mica/internal/fairshare"
)

// accept gives the connections of a listener to the server of their protocol.
func (s *Server) accept(l net.Listener) error {
	limit := &fairshare.Limit{Own: ownConnections, Shared: maxConnections} // of this listener: clients of another one do not take them
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		addr := fairshare.Addr(c)
		client := fairshare.Client(addr.String())
		if !limit.Take(client) {
			_ = c.Close() // the client sees that the server is there, and refuses
			continue
		}
		left := s.idle.enter()
		go s.route(&slotConn{Conn: c, addr: addr, free: sync.OnceFunc(func() {
			limit.Return(client)
			left()
		})})
	}
}

// slotConn is one of a limited number of connections.
type slotConn struct {
	net.Conn
	addr net.Addr
	free func()
}

// RemoteAddr is the client (package fairshare): both servers know it by its address.
func (c *slotConn) RemoteAddr() net.Addr { return c.addr }

// NetConn is the connection itself, as tls.Conn has it: servers half-close it, and see whether its client is there.
func (c *slotConn) NetConn() net.Conn { return c.Conn }

func (c *slotConn) Close() error {
	c.free()
	return c.Conn.Close()
}

// route reads the first bytes of a connection, which tell its protocol.
func (s *Server) route(c net.Conn) {
	head, isHTTP2, err := readHead(c)
	if err != nil {
		_ = c.Close()
		return
	}
	to := s.toWeb
	if isHTTP2 {
		to = s.toRPC
	}
	to.add(&headConn{c, head})
}

// readHead reads until the bytes are the preface of HTTP/2 (RFC 9113, section 3.4) or differ from it.
func readHead(c net.Conn) (head []byte, isHTTP2 bool, err error) {
	if err := c.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
		return nil, false, err
	}
	buf, n := make([]byte, len(http2.ClientPreface)), 0
	for n < len(buf) && string(buf[:n]) == http2.ClientPreface[:n] {
		m, err := c.Read(buf[n:])
		if n += m; err != nil {
			return nil, false, err
		}
	}
	return buf[:n], string(buf[:n]) == http2.ClientPreface, c.SetReadDeadline(time.Time{})
}

// headConn is a connection whose first bytes were read before.
type headConn struct {
	net.Conn
	head []byte
}

// NetConn is the connection itself.
func (c *headConn) NetConn() net.Conn { return c.Conn }

func (c *headConn) Read(p []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// queue is the listener of one protocol.
type queue struct {
	conns chan net.Conn
	done  chan struct{}
	close func()
}

func newQueue() *queue {
	q := &queue{conns: make(chan net.Conn), done: make(chan struct{})}
	q.close = sync.OnceFunc(func() { close(q.done) })
	return q
}

// add gives a connection to the server of the protocol. It closes one that comes after the server's end.
func (q *queue) add(c net.Conn) {
	select {
	case q.conns <- c:
	case <-q.done:
		_ = c.Close()
	}
}

func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, errQueueClosed
	}
}

var errQueueClosed = errors.New("the server has ended")

func (q *queue) Close() error {
	q.close()
	return nil
}

func (*queue) Addr() net.Addr { return &net.UnixAddr{Name: "mica", Net: "unix"} }
