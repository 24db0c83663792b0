//go:build e2e

package remotecache

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/digestcache"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/solver/ops"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/transfer"
	"github.com/micabuild/mica/internal/view"
	"github.com/micabuild/mica/test/rig"
)

// host builds Dockerfiles vertex by vertex: each is looked for in the imported caches, else mica's solver runs it.
type host struct {
	t      *testing.T
	store  *store.Store
	layers *layer.Layers
	images *image.Images
	solver *solver.Solver
	cache  *remotecache.Cache
	opts   map[string]string

	mu    sync.Mutex
	edges map[string]*edge
	// ran and found are the names of operations.
	ran, found []string
	// download is what a file from the network comes to.
	download *remotecache.Download
}

// edge is a solved output of a vertex.
type edge struct {
	step   *remotecache.Step
	output int
	chain  []buildcache.Link
	view   func(context.Context) (view.View, error)
	local  bool
}

func newHost(t *testing.T, c *dockerfile, cache *remotecache.Cache) *host {
	t.Helper()
	dir := rig.TempDir(t)
	s, err := store.Open(filepath.Join(dir, "store"))
	must(t, err)
	sandboxes, err := sandbox.NewHost(s, "")
	must(t, err)
	t.Cleanup(func() { must(t, sandboxes.Close()) })
	h := &host{t: t, store: s, layers: layer.New(s), cache: cache, edges: map[string]*edge{}, opts: map[string]string{}}
	h.images = image.New(s, h.layers)
	digests, err := digestcache.Open(filepath.Join(dir, "digests"))
	must(t, err)
	local := func(o view.DirOptions) (view.View, error) { return view.Dir(c.dir, o) }
	worker := ops.New(ops.Options{
		Store: s, Layers: h.layers, Image: h.image, Host: sandboxes, Digests: digests,
		Locals: map[string]ops.Local{"context": local, "dockerfile": local},
	})
	t.Cleanup(func() { must(t, worker.Close()) })
	h.solver = solver.New(solver.Options{Store: s, Layers: h.layers, Kinds: worker.Kinds()})
	for _, o := range c.opts {
		name, value, _ := strings.Cut(o, "=")
		h.opts[name] = value
	}
	return h
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (h *host) image(ctx context.Context, ref string) (*image.Image, error) {
	if img, err := h.images.FindFor(ctx, ref, nil); err == nil {
		return img, nil
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, err
	}
	c := registry.New(registry.Options{UserAgent: "mica-test"})
	p, err := transfer.Pull(ctx, c, &transfer.Local{Store: h.store, Layers: h.layers, Images: h.images}, reference.TagNameOnly(named), transfer.PullOptions{})
	if err != nil {
		return nil, err
	}
	return p.Image, nil
}

// built is what a Dockerfile came to.
type built struct {
	edge   *edge
	config []byte
}

func (h *host) build(ctx context.Context) *built {
	h.t.Helper()
	res, err := builder.Build(ctx, h)
	must(h.t, err)
	ref, err := res.SingleRef()
	must(h.t, err)
	b := &built{config: res.Metadata[exptypes.ExporterImageConfigKey]}
	if r, ok := ref.(*result); ok && r != nil {
		b.edge = r.edge
	}
	return b
}

// solve brings about a definition.
func (h *host) solve(ctx context.Context, def *pb.Definition) (*edge, error) {
	ops := map[string]*pb.Op{}
	var last *pb.Op
	for _, raw := range def.Def {
		op := &pb.Op{}
		if err := op.UnmarshalVT(raw); err != nil {
			return nil, err
		}
		ops[digest.FromBytes(raw).String()] = op
		last = op
	}
	return h.input(ctx, def, ops, last.Inputs[0])
}

func (h *host) input(ctx context.Context, def *pb.Definition, ops map[string]*pb.Op, in *pb.Input) (*edge, error) {
	id := fmt.Sprintf("%s@%d", in.Digest, in.Index)
	if e, ok := h.edges[id]; ok {
		return e, nil
	}
	e, err := h.vertex(ctx, def, ops, in)
	if err != nil {
		return nil, err
	}
	h.edges[id] = e
	return e, nil
}

func (h *host) vertex(ctx context.Context, def *pb.Definition, ops map[string]*pb.Op, in *pb.Input) (*edge, error) {
	op := ops[in.Digest]
	e := &edge{output: int(in.Index)}
	if op.GetSource() != nil {
		return e, h.source(ctx, def, op, in, e)
	}
	var inputs []remotecache.Input
	for _, sub := range op.Inputs {
		i, err := h.input(ctx, def, ops, sub)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, remotecache.Input{Key: i.step.Key(i.output), View: i.view, Local: i.local})
	}
	meta := def.Metadata[in.Digest]
	var err error
	if e.step, err = h.cache.Step(op, meta, inputs); err != nil {
		return nil, err
	}
	hits, err := e.step.Find(ctx, remotecache.ByDefinition, int(in.Index))
	if err == nil && hits == nil {
		hits, err = e.step.Find(ctx, remotecache.ByContent, int(in.Index))
	}
	if err != nil {
		return nil, err
	}
	name := meta.GetDescription()["llb.customname"]
	if hits != nil {
		h.found = append(h.found, name)
		err = h.take(ctx, hits[in.Index], e)
	} else {
		if !strings.HasPrefix(name, "[internal]") { // what has no input is exported by nobody
			h.ran = append(h.ran, name)
		}
		err = h.run(ctx, def, in, e)
	}
	return e, err
}

