package containers

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"

	grammar "github.com/micabuild/mica/internal/container"
	"github.com/micabuild/mica/internal/network"
	"github.com/micabuild/mica/internal/sandbox"
)

// publishPorts publishes ports when the network is made, and returns what ends that.
func (c *Container) publishPorts(ctx context.Context, p *sandbox.Process) func() {
	var ends []func()
	p.NetworkMade = func(own *network.Namespace, err error) error {
		ports, parseErr := c.published()
		switch {
		case parseErr != nil:
			return parseErr
		case err != nil && len(ports) > 0:
			return fmt.Errorf("publish ports: the container cannot have a network of its own: %w", err)
		case err != nil:
			return nil
		}
		made := apinetwork.PortMap{}
		for _, port := range ports {
			at, end, err := own.Publish(ctx, port)
			if err != nil {
				return err
			}
			ends = append(ends, end)
			key, _ := apinetwork.PortFrom(port.Port, apinetwork.IPProtocol(port.Protocol))
			made[key] = append(made[key], bindings(port, at)...)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ports = made
		return nil
	}
	return func() {
		for _, end := range ends {
			end()
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ports = nil
	}
}

// bindings are the addresses of the host that reach a port, as Docker lists them: those of IPv4 and IPv6 where all do.
func bindings(p network.Port, at net.Addr) []apinetwork.PortBinding {
	_, port, _ := net.SplitHostPort(at.String())
	if p.HostIP == "" {
		return []apinetwork.PortBinding{{HostIP: netip.IPv4Unspecified(), HostPort: port}, {HostIP: netip.IPv6Unspecified(), HostPort: port}}
	}
	ip, _ := netip.ParseAddr(p.HostIP)
	return []apinetwork.PortBinding{{HostIP: ip, HostPort: port}}
}

// published are the ports that the container publishes.
func (c *Container) published() ([]network.Port, error) {
	var publish, exposed []string
	for port, list := range c.host.PortBindings {
		for _, b := range list {
			text := b.HostPort + ":" + port.String()
			if b.HostIP.IsValid() {
				text = net.JoinHostPort(b.HostIP.String(), b.HostPort) + ":" + port.String()
				if b.HostPort == "" {
					text = strings.TrimSuffix(net.JoinHostPort(b.HostIP.String(), ""), ":") + "::" + port.String()
				}
			} else if b.HostPort == "" {
				text = port.String()
			}
			publish = append(publish, text)
		}
	}
	slices.Sort(publish)
	for port := range c.config.ExposedPorts {
		exposed = append(exposed, port.String())
	}
	ports, err := grammar.Ports(publish, exposed, c.host.PublishAllPorts)
	return ports, invalid(err)
}

func (c *Container) portSummaries() []container.PortSummary {
	list := []container.PortSummary{}
	for port, bindings := range c.networkSettings().Ports {
		if len(bindings) == 0 {
			list = append(list, container.PortSummary{PrivatePort: port.Num(), Type: string(port.Proto())})
		}
		for _, b := range bindings {
			p := container.PortSummary{IP: b.HostIP, PrivatePort: port.Num(), Type: string(port.Proto())}
			p.PublicPort = portNumber(b.HostPort)
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b container.PortSummary) int {
		if a.PrivatePort != b.PrivatePort {
			return int(a.PrivatePort) - int(b.PrivatePort)
		}
		return a.IP.Compare(b.IP)
	})
	return list
}

func portNumber(text string) uint16 {
	n, _ := strconv.ParseUint(text, 10, 16)
	return uint16(n)
}
