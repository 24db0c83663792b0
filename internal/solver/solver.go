// Package solver runs LLB graphs: each operation once, in parallel, or not at all if the cache has its results.
package solver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"sync"

	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/digestcache"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/sources"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// Local gives the view of a local source (a build context, the directory of the Dockerfile) as LLB's attributes select it.
type Local func(opt view.DirOptions) (view.View, error)

// Options configure a Solver. Fields whose comment names no default are required.
type Options struct {
	Store  *store.Store
	Layers *layer.Layers
	// Image finds the image that a docker-image source names.
	Image func(ctx context.Context, ref string) (*image.Image, error)
	// Bring fetches the layers of the image, known without them so far, that a chain begins with, or that has the only layer of the
	// chain; nil if all images have their layers.
	Bring func(ctx context.Context, chain []digest.Digest) (found bool, err error)
	// Layout finds the image that an oci-layout source names by the digest of its manifest or index.
	Layout func(d digest.Digest, platform *ocispec.Platform) (*image.Image, error)
	// Host starts the processes of exec operations.
	Host *sandbox.Host
	// Locals are the local sources by name.
	Locals map[string]Local
	// Secret gives the value of a secret by its ID, or fs.ErrNotExist; nil if there are none.
	Secret func(ctx context.Context, id string) ([]byte, error)
	// SSH are the agents that steps may talk to, by their IDs. A function answers one connection, and closes it.
	SSH map[string]func(net.Conn)
	// Remote are the remote caches that are read and written; nil for none.
	Remote *remotecache.Cache
	// Ambient is seen by every process, and is part of no key, record or layer; nil for nothing.
	Ambient *Ambient
	// Allowed are the entitlements that the user grants to steps.
	Allowed entitlements.Set
	// Digests is the cache of digests of host files.
	Digests *digestcache.Cache
	// Events receives progress; nil for none.
	Events Events
}

// Ambient is a directory of the host that every process sees, and the change of its environment that goes with it.
type Ambient struct {
	Source, Target string
	Env            func(env []string) []string
}

// Solver solves the graphs of one build. An operation that several graphs share runs once.
// The caller holds store.Use for as long as it uses results.
type Solver struct {
	store   *store.Store
	layers  *layer.Layers
	image   func(ctx context.Context, ref string) (*image.Image, error)
	bring   func(ctx context.Context, chain []digest.Digest) (bool, error)
	layout  func(d digest.Digest, platform *ocispec.Platform) (*image.Image, error)
	host    *sandbox.Host
	locals  map[string]Local
	digests *digestcache.Cache
	secret  func(ctx context.Context, id string) ([]byte, error)
	ssh     map[string]func(net.Conn)
	allow   entitlements.Set
	ambient *Ambient
	fetcher *sources.Fetcher
	remote  *remotecache.Cache
	events  Events
	cache   *Cache

	mu      sync.Mutex
	flights map[digest.Digest]*flight
	pins    map[digest.Digest]sources.Identity
	temps   []*store.Temp

	there sync.Map // how many layers had been found to be damaged when a chain was in the store, by ChainID

	removals errgroup.Group // of directories of finished steps

	networkReported sync.Once
}

// New makes a Solver.
func New(o Options) *Solver {
	events := o.Events
	if events == nil {
		events = func(*Status) {}
	}
	secret := o.Secret
	if secret == nil {
		secret = func(context.Context, string) ([]byte, error) { return nil, fs.ErrNotExist }
	}
	return &Solver{
		store: o.Store, layers: o.Layers, image: o.Image, bring: o.Bring, layout: o.Layout, host: o.Host,
		locals: o.Locals, digests: o.Digests, events: events, cache: NewCache(o.Store),
		secret: secret, ssh: o.SSH, fetcher: &sources.Fetcher{Store: o.Store, Secret: secret, SSH: o.SSH}, allow: o.Allowed, ambient: o.Ambient, remote: o.Remote,
		flights: map[digest.Digest]*flight{}, pins: map[digest.Digest]sources.Identity{},
	}
}

// Close removes the temporary directories of the build. Its results stay.
func (s *Solver) Close() error {
	removed := s.removals.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := []error{removed}
	for _, t := range s.temps {
		errs = append(errs, t.Remove())
	}
	s.temps = nil
	return errors.Join(errs...)
}

// Pin returns the identity of a git or http source that was solved, by its operation's digest.
func (s *Solver) Pin(op digest.Digest) (sources.Identity, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pin, ok := s.pins[op]
	return pin, ok
}

// Outputs are the results of an operation that was solved, nil for another.
func (s *Solver) Outputs(op digest.Digest) []*Result {
	s.mu.Lock()
	f, ok := s.flights[op]
	s.mu.Unlock()
	if !ok {
		return nil
	}
	<-f.done
	return f.outputs
}

