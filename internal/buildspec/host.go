package buildspec

import (
	"fmt"
	"net"
	"strings"
)

// HostGateway stands for the address at which a step reaches the host.
const HostGateway = "host-gateway"

// Host is a name in /etc/hosts with its addresses, one of which may be HostGateway.
type Host struct {
	Name      string
	Addresses []string
}

// ParseHosts reads --add-host: "name:address" or "name=address", with several addresses separated by commas.
func ParseHosts(list []string) ([]Host, error) {
	var hosts []Host
	for _, s := range list {
		name, addresses, ok := strings.Cut(s, "=")
		if !ok {
			name, addresses, ok = strings.Cut(s, ":")
		}
		if !ok || name == "" || addresses == "" {
			return nil, fmt.Errorf("invalid host %s: use name:address", s)
		}
		h := Host{Name: name}
		for ip := range strings.SplitSeq(addresses, ",") {
			if ip != HostGateway {
				if ip = strings.Trim(ip, "[]"); net.ParseIP(ip) == nil {
					return nil, fmt.Errorf("invalid host %s: %q is not an IP address", s, ip)
				}
			}
			h.Addresses = append(h.Addresses, ip)
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}
