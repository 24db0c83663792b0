package network

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// relays forward connections between the host and a namespace: published ports inwards, requests to the host's own resolver
// outwards. They end with this process.
type relays struct {
	mu     sync.Mutex
	closed bool
	open   map[io.Closer]bool
	wait   sync.WaitGroup
}

// keep registers c to be closed with the relays. If they are closed already, it closes c and returns false.
func (r *relays) keep(c io.Closer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		_ = c.Close()
		return false
	}
	if r.open == nil {
		r.open = map[io.Closer]bool{}
	}
	r.open[c] = true
	return true
}

func (r *relays) drop(c io.Closer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, c)
	_ = c.Close()
}

func (r *relays) close() {
	r.mu.Lock()
	r.closed = true
	for c := range r.open {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.wait.Wait()
}

// dialer connects to the destination of a relay.
type dialer func() (net.Conn, error)

// stream relays the connections that l accepts.
func (r *relays) stream(l net.Listener, dial dialer) {
	if !r.keep(l) {
		return
	}
	r.wait.Go(func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				time.Sleep(10 * time.Millisecond) // for example, no descriptors are left
				continue
			}
			r.wait.Go(func() { r.connection(c, dial) })
		}
	})
}

func (r *relays) connection(from net.Conn, dial dialer) {
	if !r.keep(from) {
		return
	}
	defer r.drop(from)
	to, err := dial()
	if err != nil || !r.keep(to) {
		return
	}
	defer r.drop(to)
	var both sync.WaitGroup
	both.Go(func() { pour(to, from) })
	both.Go(func() { pour(from, to) })
	both.Wait()
}

// pour copies until from ends, and then closes the other side.
func pour(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if half, ok := to.(*net.TCPConn); ok && err == nil {
		_ = half.CloseWrite()
		return
	}
	_ = to.Close()
	_ = from.Close()
}

const (
	// idle is the time after which a silent peer of a datagram socket is removed, as in docker-proxy.
	idle = 90 * time.Second
	// maxPeers bounds the number of peers.
	maxPeers = 4096
)

// datagrams relays the datagrams that arrive at c. Each peer has a socket of its own, so that responses reach it.
func (r *relays) datagrams(c net.PacketConn, dial dialer) {
	if !r.keep(c) {
		return
	}
	peers := &peers{known: map[string]net.Conn{}}
	r.wait.Go(func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			to := peers.find(from)
			if to == nil {
				if to, err = dial(); err != nil || !peers.add(from, to) || !r.keep(to) {
					continue
				}
				r.wait.Go(func() {
					respond(c, from, to)
					peers.remove(from)
					r.drop(to)
				})
			}
			_ = to.SetReadDeadline(time.Now().Add(idle))
			_, _ = to.Write(buf[:n])
		}
	})
}

// respond relays the responses for one peer until it has been silent for the time idle.
func respond(c net.PacketConn, to net.Addr, from net.Conn) {
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			continue // nothing listens there now
		}
		_, _ = c.WriteTo(buf[:n], to)
	}
}

// peers has a socket for each peer.
type peers struct {
	mu    sync.Mutex
	known map[string]net.Conn
}

func (p *peers) find(from net.Addr) net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[from.String()]
}

func (p *peers) add(from net.Addr, to net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) == maxPeers {
		_ = to.Close()
		return false
	}
	p.known[from.String()] = to
	return true
}

func (p *peers) remove(from net.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.known, from.String())
}
