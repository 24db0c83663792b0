package progress

import (
	"testing"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/solver"
)

func TestOfTarget(t *testing.T) {
	t.Parallel()
	d := digest.FromString("step")
	st := OfTarget("web", &solver.Status{
		Vertexes: []*bkclient.Vertex{{Digest: d, Name: "[2/3] RUN x", Inputs: []digest.Digest{d}}, {Name: "exporting"}},
		Statuses: []*bkclient.VertexStatus{{Vertex: d}}, Logs: []*bkclient.VertexLog{{Vertex: d}}, Warnings: []*bkclient.VertexWarning{{Vertex: d}},
	})
	own := st.Vertexes[0].Digest
	if st.Vertexes[0].Name != "[web 2/3] RUN x" || st.Vertexes[1].Name != "[web] exporting" || own == d || st.Vertexes[1].Digest != "" {
		t.Errorf("%+v, %+v", st.Vertexes[0], st.Vertexes[1])
	}
	if st.Vertexes[0].Inputs[0] != own || st.Statuses[0].Vertex != own || st.Logs[0].Vertex != own || st.Warnings[0].Vertex != own {
		t.Error("a step has several identities")
	}
	if other := OfTarget("db", &solver.Status{Vertexes: []*bkclient.Vertex{{Digest: d}}}); other.Vertexes[0].Digest == own {
		t.Error("steps of two targets have one identity")
	}
}
