package progress

import (
	"slices"

	bkclient "github.com/moby/buildkit/client"

	"github.com/micabuild/mica/internal/solver"
)

// Plain returns a status whose notes (solver.IsNote) are output of their steps: the plain display would print "done" behind them.
func Plain(st *solver.Status) *solver.Status {
	if !slices.ContainsFunc(st.Statuses, solver.IsNote) {
		return st
	}
	plain := *st
	plain.Statuses = nil
	for _, s := range st.Statuses {
		if !solver.IsNote(s) {
			plain.Statuses = append(plain.Statuses, s)
			continue
		}
		note := &bkclient.VertexLog{Vertex: s.Vertex, Stream: 2, Data: []byte(s.Name + "\n"), Timestamp: s.Timestamp}
		plain.Logs = append([]*bkclient.VertexLog{note}, plain.Logs...)
	}
	return &plain
}
