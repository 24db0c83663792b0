package network

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/micabuild/mica/internal/userns"
)

// plan has the addresses of a network. The helper process gets it as JSON.
type plan struct {
	Pasta string
	// Address4 and Address6 are those of the processes, Gateway4 and Gateway6 the router's. Those of IPv6 are set if the host
	// has it.
	Address4, Gateway4 netip.Addr
	Address6, Gateway6 netip.Addr
	IPv4               bool // the host has a default route of IPv4
	Offline            bool // the host has no address but its loopback's: pasta is not needed
}

// Prefixes of the networks between processes and router.
const (
	prefix4 = 30
	prefix6 = 64
)

// candidates are networks, of which the first is used that the host is not part of: hosts in it cannot be reached.
var candidates = []string{"10.213.37.0", "172.30.213.0", "192.168.213.0", "10.37.213.0"}

func newPlan(pasta string) (plan, error) {
	p := plan{Pasta: pasta}
	local, err := net.InterfaceAddrs()
	if err != nil {
		return p, err
	}
	base := unused(local)
	if !base.IsValid() {
		return p, errors.New("the host uses all of the networks that could be given to a process")
	}
	p.Gateway4 = base.Next()
	p.Address4 = p.Gateway4.Next()
	p.IPv4, p.Offline = hasIPv4(tables), offline(local)
	if hasIPv6(tables) {
		p.Gateway6 = netip.MustParseAddr("fd6d:6963:6100::1")
		p.Address6 = p.Gateway6.Next()
	}
	return p, nil
}

// unused returns the first of the candidates that does not overlap the networks of the host, an invalid address for none.
func unused(local []net.Addr) netip.Addr {
	for _, c := range candidates {
		if base := netip.MustParseAddr(c); !overlaps(base, local) {
			return base
		}
	}
	return netip.Addr{}
}

func overlaps(base netip.Addr, local []net.Addr) bool {
	want := netip.PrefixFrom(base, prefix4)
	for _, a := range local {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Overlaps(want) {
			return true
		}
	}
	return false
}

// offline reports whether the host has no address that others can reach.
func offline(local []net.Addr) bool {
	for _, a := range local {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			return false
		}
	}
	return true
}

// tables has the kernel's tables of routes, those of the thread: /proc/net has those of the process's first thread, which may have been left
// in another namespace.
const tables = "/proc/thread-self/net"

// hasIPv4 reports whether the host has a default route of IPv4.
func hasIPv4(tables string) bool {
	// interface, destination, gateway, …
	return hasRoute(filepath.Join(tables, "route"), func(f []string) bool { return len(f) > 7 && f[1] == "00000000" && f[7] == "00000000" })
}

// hasIPv6 reports whether the host has a default route of IPv6, which pasta needs.
func hasIPv6(tables string) bool {
	// destination, its prefix length, source, its prefix length, next hop, …, interface
	return hasRoute(filepath.Join(tables, "ipv6_route"), func(f []string) bool { return len(f) == 10 && f[1] == "00" && f[9] != "lo" })
}

func hasRoute(table string, is func(fields []string) bool) bool {
	data, err := os.ReadFile(table)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if is(strings.Fields(line)) {
			return true
		}
	}
	return false
}

// HostAddress returns the address at which a process with a network of its own reaches services of the host that listen on all
// addresses or on this one. It is invalid if the host has none but its loopback.
func HostAddress() netip.Addr {
	for _, to := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		// Connecting a datagram socket sends nothing: it only selects an address.
		c, err := net.Dial("udp", to)
		if err != nil {
			continue
		}
		addr := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
		_ = c.Close()
		if !addr.IsLoopback() {
			return addr
		}
	}
	return netip.Addr{}
}

// Gateway returns the address for "host-gateway": that of the host, or its loopback if processes share its network.
func Gateway() netip.Addr {
	if addr := HostAddress(); addr.IsValid() {
		if _, err := Find(userns.Current().Nested()); err == nil {
			return addr
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}
