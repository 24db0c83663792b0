package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	Init(os.Args)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	loseFirstThread()
	os.Exit(m.Run())
}

// loseFirstThread leaves the process's first thread in another namespace, as goroutines may that enter one and end: /proc/self and /proc/net say
// then what is true there. An ordinary user may make no namespace.
func loseFirstThread() {
	for first := false; !first; {
		found := make(chan bool)
		go func() {
			runtime.LockOSThread()
			first := unix.Gettid() == os.Getpid()
			if first {
				_ = unix.Unshare(unix.CLONE_NEWNET)
			}
			found <- first
			select {} // so that the next one gets another thread
		}()
		first = <-found
	}
}

// start makes a namespace, which needs root and pasta.
func start(t *testing.T) *Namespace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root")
	}
	pasta, err := Find(false)
	if err != nil {
		t.Fatal(err)
	}
	n, err := Start(Options{Pasta: pasta, MaxGroup: 1 << 31})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		killChildren(t)
	})
	return n
}

// hostAddresses are the host's, of those families that a namespace has.
func hostAddresses(t *testing.T, n *Namespace) []netip.Addr {
	t.Helper()
	list := []netip.Addr{HostAddress()}
	if n.plan.Address6.IsValid() {
		c, err := net.Dial("udp", "[2001:db8::1]:9")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		list = append(list, netip.MustParseAddrPort(c.LocalAddr().String()).Addr())
	}
	return list
}

// greet listens at an address of the host and returns its port.
func greet(t *testing.T, at string) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hello\n")
			_ = c.Close()
		}
	}()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// ask connects from the namespace and returns what is said there.
func ask(n *Namespace, to netip.AddrPort) (said string, err error) {
	err = inside(n.inner, func() error {
		c, err := net.Dial("tcp", to.String())
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		said, err = bufio.NewReader(c).ReadString('\n')
		return err
	})
	return said, err
}

func TestRootReach(t *testing.T) {
	n := start(t)
	port := greet(t, "[::]:0")
	for _, host := range hostAddresses(t, n) {
		if said, err := ask(n, netip.AddrPortFrom(host, port)); said != "hello\n" {
			t.Errorf("%s, an address of the host: %q, %v", host, said, err)
		}
	}
	for _, loopback := range []string{"127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::ffff:127.0.0.1", n.plan.Gateway4.String(), n.plan.Address4.String()} {
		if said, err := ask(n, netip.AddrPortFrom(netip.MustParseAddr(loopback), port)); err == nil {
			t.Errorf("%s of the namespace leads to the host: %q", loopback, said)
		}
	}
}

// TestRootCraftedPackets sends datagrams to loopback addresses of the host, past the kernel's own rules.
func TestRootCraftedPackets(t *testing.T) {
	n := start(t)
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	port := portOf(c.LocalAddr())
	// What is sent to the host's address comes after what was sent before by the same way.
	all, err := net.ListenPacket("udp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = all.Close() }()
	host, last := HostAddress(), portOf(all.LocalAddr())
	err = inside(n.inner, func() error {
		return errors.Join(
			craft(n.plan.Address4, netip.MustParseAddr("127.0.0.1"), port), craft(n.plan.Address4, netip.MustParseAddr("0.0.0.0"), port),
			craft(n.plan.Address4, host, last))
	})
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	if _, _, err := all.ReadFrom(buf); err != nil {
		t.Fatal(err)
	}
	if said, ok := received(t, c); ok {
		t.Errorf("a crafted packet came to the host's loopback: %q", said)
	}
}

func TestRootPublish(t *testing.T) {
	n := start(t)
	for _, protocol := range []string{"tcp", "udp"} {
		ports, err := ParsePorts([]string{"127.0.0.1::8080/" + protocol})
		if err != nil {
			t.Fatal(err)
		}
		at, _, err := n.Publish(context.Background(), ports[0])
		if err != nil {
			t.Fatal(err)
		}
		echo(t, n, protocol)
		c, err := net.Dial(protocol, at.String())
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 10)
		if _, err := c.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		if size, err := c.Read(buf); string(buf[:size]) != "ping" {
			t.Errorf("%s: %q, %v", protocol, buf[:size], err)
		}
		_ = c.Close()
		_, _, err = n.Publish(context.Background(), Port{protocol, 80, "127.0.0.1", portOf(at), portOf(at)})
		want := fmt.Sprintf("publish 80/%s: listen on port %s of the host: bind: address already in use", protocol, at)
		if err == nil || err.Error() != want {
			t.Errorf("a port that is taken: %v, want %s", err, want)
		}
	}
}
