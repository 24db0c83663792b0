package engineapi

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// absent are the parts of Docker's API that mica does not have. docker asks for objects by name to find out what
// the name means: these requests get 404. The others get 501.
var absent = map[string]handler{
	"/containers/": notImplemented, "GET /containers/{rest...}": lookup("/json", "No such container: %s"),
	"/exec/": notImplemented, "/volumes/": notImplemented, "GET /volumes/{rest...}": lookup("", "get %s: no such volume"),
	"GET /networks/{rest...}": lookup("", "network %s not found"),
	"/plugins/":               notImplemented, "GET /plugins": emptyList, "GET /plugins/{rest...}": lookup("/json", "plugin %q not found"),
	"/swarm": noSwarm, "/swarm/": noSwarm, "/nodes": noSwarm, "/nodes/": noSwarm, "/services": noSwarm, "/services/": noSwarm,
	"/tasks": noSwarm, "/tasks/": noSwarm, "/secrets": noSwarm, "/secrets/": noSwarm, "/configs": noSwarm, "/configs/": noSwarm,
}

// emptyList answers for what mica has none of.
func emptyList(w http.ResponseWriter, _ *http.Request) error { return writeJSON(w, []any{}) }

func notImplemented(_ http.ResponseWriter, r *http.Request) error {
	return &requestError{http.StatusNotImplemented, fmt.Errorf("%s %s: mica serve does not have it", r.Method, r.URL.Path)}
}

func notSupported(text string) error {
	return &requestError{http.StatusNotImplemented, errors.New(text)}
}

// lookup answers that a name means nothing, in Docker's words. docker inspect asks for names of images, which have slashes, too.
func lookup(suffix, words string) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		name, ok := strings.CutSuffix(r.PathValue("rest"), suffix)
		if !ok || name == "" {
			return notImplemented(w, r)
		}
		return &requestError{http.StatusNotFound, fmt.Errorf(words, name)}
	}
}

// noSwarm answers as an engine that is in no swarm.
func noSwarm(http.ResponseWriter, *http.Request) error {
	return &requestError{http.StatusServiceUnavailable, errors.New(`This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)} //nolint:staticcheck // Docker's words
}
