// Package fairshare has limits that the clients of a server share: whatever some have taken, there is a part for each. It tells clients apart.
package fairshare

import (
	"net"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// user is the address of a client by a unix socket: a user of the host.
type user uint32

func (user) Network() string  { return "unix" }
func (u user) String() string { return "user " + strconv.FormatUint(uint64(u), 10) }

// Addr is the address of the other end of a connection: by a unix socket, the user of the process that has made it.
func Addr(c net.Conn) net.Addr {
	local, ok := c.(*net.UnixConn)
	if !ok {
		return c.RemoteAddr()
	}
	raw, err := local.SyscallConn()
	if err != nil {
		return c.RemoteAddr()
	}
	var peer *unix.Ucred
	if raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }) != nil || err != nil {
		return c.RemoteAddr()
	}
	return user(peer.Uid)
}

// Client is the client at an address: its host, whatever its port is, or its user.
func Client(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

// maxClients bounds the clients that have something at once.
const maxClients = 1024

// Limit bounds what clients have at once. It is safe for concurrent use.
type Limit struct {
	// Own is how many each client may have.
	Own int
	// Shared is how many all clients may have together beside their own.
	Shared int

	mu     sync.Mutex
	had    map[string]int
	shared int
}

// Take takes one more for a client, and reports whether there was one.
func (l *Limit) Take(client string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.had[client]
	switch {
	case n == 0 && len(l.had) >= maxClients:
		return false
	case n < l.Own:
	case l.shared < l.Shared:
		l.shared++
	default:
		return false
	}
	if l.had == nil {
		l.had = map[string]int{}
	}
	l.had[client] = n + 1
	return true
}

// Return gives back one that a client has taken.
func (l *Limit) Return(client string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.had[client]
	if n > l.Own {
		l.shared--
	}
	if l.had[client] = n - 1; n == 1 {
		delete(l.had, client)
	}
}
