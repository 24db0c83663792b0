package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Messages of rtnetlink(7), as few as two connected namespaces need.

// mtu is that of both hops. The host's own sockets split what leaves the host.
const mtu = 65520

// attribute returns a netlink attribute. The data of a nested one are attributes.
func attribute(kind uint16, data ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofRtAttr+len(data)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	return align(append(b, data...))
}

func align(b []byte) []byte {
	for len(b)%unix.RTA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

func number(kind uint16, value uint32) []byte {
	return attribute(kind, binary.NativeEndian.AppendUint32(nil, value)...)
}

func text(kind uint16, value string) []byte { return attribute(kind, append([]byte(value), 0)...) }

// request sends one message in the thread's network namespace and returns the kernel's error.
func request(kind, flags uint16, parts ...[]byte) error {
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(s) }()
	var body []byte
	for _, p := range parts {
		body = append(body, p...)
	}
	m := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	m = binary.NativeEndian.AppendUint16(m, kind)
	m = binary.NativeEndian.AppendUint16(m, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m = append(m, 0, 0, 0, 0, 0, 0, 0, 0) // sequence, port
	if err := unix.Sendto(s, append(m, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	response := make([]byte, 4096)
	n, _, err := unix.Recvfrom(s, response, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(response[4:]) != unix.NLMSG_ERROR {
		return errors.New("unexpected response from the kernel")
	}
	if code := int32(binary.NativeEndian.Uint32(response[unix.SizeofNlMsghdr:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// linkHeader returns a struct ifinfomsg that sets flags and clears none.
func linkHeader(index int, flags uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], flags)
	return b
}

// peerIndex is the index of the processes' interface. If it differs from that of the router's, the kernel notices the connection
// sooner (linkwatch_urgent_event).
const peerIndex = 10

// addPair makes two connected interfaces: name in this namespace, and peerName in another.
func addPair(name, peerName string, peer *os.File) error {
	other := append(linkHeader(peerIndex, 0), text(unix.IFLA_IFNAME, peerName)...)
	other = append(other, number(unix.IFLA_MTU, mtu)...)
	other = append(other, number(unix.IFLA_NET_NS_FD, uint32(peer.Fd()))...)
	const peerInfo = 1 // VETH_INFO_PEER
	info := attribute(unix.IFLA_INFO_KIND, []byte("veth")...)
	info = append(info, attribute(unix.IFLA_INFO_DATA, attribute(peerInfo, other...)...)...)
	err := request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL,
		linkHeader(0, 0), text(unix.IFLA_IFNAME, name), number(unix.IFLA_MTU, mtu), attribute(unix.IFLA_LINKINFO, info...))
	if err != nil {
		return fmt.Errorf("connect namespaces by a veth pair: %w", err)
	}
	return nil
}

// setUp brings an interface up.
func setUp(name string, more ...[]byte) error {
	index, err := linkIndex(name)
	if err == nil {
		err = request(unix.RTM_NEWLINK, 0, append([][]byte{linkHeader(index, unix.IFF_UP)}, more...)...)
	}
	if err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	return nil
}

// awaitCarrier waits until the kernel has noticed that an interface is connected: before, it drops packets. A request for the
// interface makes it look (Linux 6.8). Older kernels may take a second.
func awaitCarrier(name string) error {
	index, err := linkIndex(name)
	if err != nil {
		return err
	}
	for range 2000 {
		_ = request(unix.RTM_GETLINK, 0, linkHeader(index, 0)) // only the request matters
		r, err := linkRequest(name, unix.SIOCGIFFLAGS)
		if err != nil {
			return err
		}
		if r.Uint16()&unix.IFF_RUNNING != 0 {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("%s is not connected", name)
}

func linkIndex(name string) (int, error) {
	r, err := linkRequest(name, unix.SIOCGIFINDEX)
	if err != nil {
		return 0, err
	}
	return int(r.Uint32()), nil
}

func linkRequest(name string, kind uint) (*unix.Ifreq, error) {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(s) }()
	r, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	return r, unix.IoctlIfreq(s, kind, r)
}

// addAddress gives an interface an address without detection of duplicates: the link has no other hosts.
func addAddress(name string, p netip.Prefix) error {
	index, err := linkIndex(name)
	if err == nil {
		header := []byte{family(p.Addr()), byte(p.Bits()), unix.IFA_F_NODAD, unix.RT_SCOPE_UNIVERSE, 0, 0, 0, 0}
		binary.NativeEndian.PutUint32(header[4:], uint32(index))
		err = request(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, header,
			attribute(unix.IFA_LOCAL, p.Addr().AsSlice()...), attribute(unix.IFA_ADDRESS, p.Addr().AsSlice()...))
	}
	if err != nil {
		return fmt.Errorf("give %s the address %s: %w", name, p, err)
	}
	return nil
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// addDefault adds a default route to a gateway on an interface.
func addDefault(name string, gateway netip.Addr) error {
	index, err := linkIndex(name)
	if err == nil {
		err = request(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, routeHeader(family(gateway), 0, unix.RTN_UNICAST, unix.RTNH_F_ONLINK),
			attribute(unix.RTA_GATEWAY, gateway.AsSlice()...), number(unix.RTA_OIF, uint32(index)))
	}
	if err != nil {
		return fmt.Errorf("add a default route by %s: %w", name, err)
	}
	return nil
}

// forbid makes a network unreachable.
func forbid(p netip.Prefix) error {
	err := request(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, routeHeader(family(p.Addr()), p.Bits(), unix.RTN_UNREACHABLE, 0),
		attribute(unix.RTA_DST, p.Addr().AsSlice()...))
	if err != nil {
		return fmt.Errorf("forbid %s: %w", p, err)
	}
	return nil
}

// routeHeader returns a struct rtmsg.
func routeHeader(family byte, bits int, kind byte, flags uint32) []byte {
	b := []byte{family, byte(bits), 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, kind, 0, 0, 0, 0}
	binary.NativeEndian.PutUint32(b[8:], flags)
	return b
}
