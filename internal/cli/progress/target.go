package progress

import (
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/solver"
)

// OfTarget is the progress of one of several targets: steps have its name before them, as buildx shows it, and identities of
// their own, since targets have steps in common.
func OfTarget(target string, st *solver.Status) *solver.Status {
	own := func(d digest.Digest) digest.Digest {
		if d == "" {
			return d
		}
		return digest.FromString(target + " " + d.String())
	}
	out := &solver.Status{}
	for _, v := range st.Vertexes {
		c := *v
		c.Digest, c.Name = own(v.Digest), prefixed(target, v.Name)
		c.Inputs = make([]digest.Digest, len(v.Inputs))
		for i, in := range v.Inputs {
			c.Inputs[i] = own(in)
		}
		out.Vertexes = append(out.Vertexes, &c)
	}
	for _, s := range st.Statuses {
		c := *s
		c.Vertex = own(s.Vertex)
		out.Statuses = append(out.Statuses, &c)
	}
	for _, l := range st.Logs {
		c := *l
		c.Vertex = own(l.Vertex)
		out.Logs = append(out.Logs, &c)
	}
	for _, w := range st.Warnings {
		c := *w
		c.Vertex = own(w.Vertex)
		out.Warnings = append(out.Warnings, &c)
	}
	return out
}

// prefixed is "[web 2/3] RUN …" of "[2/3] RUN …".
func prefixed(target, step string) string {
	if rest, ok := strings.CutPrefix(step, "["); ok {
		return "[" + target + " " + rest
	}
	return "[" + target + "] " + step
}
