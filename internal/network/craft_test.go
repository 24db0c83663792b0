package network

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// craft sends a datagram of IPv4 by a packet socket, to the router's hardware address.
func craft(from, to netip.Addr, port uint16) error {
	link, err := net.InterfaceByName(innerName)
	if err != nil {
		return err
	}
	router, err := neighbour(from)
	if err != nil {
		return err
	}
	udp := binary.BigEndian.AppendUint16(nil, 4000)
	udp = binary.BigEndian.AppendUint16(udp, port)
	udp = append(udp, 0, 8+7, 0, 0) // no checksum
	udp = append(udp, "crafted"...)
	ip := []byte{0x45, 0, 0, byte(20 + len(udp)), 0, 1, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	ip = append(ip, from.AsSlice()...)
	ip = append(ip, to.AsSlice()...)
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(s) }()
	at := &unix.SockaddrLinklayer{Protocol: 0x0008, Ifindex: link.Index, Halen: 6}
	copy(at.Addr[:], router)
	return unix.Sendto(s, append(ip, udp...), 0, at)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// neighbour is the router's hardware address, which the kernel learns when something is sent there.
func neighbour(from netip.Addr) (net.HardwareAddr, error) {
	c, err := net.Dial("tcp", netip.AddrPortFrom(from.Prev(), 9).String()) // refused, after the address was learned
	if err == nil {
		_ = c.Close()
	}
	table, err := os.ReadFile("/proc/thread-self/net/arp")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); f[0] == from.Prev().String() {
			return net.ParseMAC(f[3])
		}
	}
	return nil, os.ErrNotExist
}

// echo returns what it receives on port 8080 of the namespace.
func echo(t *testing.T, n *Namespace, protocol string) {
	t.Helper()
	serve := func(c net.Conn) {
		buf := make([]byte, 100)
		size, _ := c.Read(buf)
		_, _ = c.Write(buf[:size])
	}
	err := inside(n.inner, func() error {
		if protocol == "udp" {
			c, err := net.ListenPacket("udp", ":8080")
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = c.Close() })
			go func() {
				buf := make([]byte, 100)
				if size, from, err := c.ReadFrom(buf); err == nil {
					_, _ = c.WriteTo(buf[:size], from)
				}
			}()
			return nil
		}
		l, err := net.Listen("tcp", ":8080")
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			if c, err := l.Accept(); err == nil {
				serve(c)
				_ = c.Close()
			}
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func portOf(a net.Addr) uint16 {
	return netip.MustParseAddrPort(a.String()).Port()
}

// received returns a datagram that has arrived.
func received(t *testing.T, c net.PacketConn) (string, bool) {
	t.Helper()
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	var n int
	var got error
	if err := raw.Control(func(fd uintptr) { n, _, got = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT) }); err != nil {
		t.Fatal(err)
	}
	return string(buf[:max(n, 0)]), got == nil
}

// killChildren kills what was left running and came to be this process's child: pasta, which in mica ends with the process
// 1 of its namespace.
func killChildren(t *testing.T) {
	t.Helper()
	list, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range list {
		text, _ := os.ReadFile(name)
		for field := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _ = unix.Wait4(pid, nil, 0, nil)
		}
	}
}
