package grpcserver

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/stats"
)

// limits bound the bytes of messages that clients have sent and that no call has read: those of messages whose end has not come, and of messages
// that wait. gRPC bounds the size of a message only, and a client may send as many at once as a connection has calls.
type limits struct {
	conn  int64 // of a connection
	total int64 // of all connections; one that has less than share is not stopped by the others
	share int64
	// patience is how long a connection that has reached a limit is not read. Then it is closed.
	patience time.Duration
}

// meter counts the bytes of a server. It is safe for concurrent use.
type meter struct {
	limits

	mu    sync.Mutex
	less  sync.Cond // of mu: some bytes were read by calls, a connection has ended, or the patience has
	total int64
}

func newMeter(l limits) *meter {
	m := &meter{limits: l}
	m.less.L = &m.mu
	return m
}

// meteredConn counts what a connection receives, and is not read while it has reached a limit.
type meteredConn struct {
	net.Conn
	m      *meter
	frames frames // of the goroutine that reads

	// Of m.mu:
	held   int64
	calls  int
	closed bool
}

var errStalled = errors.New("the client has sent too much of messages that it does not end")

func (c *meteredConn) Read(p []byte) (int, error) {
	if err := c.wait(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	if data := c.frames.skim(p[:n]); data > 0 {
		c.m.mu.Lock()
		c.add(data)
		c.m.mu.Unlock()
	}
	return n, err
}

// wait waits while the connection has reached a limit.
func (c *meteredConn) wait() error {
	m := c.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if !c.isFull() {
		return nil
	}
	end := time.Now().Add(m.patience)
	timer := time.AfterFunc(m.patience, m.less.Broadcast)
	defer timer.Stop()
	for c.isFull() && !c.closed {
		if !time.Now().Before(end) {
			return errStalled
		}
		m.less.Wait()
	}
	return nil
}

// isFull reports whether the connection has reached a limit. The caller holds the lock.
func (c *meteredConn) isFull() bool {
	return c.held >= c.m.conn || c.m.total >= c.m.limits.total && c.held >= c.m.share
}

// add counts bytes, which are negative for those that a call has read. The caller holds the lock.
func (c *meteredConn) add(n int64) {
	if c.closed {
		return
	}
	n = max(n, -c.held) // padding of frames is no part of a message
	c.held += n
	c.m.total += n
	if n < 0 {
		c.m.less.Broadcast()
	}
}

func (c *meteredConn) Close() error {
	c.m.mu.Lock()
	c.add(-c.held)
	c.closed = true
	c.m.less.Broadcast()
	c.m.mu.Unlock()
	return c.Conn.Close()
}

// RemoteAddr is the address by which a stats.Handler finds the connection.
func (c *meteredConn) RemoteAddr() net.Addr { return meteredAddr{c.Conn.RemoteAddr(), c} }

type meteredAddr struct {
	net.Addr
	conn *meteredConn
}

// TagConn keeps the connection for the calls on it.
func (*meter) TagConn(ctx context.Context, info *stats.ConnTagInfo) context.Context {
	if a, ok := info.RemoteAddr.(meteredAddr); ok {
		return context.WithValue(ctx, connKey{}, a.conn)
	}
	return ctx
}

type connKey struct{}

// HandleConn does nothing.
func (*meter) HandleConn(context.Context, stats.ConnStats) {}

// TagRPC changes nothing.
func (*meter) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC notes what calls have read. What a call has left is counted until the connection has no calls.
func (m *meter) HandleRPC(ctx context.Context, s stats.RPCStats) {
	c, ok := ctx.Value(connKey{}).(*meteredConn)
	if !ok {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch s := s.(type) {
	case *stats.Begin:
		c.calls++
	case *stats.InPayload:
		c.add(-int64(s.WireLength))
	case *stats.End:
		if c.calls--; c.calls == 0 {
			c.add(-c.held)
		}
	}
}

// meteredTransport makes the connections of a server those of its meter. It encrypts nothing: who listens does.
type meteredTransport struct {
	credentials.TransportCredentials // without encryption
	m                                *meter
}

// ServerHandshake returns the connection that is counted.
func (t meteredTransport) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, info, err := t.TransportCredentials.ServerHandshake(c)
	if err != nil {
		return nil, nil, err
	}
	return &meteredConn{Conn: c, m: t.m, frames: newFrames()}, info, nil
}

// Clone returns the same.
func (t meteredTransport) Clone() credentials.TransportCredentials { return t }
