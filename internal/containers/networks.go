package containers

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	apinetwork "github.com/moby/moby/api/types/network"
)

// maxNetworks bounds the networks of a manager.
const maxNetworks = 256

// builtin are the networks that always exist, with the names of Docker's drivers.
var builtin = []apinetwork.Network{describe("bridge", "bridge", "b"), describe("host", "host", "a"), describe("none", "null", "0")}

func describe(name, driver, digit string) apinetwork.Network {
	return apinetwork.Network{
		Name: name, ID: strings.Repeat(digit, 64), Driver: driver, Scope: "local", EnableIPv4: true, Options: map[string]string{},
		Labels: map[string]string{}, IPAM: apinetwork.IPAM{Driver: "default", Config: []apinetwork.IPAMConfig{}},
	}
}

// IsBuiltin reports whether a network always exists.
func IsBuiltin(name string) bool {
	return slices.ContainsFunc(builtin, func(n apinetwork.Network) bool { return n.Name == name })
}

// endpoint is a container's place in a network.
type endpoint struct {
	network apinetwork.Network
	id      string
	aliases []string
}

// CreateNetwork makes a network with a name. It is a record: the containers of all networks share one address, and those of this network find
// each other by their names. So whatever asks for more than names is refused.
func (m *Manager) CreateNetwork(req apinetwork.CreateRequest) (apinetwork.Network, error) {
	if err := checkNetworkRequest(&req); err != nil {
		return apinetwork.Network{}, err
	}
	n := describe(req.Name, "bridge", "")
	n.ID, n.Created, n.Attachable = newID(), time.Now().UTC(), req.Attachable
	maps.Copy(n.Labels, req.Labels)
	if req.EnableIPv6 != nil {
		n.EnableIPv6 = *req.EnableIPv6
	}
	m.mu.Lock()
	switch _, taken := m.networks[n.Name]; {
	case taken:
		m.mu.Unlock()
		return n, fail(Conflict, "network with name %s already exists", n.Name)
	case len(m.networks) >= maxNetworks:
		m.mu.Unlock()
		return n, fail(Conflict, "there are %d networks, which is the limit: remove some", maxNetworks)
	}
	m.networks[n.Name] = n
	m.mu.Unlock()
	m.networkEvent(events.ActionCreate, n, "")
	return n, nil
}

func checkNetworkRequest(req *apinetwork.CreateRequest) error {
	switch req.Driver {
	case "", "default", "bridge":
	case "host", "null":
		return fail(Forbidden, "only one instance of %q network is allowed", req.Driver)
	default:
		return fail(Unsupported, "the network driver %s is not supported: use bridge", req.Driver)
	}
	switch {
	case IsBuiltin(req.Name) || req.Name == "default":
		return fail(Forbidden, "operation is not permitted on predefined %s network", req.Name)
	case len(req.Name) > maxNetworkName || !validName(req.Name):
		return fail(Invalid, "invalid network name %q: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", req.Name)
	case req.Internal:
		return fail(Unsupported, "internal networks are not supported: containers of all networks share one address, and reach the outside")
	case req.IPAM != nil && (len(req.IPAM.Config) > 0 || req.IPAM.Driver != "" && req.IPAM.Driver != "default" || len(req.IPAM.Options) > 0):
		return fail(Unsupported, "the addresses of a network cannot be chosen: containers of all networks share one address")
	case len(req.Options) > 0:
		return fail(Unsupported, "options of network drivers are not supported: containers of all networks share one address")
	case req.Ingress || req.ConfigOnly || req.ConfigFrom != nil && req.ConfigFrom.Network != "" || req.Scope != "" && req.Scope != "local":
		return fail(Unsupported, "networks of a swarm are not supported")
	case req.EnableIPv4 != nil && !*req.EnableIPv4:
		return fail(Unsupported, "networks without IPv4 are not supported")
	}
	return nil
}

