package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/docker/go-connections/nat"
)

// Port is a port of the processes that is published on the host.
type Port struct {
	Protocol string // tcp or udp
	Port     uint16
	HostIP   string // "" for all addresses
	// First and Last are a range of the host's ports, of which the first that is free is used; both 0 for any.
	First, Last uint16
}

// String is "80/tcp", as Docker writes it.
func (p Port) String() string { return fmt.Sprintf("%d/%s", p.Port, p.Protocol) }

// ParsePorts reads the values of docker run's --publish: [[ip:][hostPort]:]containerPort[/protocol], with ranges.
func ParsePorts(specs []string) ([]Port, error) {
	var ports []Port
	for _, spec := range specs {
		mappings, err := nat.ParsePortSpec(spec)
		if err != nil {
			return nil, err
		}
		for _, m := range mappings {
			p, err := newPort(m)
			if err != nil {
				return nil, fmt.Errorf("publish %s: %w", spec, err)
			}
			ports = append(ports, p)
		}
	}
	return ports, nil
}

// CheckPorts refuses ports that are not in the grammar of ParsePorts. Those of other protocols are valid.
func CheckPorts(specs []string) error {
	for _, spec := range specs {
		if _, err := nat.ParsePortSpec(spec); err != nil {
			return err
		}
	}
	return nil
}

func newPort(m nat.PortMapping) (Port, error) {
	p := Port{Protocol: m.Port.Proto(), Port: uint16(m.Port.Int()), HostIP: m.Binding.HostIP}
	if p.Protocol != "tcp" && p.Protocol != "udp" {
		return p, fmt.Errorf("protocol %s is not supported: use tcp or udp", p.Protocol)
	}
	first, last, isRange := strings.Cut(cmp.Or(m.Binding.HostPort, "0"), "-")
	if !isRange {
		last = first
	}
	for _, bound := range []struct {
		text string
		to   *uint16
	}{{first, &p.First}, {last, &p.Last}} {
		n, err := strconv.ParseUint(bound.text, 10, 16)
		if err != nil {
			return p, fmt.Errorf("invalid host port %q", bound.text)
		}
		*bound.to = uint16(n)
	}
	return p, nil
}

// Publish listens on the host for a port of the namespace, and returns the address and a function that ends that. Without it, the namespace or
// this process does.
func (n *Namespace) Publish(ctx context.Context, p Port) (addr net.Addr, end func(), err error) {
	for port := int(p.First); port <= int(p.Last); port++ {
		addr, end, err = n.listen(ctx, p, net.JoinHostPort(p.HostIP, strconv.Itoa(port)))
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	if err != nil {
		var system *net.OpError
		if errors.As(err, &system) {
			err = system.Err
		}
		return nil, nil, fmt.Errorf("publish %s: listen on port %s of the host: %w", p, net.JoinHostPort(p.HostIP, strconv.Itoa(int(p.First))), err)
	}
	return addr, end, nil
}

func (n *Namespace) listen(ctx context.Context, p Port, at string) (net.Addr, func(), error) {
	var config net.ListenConfig
	kind := p.Protocol
	if ip := net.ParseIP(p.HostIP); ip != nil && ip.To4() != nil {
		kind += "4" // 0.0.0.0 is not all addresses of IPv6
	}
	to := net.JoinHostPort(n.plan.Address4.String(), strconv.Itoa(int(p.Port)))
	dial := func() (c net.Conn, err error) {
		err = inside(n.inner, func() error {
			c, err = net.Dial(p.Protocol, to)
			return err
		})
		return c, err
	}
	if p.Protocol == "udp" {
		c, err := config.ListenPacket(ctx, kind, at)
		if err != nil {
			return nil, nil, err
		}
		n.relays.datagrams(c, dial)
		return c.LocalAddr(), func() { n.relays.drop(c) }, nil
	}
	l, err := config.Listen(ctx, kind, at)
	if err != nil {
		return nil, nil, err
	}
	n.relays.stream(l, dial)
	return l.Addr(), func() { n.relays.drop(l) }, nil
}
