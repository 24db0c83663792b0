package engineapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/micabuild/mica/internal/containers"
)

// maxRequest bounds the JSON of a request.
const maxRequest = 4 << 20

// decode reads the JSON of a request; nothing is no error where the request may have none.
func decode(w http.ResponseWriter, r *http.Request, into any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	switch err := dec.Decode(into); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return badRequest("invalid JSON: %w", err)
	case dec.More():
		return badRequest("unexpected content after JSON")
	}
	return nil
}

// containerHandler serves a request about one container.
type containerHandler func(w http.ResponseWriter, r *http.Request, c *containers.Container) error

// of finds the container that the path names.
func (s *Server) of(h containerHandler) handler {
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
		"GET /containers/{name}/json":      s.of(inspectContainer),
		"GET /containers/{name}/logs":      s.of(s.containerLogs),
		"GET /containers/{name}/top":       s.of(topContainer),
		"GET /containers/{name}/stats":     s.of(s.containerStats),
		"GET /containers/{name}/changes":   s.of(changesOfContainer),
		"GET /containers/{name}/export":    s.of(exportContainer),
		"GET /containers/{name}/archive":   s.of(getArchive),
		"HEAD /containers/{name}/archive":  s.of(statArchive),
		"PUT /containers/{name}/archive":   s.of(putArchive),
		"POST /containers/{name}/start":    s.of(startContainer),
		"POST /containers/{name}/stop":     s.of(stopContainer),
		"POST /containers/{name}/restart":  s.of(restartContainer),
		"POST /containers/{name}/kill":     s.of(killContainer),
		"POST /containers/{name}/wait":     s.of(waitContainer),
		"POST /containers/{name}/rename":   s.of(renameContainer),
		"POST /containers/{name}/resize":   s.of(resizeContainer),
		"POST /containers/{name}/attach":   s.of(s.attachContainer),
		"POST /containers/{name}/exec":     s.of(s.createExec),
		"POST /containers/{name}/pause":    s.of(notPaused),
		"POST /containers/{name}/unpause":  s.of(notPaused),
		"POST /containers/{name}/update":   s.of(notUpdated),
		"DELETE /containers/{name}":        s.of(removeContainer),
		"POST /exec/{id}/start":            s.startExec,
		"POST /exec/{id}/resize":           s.resizeExec,
		"GET /exec/{id}/json":              s.inspectExec,
		"POST /commit":                     s.commit,
		"GET /containers/{name}/attach/ws": s.of(noWebSocket),
		"POST /containers/{name}/copy":     s.of(noWebSocket),
	}
}

func noWebSocket(_ http.ResponseWriter, r *http.Request, _ *containers.Container) error {
	return notImplemented(nil, r)
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
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	return json.NewEncoder(w).Encode(container.CreateResponse{ID: c.ID, Warnings: warnings})
}

func startContainer(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	if err := c.Start(r.Context()); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// seconds reads the time that a process has to end, nil for none.
func seconds(r *http.Request) (*int, error) {
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
	n, err := seconds(r)
	if err != nil {
		return err
	}
	if err := c.Stop(r.URL.Query().Get("signal"), n); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func restartContainer(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	n, err := seconds(r)
	if err != nil {
		return err
	}
	if err := c.Restart(r.Context(), r.URL.Query().Get("signal"), n); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func killContainer(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	if err := c.Kill(r.URL.Query().Get("signal")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
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
	if err := c.Rename(r.URL.Query().Get("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func removeContainer(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	if boolean(r, "link") {
		return notSupported("links are not supported")
	}
	if err := c.Remove(containers.RemoveOptions{Force: boolean(r, "force"), Volumes: boolean(r, "v")}); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func inspectContainer(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	return writeJSON(w, c.Inspect(r.Context(), boolean(r, "size")))
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

// timeOf reads a time of Docker's API: seconds since 1970, a duration before now, or a date.
func timeOf(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return unixTime(strings.TrimSpace(text))
}
