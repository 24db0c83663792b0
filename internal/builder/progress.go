package builder

import (
	"bytes"
	"io"
	"sync"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/transfer"
)

// exportProgress shows an export as a vertex of its own, in Docker's words.
type exportProgress struct {
	events  solver.Events
	vertex  bkclient.Vertex
	started time.Time

	mu     sync.Mutex
	layers map[digest.Digest]time.Time // the time of the first event of each
}

// layer is a transfer.Progress: the layers of a pull or push, below its step.
func (p *exportProgress) layer(e transfer.Event) {
	if e.State == transfer.Waiting {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	started, ok := p.layers[e.Layer]
	if !ok {
		started = now
		p.layers[e.Layer] = now
	}
	st := bkclient.VertexStatus{
		ID: e.Layer.String(), Name: e.Layer.String(), Vertex: p.vertex.Digest, Current: e.Done, Total: e.Total, Timestamp: now, Started: &started,
	}
	if e.State == transfer.Done || e.State == transfer.Exists || e.State == transfer.Mounted {
		st.Current, st.Completed = e.Total, &now
	}
	p.status(st)
}

func startExport(events solver.Events, kind string) *exportProgress {
	names := map[string]string{
		buildspec.OutputImage: "exporting to image", buildspec.OutputOCI: "exporting to oci image format", buildspec.OutputDocker: "exporting to docker image format",
		buildspec.OutputTar: "exporting to client tarball", buildspec.OutputLocal: "exporting to client directory",
	}
	return startStep(events, names[kind])
}

// startStep shows a step that is not an operation of the build's graph.
func startStep(events solver.Events, name string) *exportProgress {
	p := &exportProgress{events: events, started: time.Now(), layers: map[digest.Digest]time.Time{}}
	name = redact.URLs(name)
	p.vertex = bkclient.Vertex{Name: name, Digest: digest.FromString(name + p.started.String()), Started: &p.started}
	p.send()
	return p
}

func (p *exportProgress) send() {
	if p.events != nil {
		v := p.vertex
		p.events(&solver.Status{Vertexes: []*bkclient.Vertex{&v}})
	}
}

func (p *exportProgress) step(name string, do func() error) error {
	defer p.begin(name)()
	return do()
}

// begin shows a part of the step, which goes on until done is called.
func (p *exportProgress) begin(name string) (done func()) {
	st := bkclient.VertexStatus{ID: name, Vertex: p.vertex.Digest, Name: name, Timestamp: time.Now()}
	started := st.Timestamp
	st.Started = &started
	p.status(st)
	return func() {
		ended := time.Now()
		st.Completed, st.Timestamp = &ended, ended
		p.status(st)
	}
}

func (p *exportProgress) status(st bkclient.VertexStatus) {
	if p.events != nil {
		p.events(&solver.Status{Statuses: []*bkclient.VertexStatus{&st}})
	}
}

// output returns the writer of an output of the step: 1 or 2.
func (p *exportProgress) output(stream int) io.Writer { return &stepOutput{p, stream} }

type stepOutput struct {
	step   *exportProgress
	stream int
}

func (o *stepOutput) Write(data []byte) (int, error) {
	if o.step.events != nil {
		o.step.events(&solver.Status{Logs: []*bkclient.VertexLog{{
			Vertex: o.step.vertex.Digest, Stream: o.stream, Data: bytes.Clone(data), Timestamp: time.Now(),
		}}})
	}
	return len(data), nil
}

// warn shows a warning of the step.
func (p *exportProgress) warn(text string) {
	if p.events != nil {
		p.events(&solver.Status{Warnings: []*bkclient.VertexWarning{{Vertex: p.vertex.Digest, Level: 1, Short: []byte(text)}}})
	}
}

func (p *exportProgress) end(err error) {
	now := time.Now()
	p.vertex.Completed = &now
	if err != nil {
		p.vertex.Error = redact.URLs(err.Error())
	}
	p.send()
}
