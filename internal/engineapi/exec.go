package engineapi

import (
	"net/http"

	"github.com/moby/moby/api/types/container"

	"github.com/micabuild/mica/internal/containers"
	"github.com/micabuild/mica/internal/pty"
)

// createExec answers the first part of docker exec.
func (s *Server) createExec(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	var req container.ExecCreateRequest
	if err := decode(w, r, &req); err != nil {
		return err
	}
	e, err := c.Exec(req)
	if err != nil {
		return err
	}
	return writeCreated(w, container.ExecCreateResponse{ID: e.ID})
}

// startExec starts a process, and serves its streams.
func (s *Server) startExec(w http.ResponseWriter, r *http.Request) error {
	e, err := s.containers.FindExec(r.PathValue("id"))
	if err != nil {
		return err
	}
	var req container.ExecStartRequest
	if err := decode(w, r, &req); err != nil {
		return err
	}
	var size pty.Size
	if req.ConsoleSize != nil {
		size = pty.Size{Rows: uint16(req.ConsoleSize[0]), Columns: uint16(req.ConsoleSize[1])}
	}
	if req.Detach {
		return e.Start(r.Context(), size, nil)
	}
	if err := e.Check(); err != nil {
		return err
	}
	h, err := s.hijack(w, r, contentType(r, e.TTY()))
	if err != nil {
		return err
	}
	defer h.end()
	if err := h.begin(); err != nil {
		return err
	}
	ctx, cancel := h.whileConnected(r.Context())
	defer cancel()
	stdout, stderr := outputs(h, e.TTY())
	err = e.Start(ctx, size, &containers.AttachOptions{Stdin: h, Stdout: stdout, Stderr: stderr})
	if err != nil && ctx.Err() == nil && !containers.IsDetached(err) {
		_, _ = stderr.Write([]byte(messageOf(err) + "\r\n")) // as in Docker, the answer has begun
	}
	return nil
}

func (s *Server) resizeExec(_ http.ResponseWriter, r *http.Request) error {
	e, err := s.containers.FindExec(r.PathValue("id"))
	if err != nil {
		return err
	}
	height, width, err := terminalSize(r)
	if err != nil {
		return err
	}
	return e.Resize(r.Context(), height, width)
}

func (s *Server) inspectExec(w http.ResponseWriter, r *http.Request) error {
	e, err := s.containers.FindExec(r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeJSON(w, e.Inspect())
}
