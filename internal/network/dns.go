package network

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"slices"

	"github.com/moby/buildkit/util/resolvconf"
)

// hostResolv names the host's resolvers.
const hostResolv = "/etc/resolv.conf"

// ResolvConf returns the resolv.conf(5) of the processes in the namespace.
func (n *Namespace) ResolvConf() []byte { return n.resolv }

// prepareDNS makes the namespace's resolv.conf: the host's, with the router's address in place of a resolver on the host's
// loopback, such as systemd's.
func (n *Namespace) prepareDNS() error {
	rc, err := resolvconf.Load(hostResolv)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	servers, local := n.reachable(rc.NameServers())
	if local.IsValid() {
		if err := n.serveDNS(local); err != nil {
			return err
		}
	}
	rc.OverrideNameServers(servers)
	n.resolv, err = rc.Generate(false)
	return err
}

// reachable returns the addresses of the resolvers for the processes, and the first resolver on the host's loopback.
func (n *Namespace) reachable(servers []netip.Addr) (list []netip.Addr, local netip.Addr) {
	for _, s := range servers {
		if s.Unmap().IsLoopback() || s.IsUnspecified() {
			if !local.IsValid() {
				local = s
			}
			s = n.plan.Gateway4
		}
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list, local
}

// serveDNS relays the router's port 53 to a resolver of the host.
func (n *Namespace) serveDNS(resolver netip.Addr) error {
	at := netip.AddrPortFrom(n.plan.Gateway4, 53).String()
	to := netip.AddrPortFrom(resolver, 53).String()
	var udp net.PacketConn
	var tcp net.Listener
	err := inside(n.router, func() (err error) {
		if udp, err = net.ListenPacket("udp", at); err != nil {
			return err
		}
		tcp, err = net.Listen("tcp", at)
		return err
	})
	if err != nil {
		return err
	}
	n.relays.datagrams(udp, func() (net.Conn, error) { return net.Dial("udp", to) })
	n.relays.stream(tcp, func() (net.Conn, error) { return net.Dial("tcp", to) })
	return nil
}
