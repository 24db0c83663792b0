package engineapi

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"

	"github.com/micabuild/mica/internal/containers"
)

// networks are those that a container may be in, with the names of Docker's drivers.
var networks = []struct{ name, driver string }{{"bridge", "bridge"}, {"host", "host"}, {"none", "null"}}

func (s *Server) networkRoutes() map[string]handler {
	return map[string]handler{
		"GET /networks":        listNetworks,
		"GET /networks/{name}": s.inspectNetwork,
		"POST /networks/prune": nothingPruned("NetworksDeleted"),
		"/networks/":           noNetworks,
	}
}

// isNetwork reports whether a name of a network is one that mica has.
func isNetwork(name string) bool {
	return name == "default" || slices.ContainsFunc(networks, func(n struct{ name, driver string }) bool { return n.name == name })
}

func notSupported(format string, args ...any) error {
	return &requestError{http.StatusNotImplemented, fmt.Errorf(format, args...)}
}

func noSuchNetwork(name string) error {
	return notSupported("network %s is not supported: mica has the networks bridge, host and none", name)
}

func noNetworks(_ http.ResponseWriter, r *http.Request) error {
	return notSupported("%s %s: mica has the networks bridge, host and none, and no others", r.Method, r.URL.Path)
}

func describeNetwork(name, driver string) network.Network {
	return network.Network{
		Name: name, ID: containers.NetworkID(name), Driver: driver, Scope: "local", EnableIPv4: true, Options: map[string]string{},
		Labels: map[string]string{}, IPAM: network.IPAM{Driver: "default", Config: []network.IPAMConfig{}},
	}
}

func listNetworks(w http.ResponseWriter, r *http.Request) error {
	lists, err := filters(r)
	if err != nil {
		return err
	}
	list := []network.Summary{}
	for _, n := range networks {
		if matchNetwork(lists, n.name, n.driver) {
			list = append(list, network.Summary{Network: describeNetwork(n.name, n.driver)})
		}
	}
	return writeJSON(w, list)
}

func matchNetwork(lists map[string][]string, name, driver string) bool {
	for key, values := range lists {
		ok := slices.ContainsFunc(values, func(v string) bool {
			switch key {
			case "name":
				return strings.Contains(name, v)
			case "id":
				return strings.HasPrefix(containers.NetworkID(name), v)
			case "driver":
				return driver == v
			case "scope":
				return v == "local"
			case "type":
				return v == "builtin"
			case "dangling":
				return v == "false" || v == "0"
			}
			return false
		})
		if !ok && len(values) > 0 {
			return false
		}
	}
	return true
}

// inspectNetwork answers docker network inspect. Networks have no containers of their own: the one of bridge is that of all.
func (s *Server) inspectNetwork(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	for _, n := range networks {
		if n.name == name || containers.NetworkID(n.name) == name {
			return writeJSON(w, network.Inspect{Network: describeNetwork(n.name, n.driver), Containers: map[string]network.EndpointResource{}})
		}
	}
	return &requestError{http.StatusNotFound, errors.New("network " + name + " not found")}
}
