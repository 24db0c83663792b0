package network

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

// listenTCP listens on the loopback, and dials there.
func listenTCP(t *testing.T) (net.Listener, dialer) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }
}

func dialTCP(t *testing.T, dial dialer) *net.TCPConn {
	t.Helper()
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// A stream is relayed in both directions, and each direction ends by itself.
func TestStream(t *testing.T) {
	t.Parallel()
	server, toServer := listenTCP(t)
	front, toFront := listenTCP(t)
	var r relays
	t.Cleanup(r.close)
	r.stream(front, toServer)
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			go func() {
				request, _ := io.ReadAll(c) // until the client has ended its direction
				fmt.Fprintf(c, "response to %s", request)
				_ = c.Close()
			}()
		}
	}()
	for i := range 3 {
		c := dialTCP(t, toFront)
		fmt.Fprintf(c, "request %d", i)
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || string(got) != fmt.Sprintf("response to request %d", i) {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// A connection ends at once if nothing listens where it leads.
func TestStreamToNowhere(t *testing.T) {
	t.Parallel()
	front, toFront := listenTCP(t)
	var r relays
	t.Cleanup(r.close)
	r.stream(front, func() (net.Conn, error) { return nil, errors.New("refused") })
	if got, err := io.ReadAll(dialTCP(t, toFront)); len(got) > 0 || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// Open connections end with the relays, and nothing begins afterwards.
func TestRelaysEnd(t *testing.T) {
	t.Parallel()
	server, toServer := listenTCP(t)
	front, toFront := listenTCP(t)
	var r relays
	r.stream(front, toServer)
	client := dialTCP(t, toFront)
	inside, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(inside, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	r.close()
	for name, c := range map[string]net.Conn{"outside": client, "inside": inside} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: the connection is open", name)
		}
	}
	late, _ := listenTCP(t)
	r.stream(late, toServer)
	if _, err := late.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a listener of closed relays: %v", err)
	}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.datagrams(packets, toServer)
	if _, _, err := packets.ReadFrom(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a socket of closed relays: %v", err)
	}
}

// Each peer gets the responses to its own datagrams.
func TestDatagrams(t *testing.T) {
	t.Parallel()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		buf := make([]byte, 100)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(slices.Concat([]byte("response to "), buf[:n]), from)
		}
	}()
	front, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var r relays
	t.Cleanup(r.close)
	dials := make(chan bool, 10)
	r.datagrams(front, func() (net.Conn, error) {
		dials <- true
		return net.Dial("udp", server.LocalAddr().String())
	})
	var clients []net.Conn
	for range 2 {
		c, err := net.Dial("udp", front.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		clients = append(clients, c)
	}
	for round := range 3 {
		for i, c := range clients {
			fmt.Fprintf(c, "%d-%d", i, round)
		}
		for i, c := range clients {
			buf := make([]byte, 100)
			n, err := c.Read(buf)
			if want := fmt.Sprintf("response to %d-%d", i, round); err != nil || string(buf[:n]) != want {
				t.Errorf("%q, %v; want %q", buf[:n], err, want)
			}
		}
	}
	if len(dials) != len(clients) {
		t.Errorf("%d sockets for %d peers", len(dials), len(clients))
	}
}

// The number of peers is bounded, and a peer that is removed makes room.
func TestPeers(t *testing.T) {
	t.Parallel()
	p := &peers{known: map[string]net.Conn{}}
	address := func(i int) net.Addr { return &net.UDPAddr{IP: net.IPv4(10, 0, byte(i>>8), byte(i)), Port: 1} }
	for i := range maxPeers {
		if !p.add(address(i), nil) {
			t.Fatalf("peer %d is refused", i)
		}
	}
	one, _ := net.Pipe()
	if p.add(address(maxPeers), one) {
		t.Error("there is no limit")
	}
	if err := one.SetDeadline(time.Time{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the socket of a peer too many is open: %v", err)
	}
	p.remove(address(0))
	if one, _ = net.Pipe(); !p.add(address(0), one) || p.find(address(0)) != one {
		t.Error("a removed peer makes no room")
	}
}
