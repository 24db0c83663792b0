package engineapi

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/volume"

	"github.com/micabuild/mica/internal/containers"
)

func (s *Server) volumeRoutes() map[string]handler {
	return map[string]handler{
		"GET /volumes":           s.listVolumes,
		"POST /volumes/create":   s.createVolume,
		"POST /volumes/prune":    s.pruneVolumes,
		"GET /volumes/{name}":    s.inspectVolume,
		"DELETE /volumes/{name}": s.removeVolume,
	}
}

func (s *Server) createVolume(w http.ResponseWriter, r *http.Request) error {
	var req volume.CreateRequest
	if err := decode(w, r, &req); err != nil {
		return err
	}
	v, err := s.containers.Volumes().Create(r.Context(), req)
	if err != nil {
		return err
	}
	return writeCreated(w, v)
}

func (s *Server) inspectVolume(w http.ResponseWriter, r *http.Request) error {
	v, err := s.containers.Volumes().Get(r.PathValue("name"))
	if err != nil {
		return err
	}
	return writeJSON(w, v)
}

func (s *Server) removeVolume(w http.ResponseWriter, r *http.Request) error {
	return noContent(w, s.containers.RemoveVolume(r.PathValue("name"), boolean(r, "force")))
}

func (s *Server) listVolumes(w http.ResponseWriter, r *http.Request) error {
	lists, err := filters(r)
	if err != nil {
		return err
	}
	for key := range lists {
		if !slices.Contains([]string{"dangling", "driver", "label", "name"}, key) {
			return badRequest("invalid filter '%s'", key)
		}
	}
	all, err := s.containers.Volumes().All()
	if err != nil {
		return err
	}
	used := s.containers.VolumesInUse()
	resp := volume.ListResponse{Volumes: []volume.Volume{}}
	for _, v := range all {
		ok, err := matchVolume(lists, v, len(used[v.Name]) > 0)
		if err != nil {
			return err
		}
		if ok {
			resp.Volumes = append(resp.Volumes, *v)
		}
	}
	return writeJSON(w, resp)
}

func matchVolume(lists map[string][]string, v *volume.Volume, used bool) (bool, error) {
	for _, text := range lists["dangling"] {
		dangling, err := strconv.ParseBool(text)
		if err != nil {
			return false, badRequest("invalid filter 'dangling=%s'", text)
		}
		if dangling == used {
			return false, nil
		}
	}
	if names := lists["name"]; len(names) > 0 {
		match := func(pattern string) bool {
			expr, err := regexp.Compile(pattern)
			return err == nil && expr.MatchString(v.Name)
		}
		if !slices.ContainsFunc(names, match) {
			return false, nil
		}
	}
	if d := lists["driver"]; len(d) > 0 && !slices.Contains(d, v.Driver) {
		return false, nil
	}
	return containers.MatchLabels(v.Labels, lists["label"]), nil
}

// pruneVolumes answers docker volume prune: the anonymous volumes, or all.
func (s *Server) pruneVolumes(w http.ResponseWriter, r *http.Request) error {
	lists, err := filters(r)
	if err != nil {
		return err
	}
	all := !since(r, "1.42")
	for key, values := range lists {
		switch key {
		case "label", "label!":
		case "all":
			for _, text := range values {
				if all, err = strconv.ParseBool(text); err != nil {
					return badRequest("invalid filter 'all=%s'", text)
				}
			}
		default:
			return badRequest("invalid filter '%s'", key)
		}
	}
	without := lists["label!"]
	report, err := s.containers.Volumes().Prune(func(v *volume.Volume) bool {
		return (all || containers.IsAnonymous(v)) && containers.MatchLabels(v.Labels, lists["label"]) &&
			(len(without) == 0 || !containers.MatchLabels(v.Labels, without))
	})
	if err != nil {
		return err
	}
	s.events.publish(events.VolumeEventType, events.ActionPrune, "", map[string]string{"reclaimed": decimal(int64(report.SpaceReclaimed))})
	return writeJSON(w, report)
}
