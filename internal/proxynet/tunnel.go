package proxynet

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
)

// tunnels are the TLS connections in connections to the proxy, as a listener.
type tunnels struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newTunnels(addr net.Addr) *tunnels {
	return &tunnels{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

// Accept waits for the next connection.
func (t *tunnels) Accept() (net.Conn, error) {
	select {
	case c := <-t.conns:
		return c, nil
	case <-t.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (t *tunnels) Close() error {
	t.end()
	return nil
}

// Addr is the address of the proxy.
func (t *tunnels) Addr() net.Addr { return t.addr }

func (t *tunnels) end() { t.once.Do(func() { close(t.done) }) }

// give hands a connection to Accept, or closes it.
func (t *tunnels) give(c net.Conn) {
	select {
	case t.conns <- c:
	case <-t.done:
		_ = c.Close()
	}
}

// tunnel is a TLS connection to the proxy in the place of a server.
type tunnel struct {
	*tls.Conn
	host string // with the port
}

// tunnelKey is the key of a tunnel's host in the context of its requests.
type tunnelKey struct{}

func tunnelContext(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tunnel); ok {
		return context.WithValue(ctx, tunnelKey{}, t.host)
	}
	return ctx
}

// tunnelOf is the host of the tunnel of a request, "" for none.
func tunnelOf(ctx context.Context) string {
	host, _ := ctx.Value(tunnelKey{}).(string)
	return host
}

// connect opens a tunnel. The proxy connects to the server when it knows what is requested.
func (s *serving) connect(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil || host == "" || tunnelOf(r.Context()) != "" {
		http.Error(w, "CONNECT wants a host and a port", http.StatusBadRequest)
		return
	}
	cert, err := s.Authority.certificate(host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection Established\r\n\r\n"); err != nil {
		_ = conn.Close()
		return
	}
	s.tunnels.give(&tunnel{host: r.Host, Conn: tls.Server(&rest{conn, buffered}, &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*cert}, NextProtos: []string{"http/1.1"},
	})})
}

// rest is a connection of which something has been read already.
type rest struct {
	net.Conn
	io.Reader
}

func (r *rest) Read(p []byte) (int, error) { return r.Reader.Read(p) }
