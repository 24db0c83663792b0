package progress

import (
	bkclient "github.com/moby/buildkit/client"

	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/terminal"
)

// escaped is progress without control sequences for a terminal, other than the colours of what steps print.
func escaped(st *solver.Status) *solver.Status {
	out := &solver.Status{}
	for _, v := range st.Vertexes {
		c := *v
		c.Name, c.Error = terminal.EscapeString(v.Name), terminal.EscapeString(v.Error)
		out.Vertexes = append(out.Vertexes, &c)
	}
	for _, s := range st.Statuses {
		c := *s
		c.ID, c.Name = terminal.EscapeString(s.ID), terminal.EscapeString(s.Name)
		out.Statuses = append(out.Statuses, &c)
	}
	for _, l := range st.Logs {
		c := *l
		c.Data = terminal.EscapeLog(l.Data)
		out.Logs = append(out.Logs, &c)
	}
	for _, w := range st.Warnings {
		out.Warnings = append(out.Warnings, escapedWarning(w))
	}
	return out
}

func escapedWarning(w *bkclient.VertexWarning) *bkclient.VertexWarning {
	c := *w
	c.Short, c.URL = terminal.Escape(w.Short), terminal.EscapeString(w.URL)
	c.Detail = make([][]byte, len(w.Detail))
	for i, line := range w.Detail {
		c.Detail[i] = terminal.Escape(line)
	}
	return &c
}
