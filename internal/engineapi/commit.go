package engineapi

import (
	"net/http"

	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/container"

	"github.com/micabuild/mica/internal/containers"
	"github.com/micabuild/mica/internal/dockerfile"
)

// commit answers docker commit.
func (s *Server) commit(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	c, err := s.containers.Find(q.Get("container"))
	if err != nil {
		return err
	}
	name, err := repoTag(q.Get("repo"), q.Get("tag"))
	if err != nil {
		return err
	}
	o := containers.CommitOptions{Author: q.Get("author"), Comment: q.Get("comment")}
	if name != nil {
		o.Name = name.String()
	}
	if err := decode(w, r, &o.Config); err != nil {
		return err
	}
	if o.Changes, err = dockerfile.Config(r.Context(), q["changes"], platforms.Normalize(platforms.DefaultSpec())); err != nil {
		return &requestError{http.StatusBadRequest, err}
	}
	img, err := c.Commit(r.Context(), o)
	if err != nil {
		return err
	}
	return writeCreated(w, container.CommitResponse{ID: img.ID.String()})
}

// changesOfContainer answers docker diff.
func changesOfContainer(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	list, err := c.Changes(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, list)
}
