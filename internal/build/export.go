package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/distribution/reference"
	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/archive"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/view"
)

// Export types, as `docker build --output type=…` names them.
const (
	ExportImage  = "image"  // an image in the store
	ExportOCI    = "oci"    // an OCI layout in a tar
	ExportDocker = "docker" // a Docker archive
	ExportTar    = "tar"    // the root filesystem as a tar
	ExportLocal  = "local"  // the root filesystem as a folder
)

// Export is one thing to make of a build's result.
type Export struct {
	Type string
	// Names are further names for the image, for image, oci and docker.
	Names []string
	// Create opens where an archive is written; Commit makes it visible. For oci, docker and tar.
	Create func() (Sink, error)
	// Dir is the folder that local writes to.
	Dir string
	// Push sends an image, once it is named, to the registries of its names.
	Push bool
	// Upload says how; for Push.
	Upload registry.PushOptions
}

// Sink is a file that appears when it is whole.
type Sink interface {
	io.WriteCloser
	Commit() error
}

// export makes what was asked of the result: names change only when everything else has succeeded.
func (b *Builder) export(ctx context.Context, s *solver.Solver, out *built, names []string, o Options) (*Result, error) {
	config, err := finishConfig(out.config, out.result.Chain)
	if err != nil {
		return nil, err
	}
	exports := o.Exports
	if len(exports) == 0 {
		exports = []Export{{Type: ExportImage}}
	}
	// Images come last: names move only when nothing else can fail.
	exports = slices.Clone(exports)
	slices.SortStableFunc(exports, func(a, b Export) int { return compareBool(a.Type == ExportImage, b.Type == ExportImage) })
	img, err := b.Images.Assemble(ctx, config, nil)
	if err != nil {
		return nil, err
	}
	res := &Result{Image: img}
	for _, e := range exports {
		extra, err := parseTags(e.Names)
		if err != nil {
			return nil, err
		}
		all := append(append([]string(nil), names...), extra...)
		x := &exporter{b: b, solver: s, out: out, config: config, img: img, names: all, progress: startExport(o.Events, e.Type)}
		err = x.run(ctx, e)
		x.progress.end(err)
		if err != nil {
			return nil, err
		}
		res.Names = append(res.Names, all...)
		if x.pushed.Digest != "" {
			res.Pushed = x.pushed
		}
	}
	return res, nil
}

// exporter is one export under way.
type exporter struct {
	b        *Builder
	solver   *solver.Solver
	out      *built
	config   []byte
	img      *image.Image
	names    []string
	progress *exportProgress
	pushed   ocispec.Descriptor
}

func (x *exporter) run(ctx context.Context, e Export) error {
	switch e.Type {
	case ExportImage:
		if err := x.image(ctx); err != nil || !e.Push {
			return err
		}
		return x.push(ctx, e.Upload)
	case ExportOCI, ExportDocker:
		return x.archive(e, func(w io.Writer) error {
			return x.b.archives().Save(ctx, w, []archive.Item{{Image: x.img, Names: x.names}})
		})
	case ExportTar:
		return x.archive(e, func(w io.Writer) error {
			v, err := x.solver.View(ctx, x.out.result)
			if err != nil {
				return err
			}
			return archive.Export(ctx, w, v)
		})
	case ExportLocal:
		v, err := x.solver.View(ctx, x.out.result)
		if err != nil {
			return err
		}
		return x.progress.step("copying files", func() error { return view.WriteFolder(ctx, v, e.Dir) })
	}
	return fmt.Errorf("unknown output type %q: use image, oci, docker, tar or local", e.Type)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// image records the image, then points the names at it.
func (x *exporter) image(ctx context.Context) error {
	err := x.progress.step("writing image "+x.img.ID.String(), func() error {
		img, err := x.b.Images.Create(ctx, x.config, nil)
		if err == nil {
			*x.img = *img
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, name := range x.names {
		err := x.progress.step("naming to "+name, func() error { return x.b.Images.Tag(ctx, x.img, name) })
		if err != nil {
			return err
		}
	}
	return nil
}

// push sends the image under each of its names.
func (x *exporter) push(ctx context.Context, o registry.PushOptions) error {
	if len(x.names) == 0 {
		return errors.New("tag is needed when pushing to registry")
	}
	for _, name := range x.names {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return err
		}
		o.Progress = x.progress.layer
		var got *registry.Pushed
		err = x.progress.step("pushing "+name, func() (err error) {
			got, err = x.b.Registry.Push(ctx, x.b.local(), named, x.img.Target, o)
			return err
		})
		if err != nil {
			return err
		}
		x.pushed = got.Root
	}
	return nil
}

func (x *exporter) archive(e Export, write func(io.Writer) error) error {
	w, err := e.Create()
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	return x.progress.step("sending tarball", func() error {
		if err := write(w); err != nil {
			return err
		}
		return w.Commit()
	})
}

// exportProgress shows an export as a vertex of its own, in Docker's words.
type exportProgress struct {
	events  solver.Events
	vertex  bkclient.Vertex
	started time.Time

	mu     sync.Mutex
	layers map[digest.Digest]time.Time // when each was first heard of
}

// layer is a registry.Progress: the layers of a pull or push, below its step.
func (p *exportProgress) layer(e registry.Event) {
	if e.State == registry.Waiting {
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
	if e.State == registry.Done || e.State == registry.Exists || e.State == registry.Mounted {
		st.Current, st.Completed = e.Total, &now
	}
	p.status(st)
}

func startExport(events solver.Events, kind string) *exportProgress {
	names := map[string]string{
		ExportImage: "exporting to image", ExportOCI: "exporting to oci image format", ExportDocker: "exporting to docker image format",
		ExportTar: "exporting to client tarball", ExportLocal: "exporting to client directory",
	}
	return startStep(events, names[kind])
}

// startStep shows a step of the build that is no operation of its graph.
func startStep(events solver.Events, name string) *exportProgress {
	p := &exportProgress{events: events, started: time.Now(), layers: map[digest.Digest]time.Time{}}
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
	st := bkclient.VertexStatus{ID: name, Vertex: p.vertex.Digest, Name: name, Timestamp: time.Now()}
	started := st.Timestamp
	st.Started = &started
	p.status(st)
	err := do()
	done := time.Now()
	st.Completed, st.Timestamp = &done, done
	p.status(st)
	return err
}

func (p *exportProgress) status(st bkclient.VertexStatus) {
	if p.events != nil {
		p.events(&solver.Status{Statuses: []*bkclient.VertexStatus{&st}})
	}
}

func (p *exportProgress) end(err error) {
	now := time.Now()
	p.vertex.Completed = &now
	if err != nil {
		p.vertex.Error = err.Error()
	}
	p.send()
}

func (b *Builder) archives() *archive.Archives {
	return &archive.Archives{Store: b.Store, Layers: b.Layers, Images: b.Images}
}
