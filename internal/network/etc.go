package network

import (
	"bytes"
	"fmt"
	"net/netip"

	"github.com/moby/buildkit/util/resolvconf"
)

// ExtraHost is a line of hosts(5).
type ExtraHost struct{ Host, IP string }

// Hosts returns the hosts(5) of a process. Its hostname, with the domain if that is not empty, belongs to its own address or, if
// that is not valid, to the loopback's.
func Hosts(hostname, domain string, own netip.Addr, extra []ExtraHost) []byte {
	if domain != "" {
		hostname = hostname + "." + domain + " " + hostname
	}
	const loopback6 = "::1\tlocalhost ip6-localhost ip6-loopback\n"
	var b bytes.Buffer
	if own.IsValid() {
		fmt.Fprintf(&b, "127.0.0.1\tlocalhost\n%s%s\t%s\n", loopback6, own, hostname)
	} else {
		fmt.Fprintf(&b, "127.0.0.1\tlocalhost %s\n%s", hostname, loopback6)
	}
	b.Write(HostLines(extra))
	return b.Bytes()
}

// HostLines returns lines of hosts(5).
func HostLines(hosts []ExtraHost) []byte {
	var b bytes.Buffer
	for _, h := range hosts {
		fmt.Fprintf(&b, "%s\t%s\n", h.IP, h.Host)
	}
	return b.Bytes()
}

// Resolver replaces parts of resolv.conf(5): those that are not nil.
type Resolver struct {
	Servers         []netip.Addr
	Search, Options []string
}

// Apply returns a resolv.conf with the changes.
func (r Resolver) Apply(resolv []byte) ([]byte, error) {
	if r.Servers == nil && r.Search == nil && r.Options == nil {
		return resolv, nil
	}
	rc, err := resolvconf.Parse(bytes.NewReader(resolv), "")
	if err != nil {
		return nil, err
	}
	if r.Servers != nil {
		rc.OverrideNameServers(r.Servers)
	}
	if r.Search != nil {
		rc.OverrideSearch(r.Search)
	}
	if r.Options != nil {
		rc.OverrideOptions(r.Options)
	}
	return rc.Generate(false)
}
