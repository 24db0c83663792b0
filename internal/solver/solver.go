// Package solver runs LLB graphs: every operation once, in parallel, from the cache where its inputs were met before.
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
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/sources"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// Local gives the view of a local source (a build context, the folder of the Dockerfile) as LLB's attributes select it.
type Local func(opt view.DirOptions) (view.View, error)

// Options are what a Solver works with. Everything but Events is required.
type Options struct {
	Store  *store.Store
	Layers *layer.Layers
	// Image finds the image that a docker-image source names.
	Image func(ctx context.Context, ref string) (*image.Image, error)
	// Bring gets into the store the image that came without its layers and that a chain is built on, or that has the only
	// layer of it; nil where all images come with theirs.
	Bring func(ctx context.Context, chain []digest.Digest) (found bool, err error)
	// Layout finds the image that an oci-layout source names by the digest of its manifest or index.
	Layout func(d digest.Digest, platform *ocispec.Platform) (*image.Image, error)
	// Host starts the processes of exec operations.
	Host *sandbox.Host
	// Locals are the local sources by name.
	Locals map[string]Local
	// Secret gives the value of a secret by its ID, or fs.ErrNotExist; nil where there are none.
	Secret func(ctx context.Context, id string) ([]byte, error)
	// SSH are the agents that steps may talk to, by their IDs. A function answers one connection, and closes it.
	SSH map[string]func(net.Conn)
	// Remote are the caches of others, read and written; nil for neither.
	Remote *remotecache.Cache
	// Ambient is what every process finds, and no key, record or layer knows of; nil for nothing.
	Ambient *Ambient
	// Allowed are the entitlements that the user grants to steps.
	Allowed entitlements.Set
	// Memory remembers the digests of host files.
	Memory *view.Memory
	// Events receives progress; nil for none.
	Events Events
}

// Ambient is a folder of the host that processes see, and what it changes in their environment.
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
	memory  *view.Memory
	secret  func(ctx context.Context, id string) ([]byte, error)
	ssh     map[string]func(net.Conn)
	allow   entitlements.Set
	around  *Ambient
	remotes *sources.Fetcher
	others  *remotecache.Cache
	events  Events
	cache   *Cache

	mu      sync.Mutex
	flights map[digest.Digest]*flight
	pins    map[digest.Digest]sources.Identity
	temps   []*store.Temp

	there sync.Map // how many layers had been found to be damaged when a chain was in the store, by ChainID

	removals errgroup.Group // of folders of steps that have ended

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
		locals: o.Locals, memory: o.Memory, events: events, cache: NewCache(o.Store),
		secret: secret, ssh: o.SSH, remotes: &sources.Fetcher{Store: o.Store, Secret: secret, SSH: o.SSH}, allow: o.Allowed, around: o.Ambient, others: o.Remote,
		flights: map[digest.Digest]*flight{}, pins: map[digest.Digest]sources.Identity{},
	}
}

// Close removes what the build kept in temporary folders; its results stay.
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

// Pin says what a remote source came to, by its operation's digest.
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

// cleanup leaves a temporary folder to Close: what is in it may be read until then.
func (s *Solver) cleanup(t *store.Temp) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.temps = append(s.temps, t)
}

// removeLater removes a temporary folder while other steps run.
func (s *Solver) removeLater(t *store.Temp) { s.removals.Go(t.Remove) }

// Solve brings about what def asks for.
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

// locations are where an operation comes from; one that has no place of its own (a source) has those of what it is for.
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

// vertex solves v once per Solver; whoever else wants it waits for the first.
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
