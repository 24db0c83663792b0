package network

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"slices"

	"github.com/moby/buildkit/util/resolvconf"
)

// hostResolv is where the host says who resolves names.
const hostResolv = "/etc/resolv.conf"

// ResolvConf is resolv.conf(5) for the processes in the namespace.
func (n *Namespace) ResolvConf() []byte { return n.resolv }

// prepareDNS makes the namespace's resolv.conf: the host's, but a resolver on the host's loopback (that of systemd, for
// one) is reached by the router's address.
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

// reachable are the resolvers as processes address them, and the first that is on the host's loopback.
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

// serveDNS passes what is sent to the router's port 53 to a resolver of the host.
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
