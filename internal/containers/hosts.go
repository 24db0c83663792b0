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

// hosts are the names that the container finds: its own aliases, and the names of the containers of its networks that run.
func (c *Container) hosts() []network.ExtraHost {
	var names []string
	for _, n := range c.named() {
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

// named are the networks of the container in which names are found.
func (c *Container) named() []string {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(c.nets)), IsBuiltin)
}

// namesIn are the names of the container in a network.
func (c *Container) namesIn(network string) []string {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	e := c.nets[network]
	if e == nil {
		return nil
	}
	return append([]string{c.name, c.ID[:shortID]}, e.aliases...)
}

// announce adds the names of a container to the files of those in its networks, and theirs to its own.
func (m *Manager) announce(c *Container) error {
	told := map[*Container]bool{}
	var errs []error
	for _, n := range c.named() {
		for _, other := range m.members(n, true) {
			if !told[other] {
				told[other] = true
				errs = append(errs, other.tell())
			}
		}
	}
	return errors.Join(errs...)
}

// tell adds the names that the container does not have yet to its /etc/hosts.
func (c *Container) tell() error {
	list := c.hosts()
	c.mu.Lock()
	r := c.run
	c.mu.Unlock()
	if r == nil {
		return nil
	}
	r.telling.Lock()
	defer r.telling.Unlock()
	list = slices.DeleteFunc(list, func(h network.ExtraHost) bool { return r.told[h.Host] })
	if err := r.box.AddHosts(list); err != nil {
		return err
	}
	r.note(list)
	return nil
}

func (r *run) note(list []network.ExtraHost) {
	for _, h := range list {
		r.told[h.Host] = true
	}
}

// checkNets refuses the start of a container whose network has been removed.
func (c *Container) checkNets() error {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	for name, e := range c.nets {
		if !IsBuiltin(name) && c.m.networks[name].ID != e.network.ID {
			return fail(NotFound, "network %s not found", e.network.ID)
		}
	}
	return nil
}

// endpoints are the container's networks, as Docker's API has them.
func (c *Container) endpoints() map[string]*apinetwork.EndpointSettings {
	c.m.mu.Lock()
	nets := maps.Clone(c.nets)
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

// network is the network's name in mica run's words: those with names are bridge's.
func (c *Container) network() string {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	switch mode := string(c.host.NetworkMode); {
	case c.config.NetworkDisabled:
		return "none"
	case mode == "" || IsBuiltin(mode):
		return cmp.Or(mode, "default")
	case c.nets["host"] != nil: // by its ID
		return "host"
	case c.nets["none"] != nil:
		return "none"
	case mode == "default":
		return mode
	}
	return "bridge"
}
