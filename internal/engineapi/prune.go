package engineapi

import (
	"net/http"
	"time"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/events"

	"github.com/micabuild/mica/internal/prune"
)

// pruneBuilds answers docker builder prune.
func (s *Server) pruneBuilds(w http.ResponseWriter, r *http.Request) error {
	s.CollectLeft(r.Context()) // its space is not the prune's
	lists, err := filters(r)
	if err != nil {
		return err
	}
	keep, err := keptSpace(r)
	if err != nil {
		return err
	}
	limits, err := prune.ParseLimits(boolean(r, "all"), conditions(lists), keep, time.Now())
	if err != nil {
		return &requestError{http.StatusBadRequest, err}
	}
	o, err := s.openStore(nil)
	if err != nil {
		return err
	}
	removed, freed, err := o.pruner().Cache(r.Context(), limits)
	if err != nil {
		return err
	}
	s.events.publish(events.BuilderEventType, events.ActionPrune, "", map[string]string{"reclaimed": decimal(freed)})
	return writeJSON(w, build.CachePruneReport{CachesDeleted: removed, SpaceReclaimed: uint64(freed)})
}

// keptSpace is the size that a prune keeps, "" for none. The store does not prune by the space that is free.
func keptSpace(r *http.Request) (string, error) {
	for _, name := range []string{"max-used-space", "min-free-space"} {
		if n, err := number(r, name); err != nil || n != 0 {
			return "", badRequest("%s is not supported: use reserved-space, or filters", name)
		}
	}
	for _, name := range []string{"reserved-space", "keep-storage"} {
		n, err := number(r, name)
		if err != nil {
			return "", err
		}
		if n > 0 {
			return decimal(n), nil
		}
	}
	return "", nil
}