func (h *host) source(ctx context.Context, def *pb.Definition, op *pb.Op, in *pb.Input, e *edge) error {
	if h.download != nil && strings.HasPrefix(op.GetSource().Identifier, "http") {
		key, err := remotecache.HTTPKey(op.GetSource(), *h.download)
		e.step = h.cache.Source(key)
		return err
	}
	if err := h.run(ctx, def, in, e); err != nil {
		return err
	}
	ref, ok := strings.CutPrefix(op.GetSource().Identifier, "docker-image://")
	if !ok {
		e.local = true
		e.step = h.cache.Source()
		return nil
	}
	img, err := h.image(ctx, ref)
	if err != nil {
		return err
	}
	keys, err := remotecache.ImageKeys(op, remotecache.Image{Roots: []digest.Digest{img.Root.Digest, img.Target.Digest}, Chain: img.Chain()})
	if err != nil {
		return err
	}
	e.step = h.cache.Source(keys...)
	e.record()
	return nil
}

func (e *edge) record() {
	var r remotecache.Result
	r.Layers = append(r.Layers, e.chain...)
	e.step.Record(e.output, r)
}

// run has mica's solver bring about one edge.
func (h *host) run(ctx context.Context, def *pb.Definition, in *pb.Input, e *edge) error {
	end, err := (&pb.Op{Inputs: []*pb.Input{in}}).MarshalVT()
	if err != nil {
		return err
	}
	part := &pb.Definition{Def: append(def.Def[:len(def.Def)-1:len(def.Def)-1], end), Metadata: def.Metadata}
	res, err := h.solver.Solve(ctx, part)
	if err != nil {
		return err
	}
	e.chain = res.Chain.Links()
	e.view = func(ctx context.Context) (view.View, error) { return h.solver.View(ctx, res) }
	if e.step != nil {
		e.record()
	}
	return nil
}

// take gets the layers of a hit.
func (h *host) take(ctx context.Context, hit *remotecache.Hit, e *edge) error {
	for _, l := range hit.Layers {
		e.chain = append(e.chain, l.Layer)
		if got, err := h.layers.Get(l.DiffID); err == nil && got.Present() {
			continue
		}
		r, err := l.From.Fetch(ctx, l.Blob)
		if err != nil {
			return err
		}
		_, _, err = h.layers.Ingest(ctx, r, l.Blob.Digest, l.DiffID)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	res := &solver.Result{Chain: buildcache.NewChain(e.chain...)}
	e.view = func(ctx context.Context) (view.View, error) { return h.solver.View(ctx, res) }
	e.record()
	return nil
}
