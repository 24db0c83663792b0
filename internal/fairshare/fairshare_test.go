package fairshare

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// TestAddr: a client by a unix socket is its user, one by TCP its host.
func TestAddr(t *testing.T) {
	t.Parallel()
	for network, at := range map[string]string{"unix": filepath.Join(t.TempDir(), "s"), "tcp": "127.0.0.1:0"} {
		l, err := net.Listen(network, at)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial(network, l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"unix": "user " + strconv.Itoa(os.Geteuid()), "tcp": "127.0.0.1"}[network]
		if got := Client(Addr(server).String()); got != want || Addr(server).Network() != network {
			t.Errorf("%s: %q, want %q", network, got, want)
		}
		_, _, _ = c.Close(), server.Close(), l.Close()
	}
	for address, want := range map[string]string{"[::1]:80": "::1", "user 5": "user 5", "": "", "@": "@"} {
		if got := Client(address); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}

// TestLimit: what one client takes leaves each other its own, and what is given back can be taken again.
func TestLimit(t *testing.T) {
	t.Parallel()
	l := &Limit{Own: 2, Shared: 3}
	take := func(client string, want int) {
		t.Helper()
		n := 0
		for n < 100 && l.Take(client) {
			n++
		}
		if n != want {
			t.Errorf("%s takes %d, want %d", client, n, want)
		}
	}
	take("greedy", 5)
	take("modest", 2)
	l.Return("modest")
	take("greedy", 0)
	take("modest", 1)
	l.Return("greedy")
	take("modest", 1)
	for range 4 {
		l.Return("greedy")
	}
	for range 3 {
		l.Return("modest")
	}
	if len(l.had) != 0 || l.shared != 0 {
		t.Errorf("left: %v, %d", l.had, l.shared)
	}
	for i := range maxClients {
		l.Take(strconv.Itoa(i))
	}
	if l.Take("one more") || !l.Take("1") {
		t.Error("the number of clients has no limit, or is one of what they have")
	}
}
