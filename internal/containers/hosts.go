package containers

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"slices"

	apinetwork "github.com/moby/moby/api/types/network"

	"github.com/micabuild/mica/internal/network"
)

// Containers of a network with a name find each other in /etc/hosts: that of a container gets the names of the others when it starts, and
// when one of them does. The address is that which all share.

// networkHosts are the names that the container finds: its own aliases, and the names of the containers of its networks that run.
func (c *Container) networkHosts() []network.ExtraHost {
	var names []string
	for _, n := range c.namedNetworks() {
		for _, other := range c.m.members(n, true) {
			names = append(names, other.namesIn(n)...)
		}
		names = append(names, c.namesIn(n)...)
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	own := c.m.address()
	if !own.IsValid() { // containers use the host's network
		own = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	var list []network.ExtraHost
	for _, name := range slices.Compact(names) {
		list = append(list, network.ExtraHost{Host: name, IP: own.String()})
	}
	return list
}

// namedNetworks are the networks of the container in which names are found.
func (c *Container) namedNetworks() []string {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(c.endpoints)), IsBuiltin)
}

// namesIn are the names of the container in a network.
func (c *Container) namesIn(network string) []string {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	e := c.endpoints[network]
	if e == nil {
		return nil
	}
	return append([]string{c.name, c.ID[:shortID]}, e.aliases...)
}

// updateHosts adds the names of a container to the /etc/hosts of those in its networks, and theirs to its own.
func (m *Manager) updateHosts(c *Container) error {
	var members []*Container
	for _, n := range c.namedNetworks() {
		for _, member := range m.members(n, true) {
			if !slices.Contains(members, member) {
				members = append(members, member)
			}
		}
	}
	var errs []error
	for _, member := range members {
		errs = append(errs, member.addHosts())
	}
	return errors.Join(errs...)
}

// addHosts adds the names that /etc/hosts of the container does not have yet.
func (c *Container) addHosts() error {
	list := c.networkHosts()
	c.mu.Lock()
	r := c.run
	c.mu.Unlock()
	if r == nil {
		return nil
	}
	r.hostsMu.Lock()
	defer r.hostsMu.Unlock()
	list = slices.DeleteFunc(list, func(h network.ExtraHost) bool { return r.hosts[h.Host] })
	if err := r.box.AddHosts(list); err != nil {
		return err
	}
	for _, h := range list {
		r.hosts[h.Host] = true
	}
	return nil
}

// checkNetworks refuses the start of a container whose network has been removed.
func (c *Container) checkNetworks() error {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	for name, e := range c.endpoints {
		if !IsBuiltin(name) && c.m.networks[name].ID != e.network.ID {
			return fail(NotFound, "network %s not found", e.network.ID)
		}
	}
	return nil
}

// endpointSettings are the container's networks, as Docker's API has them.
func (c *Container) endpointSettings() map[string]*apinetwork.EndpointSettings {
	c.m.mu.Lock()
	nets := maps.Clone(c.endpoints)
	name := c.name
	c.m.mu.Unlock()
	running := c.Running()
	list := map[string]*apinetwork.EndpointSettings{}
	for n, e := range nets {
		s := &apinetwork.EndpointSettings{NetworkID: e.network.ID, Aliases: e.aliases}
		if !IsBuiltin(n) {
			s.DNSNames = append([]string{name, c.ID[:shortID]}, e.aliases...)
		}
		if running {
			s.EndpointID = e.id
			if e.network.Driver == "bridge" {
				s.Gateway, s.IPAddress, s.IPPrefixLen = network.Gateway(), c.m.address(), 24
			}
		}
		list[n] = s
	}
	return list
}

// networkMode is the network's name in mica run's words: those with names are bridge's.
func (c *Container) networkMode() string {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	switch mode := string(c.host.NetworkMode); {
	case c.config.NetworkDisabled:
		return "none"
	case mode == "" || IsBuiltin(mode):
		return cmp.Or(mode, "default")
	case c.endpoints["host"] != nil: // by its ID
		return "host"
	case c.endpoints["none"] != nil:
		return "none"
	case mode == "default":
		return mode
	}
	return "bridge"
}
