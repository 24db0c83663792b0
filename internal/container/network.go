package container

import (
	"fmt"
	"slices"
	"strings"

	"github.com/micabuild/mica/internal/network"
	"github.com/micabuild/mica/internal/sandbox"
)

// ParseNetwork is the network that --network names. What Docker calls bridge is a network like the default one.
func ParseNetwork(name string) (sandbox.Network, error) {
	switch name {
	case "default", "bridge":
		return sandbox.NetworkOwn, nil
	case "host":
		return sandbox.NetworkHost, nil
	case "none":
		return sandbox.NetworkNone, nil
	}
	return 0, fmt.Errorf("network %q is not supported: use default, host or none", name)
}

// Gateway is the address, in a container of a network, for which host-gateway stands.
func Gateway(networkName string) string {
	if networkName == "host" {
		return "127.0.0.1"
	}
	return network.Gateway().String()
}

// Ports are those that are to be published: each of publish, and if all is set the exposed ones that publish does not name.
func Ports(publish, exposed []string, all bool) ([]network.Port, error) {
	ports, err := network.ParsePorts(publish)
	if err != nil {
		return nil, err
	}
	exposed = slices.Sorted(slices.Values(exposed))
	for _, e := range exposed {
		if strings.Contains(e, ":") {
			return nil, fmt.Errorf("invalid port format for --expose: %s", e)
		}
	}
	if exposed = slices.Compact(exposed); !all {
		return ports, network.CheckPorts(exposed) // nobody listens: a process may use any protocol
	}
	more, err := network.ParsePorts(exposed)
	if err != nil {
		return nil, err
	}
	for _, m := range more {
		same := func(p network.Port) bool { return p.String() == m.String() }
		if !slices.ContainsFunc(ports, same) {
			ports = append(ports, m)
		}
	}
	return ports, nil
}
