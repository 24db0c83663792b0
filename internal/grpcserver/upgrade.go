package grpcserver

import (
	"context"
	"net"

	"google.golang.org/grpc/peer"
)

// Upgrade marks a connection that began as one of Docker's API, for Upgraded.
func Upgrade(c net.Conn) net.Conn { return &upgradedConn{c} }

type upgradedConn struct{ net.Conn }

// NetConn is the connection itself.
func (c *upgradedConn) NetConn() net.Conn { return c.Conn }

// RemoteAddr is the address by which Upgraded finds the mark.
func (c *upgradedConn) RemoteAddr() net.Addr { return upgradedAddr{c.Conn.RemoteAddr()} }

type upgradedAddr struct{ net.Addr }

// Upgraded reports whether the client of a call has come through Docker's API.
func Upgraded(ctx context.Context) bool {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return false
	}
	addr := p.Addr
	if m, ok := addr.(meteredAddr); ok {
		addr = m.Addr
	}
	_, ok = addr.(upgradedAddr)
	return ok
}
