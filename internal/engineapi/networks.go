package engineapi

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/micabuild/mica/internal/containers"
)

func (s *Server) networkRoutes() map[string]handler {
	return map[string]handler{
		"GET /networks":                    s.listNetworks,
		"GET /networks/{name}":             s.inspectNetwork,
		"POST /networks/create":            s.createNetwork,
		"POST /networks/prune":             s.pruneNetworks,
		"POST /networks/{name}/connect":    s.connectNetwork,
		"POST /networks/{name}/disconnect": s.disconnectNetwork,
		"DELETE /networks/{name}":          s.removeNetwork,
		"/networks/":                       notImplemented,
	}
}

// networkFilters are the keys that a list takes.
var networkFilters = []string{"dangling", "driver", "id", "label", "name", "scope", "type"}

func (s *Server) listNetworks(w http.ResponseWriter, r *http.Request) error {
	lists, err := filters(r)
	if err != nil {
		return err
	}
	for key := range lists {
		if !slices.Contains(networkFilters, key) {
			return badRequest("invalid filter '%s'", key)
		}
	}
	list := []network.Summary{}
	for _, n := range s.containers.Networks() {
		if s.matchNetwork(lists, n) {
			list = append(list, network.Summary{Network: n})
		}
	}
	return writeJSON(w, list)
}

// matchNetwork tests filters: each key by one of its values, all labels.
func (s *Server) matchNetwork(lists map[string][]string, n network.Network) bool {
	for key, values := range lists {
		ok := key == "label" && containers.MatchLabels(n.Labels, values) || slices.ContainsFunc(values, func(v string) bool {
			switch key {
			case "name":
				return strings.Contains(n.Name, v)
			case "id":
				return strings.HasPrefix(n.ID, v)
			case "driver":
				return n.Driver == v
			case "scope":
				return n.Scope == v
			case "type":
				return v == "builtin" && containers.IsBuiltin(n.Name) || v == "custom" && !containers.IsBuiltin(n.Name)
			case "dangling":
				dangling := !containers.IsBuiltin(n.Name) && len(s.containers.Members(n.Name)) == 0
				return dangling == (v == "true" || v == "1")
			}
			return false
		})
		if !ok && len(values) > 0 {
			return false
		}
	}
	return true
}

func (s *Server) inspectNetwork(w http.ResponseWriter, r *http.Request) error {
	n, err := s.containers.FindNetwork(r.PathValue("name"))
	if err != nil {
		return err
	}
	return writeJSON(w, network.Inspect{Network: n, Containers: s.containers.Members(n.Name)})
}

func (s *Server) createNetwork(w http.ResponseWriter, r *http.Request) error {
	var req network.CreateRequest
	if err := decode(w, r, &req); err != nil {
		return err
	}
	n, err := s.containers.CreateNetwork(req)
	if err != nil {
		return err
	}
	return writeCreated(w, network.CreateResponse{ID: n.ID})
}

func (s *Server) removeNetwork(w http.ResponseWriter, r *http.Request) error {
	return noContent(w, s.containers.RemoveNetwork(r.PathValue("name")))
}

func (s *Server) connectNetwork(w http.ResponseWriter, r *http.Request) error {
	var req network.ConnectRequest
	if err := decode(w, r, &req); err != nil {
		return err
	}
	return s.containers.Connect(r.PathValue("name"), req.Container, req.EndpointConfig)
}

func (s *Server) disconnectNetwork(w http.ResponseWriter, r *http.Request) error {
	var req network.DisconnectRequest
	if err := decode(w, r, &req); err != nil {
		return err
	}
	return s.containers.Disconnect(r.PathValue("name"), req.Container)
}

// pruneNetworks answers docker network prune, and a part of docker system prune.
func (s *Server) pruneNetworks(w http.ResponseWriter, r *http.Request) error {
	lists, err := filters(r)
	if err != nil {
		return err
	}
	until, err := pruneFilters(lists)
	if err != nil {
		return err
	}
	pruned := s.containers.PruneNetworks(func(n network.Network) bool {
		return (until.IsZero() || n.Created.Before(until)) && containers.MatchLabels(n.Labels, lists["label"]) &&
			(len(lists["label!"]) == 0 || !containers.MatchLabels(n.Labels, lists["label!"]))
	})
	s.events.publish(events.NetworkEventType, events.ActionPrune, "", map[string]string{"reclaimed": "0"})
	return writeJSON(w, network.PruneReport{NetworksDeleted: pruned})
}

// pruneFilters checks the filters of a prune, and returns the time before which what is pruned was made.
func pruneFilters(lists map[string][]string) (until time.Time, err error) {
	for key := range lists {
		if key != "until" && key != "label" && key != "label!" {
			return until, badRequest("invalid filter '%s'", key)
		}
	}
	for _, v := range lists["until"] {
		if until, err = parseTime(v, time.Now()); err != nil {
			return until, badRequest("invalid filter 'until=%s': %w", v, err)
		}
	}
	return until, nil
}
