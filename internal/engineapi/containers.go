package engineapi

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/micabuild/mica/internal/containers"
)

// containerHandler serves a request about one container.
type containerHandler func(w http.ResponseWriter, r *http.Request, c *containers.Container) error

// withContainer finds the container that the path names.
func (s *Server) withContainer(h containerHandler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		c, err := s.containers.Find(r.PathValue("name"))
		if err != nil {
			return err
		}
		return h(w, r, c)
	}
}

func (s *Server) containerRoutes() map[string]handler {
	return map[string]handler{
		"GET /containers/json":             s.listContainers,
		"POST /containers/create":          s.createContainer,
		"POST /containers/prune":           s.pruneContainers,
		"GET /containers/{name}/json":      s.withContainer(inspectContainer),
		"GET /containers/{name}/logs":      s.withContainer(s.containerLogs),
		"GET /containers/{name}/top":       s.withContainer(topContainer),
		"GET /containers/{name}/stats":     s.withContainer(s.containerStats),
		"GET /containers/{name}/changes":   s.withContainer(changesOfContainer),
		"GET /containers/{name}/export":    s.withContainer(exportContainer),
		"GET /containers/{name}/archive":   s.withContainer(getArchive),
		"HEAD /containers/{name}/archive":  s.withContainer(statArchive),
		"PUT /containers/{name}/archive":   s.withContainer(putArchive),
		"POST /containers/{name}/start":    s.withContainer(startContainer),
		"POST /containers/{name}/stop":     s.withContainer(stopContainer),
		"POST /containers/{name}/restart":  s.withContainer(restartContainer),
		"POST /containers/{name}/kill":     s.withContainer(killContainer),
		"POST /containers/{name}/wait":     s.withContainer(waitContainer),
		"POST /containers/{name}/rename":   s.withContainer(renameContainer),
		"POST /containers/{name}/resize":   s.withContainer(resizeContainer),
		"POST /containers/{name}/attach":   s.withContainer(s.attachContainer),
		"POST /containers/{name}/exec":     s.withContainer(s.createExec),
		"POST /containers/{name}/pause":    s.withContainer(notPaused),
		"POST /containers/{name}/unpause":  s.withContainer(notPaused),
		"POST /containers/{name}/update":   s.withContainer(notUpdated),
		"DELETE /containers/{name}":        s.withContainer(removeContainer),
		"POST /exec/{id}/start":            s.startExec,
		"POST /exec/{id}/resize":           s.resizeExec,
		"GET /exec/{id}/json":              s.inspectExec,
		"POST /commit":                     s.commit,
		"GET /containers/{name}/attach/ws": s.withContainer(noWebSocket),
	}
}

func noWebSocket(http.ResponseWriter, *http.Request, *containers.Container) error {
	return notSupported("streams over WebSocket are not supported: attach by an upgraded connection")
}

func notPaused(http.ResponseWriter, *http.Request, *containers.Container) error {
	return notSupported("containers cannot be paused")
}

func notUpdated(http.ResponseWriter, *http.Request, *containers.Container) error {
	return notSupported("the limits of a container are those that it was created with")
}

// createContainer answers docker create, and the first part of docker run.
func (s *Server) createContainer(w http.ResponseWriter, r *http.Request) error {
	var req container.CreateRequest
	if err := decode(w, r, &req); err != nil {
		return err
	}
	if req.Config == nil {
		return badRequest("config cannot be empty in order to create a container")
	}
	if req.HostConfig != nil && !since(r, "1.56") {
		req.HostConfig.Umask = nil // older versions do not have it
	}
	p, err := platform(r)
	if err != nil {
		return err
	}
	o := containers.CreateOptions{Name: r.URL.Query().Get("name"), Config: req.Config, Host: req.HostConfig, Platform: p}
	if req.NetworkingConfig != nil {
		o.Networks = req.NetworkingConfig.EndpointsConfig
	}
	c, warnings, err := s.containers.Create(r.Context(), o)
	if err != nil {
		return err
	}
	if warnings == nil {
		warnings = []string{}
	}
	return writeCreated(w, container.CreateResponse{ID: c.ID, Warnings: warnings})
}

func startContainer(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	return noContent(w, c.Start(r.Context()))
}

// stopTimeout reads the time that a process has to end, nil for none.
func stopTimeout(r *http.Request) (*int, error) {
	text := r.URL.Query().Get("t")
	if text == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil, badRequest("invalid value %q for t: it is not a number of seconds", text)
	}
	return &n, nil
}

func stopContainer(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	n, err := stopTimeout(r)
	if err != nil {
		return err
	}
	return noContent(w, c.Stop(r.URL.Query().Get("signal"), n))
}

func restartContainer(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	n, err := stopTimeout(r)
	if err != nil {
		return err
	}
	return noContent(w, c.Restart(r.Context(), r.URL.Query().Get("signal"), n))
}

func killContainer(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	return noContent(w, c.Kill(r.URL.Query().Get("signal")))
}

// waitContainer answers docker wait. The head of the answer says that it waits: docker run starts the container then.
func waitContainer(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	wait, err := c.Wait(container.WaitCondition(r.URL.Query().Get("condition")))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	code, failure, err := wait(r.Context())
	if err != nil {
		return err
	}
	resp := container.WaitResponse{StatusCode: int64(code)}
	if failure != "" {
		resp.Error = &container.WaitExitError{Message: failure}
	}
	return json.NewEncoder(w).Encode(resp)
}

func renameContainer(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	return noContent(w, c.Rename(r.URL.Query().Get("name")))
}

func removeContainer(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	if boolean(r, "link") {
		return notSupported("links are not supported")
	}
	return noContent(w, c.Remove(containers.RemoveOptions{Force: boolean(r, "force"), Volumes: boolean(r, "v")}))
}

func inspectContainer(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	return writeJSON(w, c.Inspect(r.Context(), boolean(r, "size")))
}

// topContainer answers docker top.
func topContainer(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	top, err := c.Top(r.Context(), r.URL.Query().Get("ps_args"))
	if err != nil {
		return err
	}
	return writeJSON(w, top)
}

// listContainers answers docker ps.
func (s *Server) listContainers(w http.ResponseWriter, r *http.Request) error {
	lists, err := filters(r)
	if err != nil {
		return err
	}
	limit, err := number(r, "limit")
	if err != nil {
		return err
	}
	list, err := s.containers.List(r.Context(), containers.ListOptions{All: boolean(r, "all"), Size: boolean(r, "size"), Limit: int(limit), Filters: lists})
	if err != nil {
		return err
	}
	return writeJSON(w, list)
}

// pruneContainers answers docker container prune.
func (s *Server) pruneContainers(w http.ResponseWriter, r *http.Request) error {
	lists, err := filters(r)
	if err != nil {
		return err
	}
	until, err := pruneFilters(lists)
	if err != nil {
		return err
	}
	report, err := s.containers.Prune(until, lists["label"], lists["label!"])
	if err != nil {
		return err
	}
	s.events.publish(events.ContainerEventType, events.ActionPrune, "", map[string]string{"reclaimed": decimal(int64(report.SpaceReclaimed))})
	return writeJSON(w, report)
}
