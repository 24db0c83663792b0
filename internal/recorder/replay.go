package recorder

import (
	bkclient "github.com/moby/buildkit/client"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/solver"
)

// Replay sends the events of a recorded build: of each step its start, causes, output and end.
func Replay(builds *history.Builds, b *history.Build, send func(*solver.Status)) error {
	logs := map[string][]*bkclient.VertexLog{}
	err := builds.Logs(b, func(l history.Log) error {
		id := l.Vertex.String()
		logs[id] = append(logs[id], &bkclient.VertexLog{Vertex: l.Vertex, Stream: l.Stream, Data: l.Data, Timestamp: l.Time})
		return nil
	})
	for _, s := range b.Steps {
		if s.State == "" && s.Started.IsZero() {
			continue
		}
		v := &bkclient.Vertex{Digest: s.Vertex, Name: s.Name, Inputs: s.Inputs, Cached: s.State == history.StepCached, Error: s.Error}
		if !s.Started.IsZero() {
			v.Started = &s.Started
		}
		begun := *v
		begun.Cached, begun.Error = false, ""
		send(&solver.Status{Vertexes: []*bkclient.Vertex{&begun}})
		for _, text := range b.Notes(s) {
			send(&solver.Status{Statuses: []*bkclient.VertexStatus{solver.Note(s.Vertex, text, s.Started)}})
		}
		if list := logs[s.Vertex.String()]; len(list) > 0 {
			send(&solver.Status{Logs: list})
		}
		if !s.Completed.IsZero() {
			v.Completed = &s.Completed
			send(&solver.Status{Vertexes: []*bkclient.Vertex{v}})
		}
	}
	return err
}
