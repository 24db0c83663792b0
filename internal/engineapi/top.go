package engineapi

import (
	"net/http"

	"github.com/micabuild/mica/internal/containers"
)

// topContainer answers docker top.
func topContainer(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	top, err := c.Top(r.Context(), r.URL.Query().Get("ps_args"))
	if err != nil {
		return err
	}
	return writeJSON(w, top)
}