func (m *Manager) networkEvent(action events.Action, n apinetwork.Network, id string) {
	attributes := map[string]string{"name": n.Name, "type": n.Driver}
	if id != "" {
		attributes["container"] = id
	}
	m.publish(events.NetworkEventType, action, n.ID, attributes)
}

// Networks are all networks, by name after those that always exist.
func (m *Manager) Networks() []apinetwork.Network {
	m.mu.Lock()
	defer m.mu.Unlock()
	own := slices.SortedFunc(maps.Values(m.networks), func(a, b apinetwork.Network) int { return cmp.Compare(a.Name, b.Name) })
	return append(slices.Clone(builtin), own...)
}

// FindNetwork finds a network by its ID, name, or a prefix of its ID.
func (m *Manager) FindNetwork(ref string) (apinetwork.Network, error) {
	if ref == "default" {
		ref = "bridge"
	}
	var found []apinetwork.Network
	for _, n := range m.Networks() {
		if n.ID == ref || n.Name == ref {
			return n, nil
		}
		if ref != "" && strings.HasPrefix(n.ID, ref) && (len(ref) >= shortID || !IsBuiltin(n.Name)) { // "a" is a name
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return apinetwork.Network{}, fail(NotFound, "network %s not found", ref)
	case 1:
		return found[0], nil
	}
	return found[0], fail(Invalid, "network %s is ambiguous (%d matches found based on ID prefix)", ref, len(found))
}

// RemoveNetwork removes a network in which no container runs.
func (m *Manager) RemoveNetwork(ref string) error {
	n, err := m.FindNetwork(ref)
	if err != nil {
		return err
	}
	if IsBuiltin(n.Name) {
		return fail(Forbidden, "%s is a pre-defined network and cannot be removed", n.Name)
	}
	if users := m.members(n.Name, true); len(users) > 0 {
		return fail(Forbidden, "error while removing network: network %s has active endpoints (name:%q id:%q)", n.Name, users[0].Name(), users[0].ID[:shortID])
	}
	m.mu.Lock()
	delete(m.networks, n.Name)
	m.mu.Unlock()
	m.networkEvent(events.ActionDestroy, n, "")
	return nil
}

// PruneNetworks removes the networks without containers that wanted accepts.
func (m *Manager) PruneNetworks(wanted func(apinetwork.Network) bool) []string {
	pruned := []string{}
	for _, n := range m.Networks() {
		if !IsBuiltin(n.Name) && wanted(n) && len(m.members(n.Name, false)) == 0 && m.RemoveNetwork(n.ID) == nil {
			pruned = append(pruned, n.Name)
		}
	}
	return pruned
}

// members are the containers of a network, by creation.
func (m *Manager) members(name string, running bool) (list []*Container) {
	all := m.list()
	slices.Reverse(all)
	for _, c := range all {
		if c.isIn(name) && (!running || c.Running()) {
			list = append(list, c)
		}
	}
	return list
}

func (c *Container) isIn(network string) bool {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	_, ok := c.endpoints[network]
	return ok
}

// Members describes the containers that run in a network.
func (m *Manager) Members(name string) map[string]apinetwork.EndpointResource {
	list := map[string]apinetwork.EndpointResource{}
	for _, c := range m.members(name, true) {
		e := apinetwork.EndpointResource{Name: c.Name()}
		if s := c.endpointSettings()[name]; s != nil {
			e.EndpointID = s.EndpointID
			if s.IPAddress.IsValid() {
				e.IPv4Address, _ = s.IPAddress.Prefix(s.IPPrefixLen)
			}
		}
		list[c.ID] = e
	}
	return list
}

// join finds the networks that a new container is in.
func (m *Manager) join(mode container.NetworkMode, given map[string]*apinetwork.EndpointSettings) (map[string]*endpoint, error) {
	if mode.IsContainer() {
		return nil, fail(Unsupported, "the network of another container is not supported: containers share the network bridge")
	}
	nets := map[string]*endpoint{}
	first, err := m.endpoint(cmp.Or(string(mode), "bridge"), given[string(mode)])
	if err != nil {
		return nil, err
	}
	nets[first.network.Name] = first
	for _, ref := range slices.Sorted(maps.Keys(given)) {
		if given[ref] == nil {
			return nil, fail(Invalid, "invalid config for network %s: EndpointsConfig is nil", ref)
		}
		e, err := m.endpoint(ref, given[ref])
		if err != nil {
			return nil, err
		}
		nets[e.network.Name] = e
	}
	if len(nets) > 1 && (first.network.Driver != "bridge" || nets["host"] != nil || nets["none"] != nil) {
		return nil, fail(Invalid, "conflicting options: cannot attach both user-defined and non-user-defined network-modes")
	}
	return nets, nil
}

// endpoint is a new place in a network.
func (m *Manager) endpoint(ref string, s *apinetwork.EndpointSettings) (*endpoint, error) {
	n, err := m.FindNetwork(ref)
	if err != nil {
		return nil, err
	}
	e := &endpoint{network: n, id: newID()}
	if s == nil {
		return e, nil
	}
	if i := s.IPAMConfig; i != nil && (i.IPv4Address.IsValid() || i.IPv6Address.IsValid() || len(i.LinkLocalIPs) > 0) || len(s.MacAddress) > 0 {
		return nil, fail(Unsupported, "the address of a container cannot be chosen")
	}
	if len(s.Links) > 0 {
		return nil, fail(Unsupported, "links are not supported: use the names of the containers, in a network with a name")
	}
	if len(s.Aliases) > 0 && IsBuiltin(n.Name) {
		return nil, fail(Invalid, "invalid config for network %s: network-scoped aliases are only supported for user-defined networks", n.Name)
	}
	for _, a := range s.Aliases {
		if len(a) > maxAlias || !validAlias(a) {
			return nil, fail(Invalid, "invalid alias %q: it is not a name of a host", a)
		}
	}
	e.aliases = slices.Clone(s.Aliases)
	return e, nil
}

// Connect puts a container into another network.
func (m *Manager) Connect(ref, name string, s *apinetwork.EndpointSettings) error {
	e, err := m.endpoint(ref, s)
	if err != nil {
		return err
	}
	c, err := m.Find(name)
	if err != nil {
		return err
	}
	m.mu.Lock()
	switch _, in := c.endpoints[e.network.Name]; {
	case in:
		err = fail(Forbidden, "endpoint with name %s already exists in network %s", c.name, e.network.Name)
	case c.endpoints["host"] != nil || e.network.Name == "host":
		err = fail(Forbidden, "container sharing network namespace with another container or host cannot be connected to any other network")
	case c.endpoints["none"] != nil || e.network.Name == "none":
		err = fail(Forbidden, "container cannot be connected to multiple networks with one of the networks in private (none) mode")
	default:
		c.endpoints[e.network.Name] = e
	}
	m.mu.Unlock()
	if err != nil {
		return err
	}
	m.networkEvent(events.ActionConnect, e.network, c.ID)
	return m.updateHosts(c)
}

// Disconnect takes a container out of a network. It keeps its address, which is that of all.
func (m *Manager) Disconnect(ref, name string) error {
	n, err := m.FindNetwork(ref)
	if err != nil {
		return err
	}
	c, err := m.Find(name)
	if err != nil {
		return err
	}
	m.mu.Lock()
	switch _, in := c.endpoints[n.Name]; {
	case !in:
		err = fail(Forbidden, "container %s is not connected to network %s", c.ID, n.Name)
	case n.Driver != "bridge" || len(c.endpoints) == 1:
		err = fail(Unsupported, "container %s cannot leave its last network: remove it, and create it with --network none", c.name)
	default:
		delete(c.endpoints, n.Name)
	}
	m.mu.Unlock()
	if err == nil {
		m.networkEvent(events.ActionDisconnect, n, c.ID)
	}
	return err
}
