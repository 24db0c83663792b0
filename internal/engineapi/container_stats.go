package engineapi

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/micabuild/mica/internal/containers"
)

// statsInterval is the time between two measurements.
const statsInterval = time.Second

// containerStats answers docker stats: once, or every second as long as the client reads.
func (s *Server) containerStats(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	follow := r.URL.Query().Get("stream") == "" || boolean(r, "stream")
	w.Header().Set("Content-Type", "application/json")
	before := c.Stats(r.Context())
	if !follow && (boolean(r, "one-shot") || !c.Running()) {
		return writeJSON(w, before)
	}
	control := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	tick := time.NewTicker(statsInterval)
	defer tick.Stop()
	if follow {
		if err := enc.Encode(before); err != nil || control.Flush() != nil {
			return nil // the client has gone
		}
	}
	for {
		select {
		case <-tick.C:
		case <-c.Removed():
			return nil
		case <-r.Context().Done():
			return nil
		}
		now := c.Stats(r.Context())
		now.PreRead, now.PreCPUStats = before.Read, before.CPUStats
		if err := enc.Encode(now); err != nil || control.Flush() != nil || !follow {
			return nil
		}
		before = now
	}
}