// cleanup leaves a temporary directory to Close, since its files may be read until then.
func (s *Solver) cleanup(t *store.Temp) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.temps = append(s.temps, t)
}

// removeLater removes a temporary directory while other steps run.
func (s *Solver) removeLater(t *store.Temp) { s.removals.Go(t.Remove) }

// Solve returns the result of a definition.
func (s *Solver) Solve(ctx context.Context, def *pb.Definition) (*Result, error) {
	g, err := parse(def)
	if err != nil {
		return nil, err
	}
	if err := s.entitled(g); err != nil {
		return nil, locate(err, def)
	}
	s.announce(g)
	if g.surelyNeedsNetwork() {
		s.host.StartNetwork()
	}
	if err := s.lookAhead(ctx, g); err != nil {
		return nil, locate(err, def)
	}
	res, err := s.edge(ctx, g.head)
	if err != nil {
		return nil, locate(err, def)
	}
	s.passed(g)
	return res, nil
}

// surelyNeedsNetwork reports whether a step of the graph will run, whatever is cached, and use a network of its own.
func (g *graph) surelyNeedsNetwork() bool {
	for _, v := range g.vertices {
		if exec := v.op.GetExec(); exec != nil && exec.Network == pb.NetMode_UNSET && v.meta.GetIgnoreCache() {
			return true
		}
	}
	return false
}

// entitled refuses a graph with a step that wants more than the user grants, before anything of it runs.
func (s *Solver) entitled(g *graph) error {
	for _, v := range g.vertices {
		needs := v.kind().needs
		if needs == nil {
			continue
		}
		if err := s.allow.Check(needs(v.op)); err != nil {
			return errdefs.WrapVertex(err, v.digest)
		}
	}
	return nil
}

// locate adds to a failed operation's error the lines of the Dockerfile that it came from.
func locate(err error, def *pb.Definition) error {
	var failed *errdefs.VertexError
	if !errors.As(err, &failed) || def.Source == nil {
		return err
	}
	for _, loc := range locations(digest.Digest(failed.Digest), def) {
		if int(loc.SourceIndex) < len(def.Source.Infos) {
			err = errdefs.WithSource(err, &errdefs.Source{Info: def.Source.Infos[loc.SourceIndex], Ranges: loc.Ranges})
		}
	}
	return err
}

// locations returns the places in the Dockerfile that an operation comes from. An operation without one, as a source, has those of the
// operations that use it.
func locations(op digest.Digest, def *pb.Definition) []*pb.Location {
	found := def.Source.Locations[op.String()].GetLocations()
	for _, raw := range def.Def {
		if len(found) > 0 {
			break
		}
		user := &pb.Op{}
		if user.UnmarshalVT(raw) == nil && slices.ContainsFunc(user.Inputs, func(in *pb.Input) bool { return in.Digest == op.String() }) {
			found = locations(digest.FromBytes(raw), def)
		}
	}
	return found
}

func (s *Solver) edge(ctx context.Context, e edge) (*Result, error) {
	outs, err := s.vertex(ctx, e.vertex)
	if err != nil {
		return nil, err
	}
	if e.output >= len(outs) {
		return nil, fmt.Errorf("%s has no output %d", e.vertex.name, e.output)
	}
	return outs[e.output], nil
}

// flight is one vertex being solved, or solved.
type flight struct {
	done    chan struct{}
	outputs []*Result
	err     error
}

// vertex solves v once per Solver. Other callers wait for the first one.
func (s *Solver) vertex(ctx context.Context, v *vertex) ([]*Result, error) {
	s.mu.Lock()
	f, ok := s.flights[v.digest]
	if !ok {
		f = &flight{done: make(chan struct{})}
		s.flights[v.digest] = f
	}
	s.mu.Unlock()
	if !ok {
		f.outputs, f.err = s.resolve(ctx, v)
		if f.err != nil {
			// A later graph may try again: this one's context may have been the reason.
			s.mu.Lock()
			delete(s.flights, v.digest)
			s.mu.Unlock()
		}
		close(f.done)
	}
	select {
	case <-f.done:
		return f.outputs, f.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// resolve solves v's inputs, then v.
func (s *Solver) resolve(ctx context.Context, v *vertex) (_ []*Result, err error) {
	defer crash.Recover(&err)
	inputs := make([]*Result, len(v.inputs))
	eg, egctx := errgroup.WithContext(ctx)
	for i, in := range v.inputs {
		eg.Go(func() (err error) {
			inputs[i], err = s.edge(egctx, in)
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		return nil, err
	}
	t := s.track(v)
	outs, cached, err := s.perform(ctx, v, inputs, t)
	t.complete(cached, err)
	if errors.Is(err, context.Canceled) {
		return nil, err
	}
	if err != nil {
		return nil, errdefs.WrapVertex(err, v.digest)
	}
	return outs, nil
}
