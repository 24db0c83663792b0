// Package ops runs LLB operations: one file and one registration for each.
package ops

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/cachemount"
	"github.com/micabuild/mica/internal/digestcache"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/proxynet"
	"github.com/micabuild/mica/internal/rootfs"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/sources"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// Local returns the view of a local source (a build context, the directory of the Dockerfile) as LLB's attributes select it.
type Local func(opt view.DirOptions) (view.View, error)

// Remote is a local source of a client elsewhere.
type Remote struct {
	Name string
	Key  string // directories with another one have other files (pb.AttrSharedKeyHint)
	// Session is the ID of the session whose client has the directory, "" for that of the build (pb.AttrLocalSessionID).
	Session string
	// Once is true if the files are sent as if none were there (pb.AttrLocalDifferNone): they are few.
	Once bool
	// Described is true if only the files that match WithContent are sent, and their directories. The metadata of all files is then in a file
	// beside them (pb.AttrMetadataTransfer).
	Described   bool
	WithContent []string
	// Sent is called with the number of bytes that the client has sent, and at the end with done.
	Sent func(bytes int64, done bool)
}

// Sync returns the view of a client's directory.
type Sync func(ctx context.Context, src Remote, opt view.DirOptions) (view.View, error)

// Options are what operations use of the host. Fields whose comment names no default are required.
type Options struct {
	Store  *store.Store
	Layers *layer.Layers
	// Image finds the image that a docker-image source names.
	Image func(ctx context.Context, ref string) (*image.Image, error)
	// Published returns the digest that an image has at its registry now; nil if there are no registries.
	Published func(ctx context.Context, ref string) (digest.Digest, error)
	// Layout finds the image that an oci-layout source names by the digest of its manifest or index. The store is the ID of the layout, "" if
	// the source does not say it. The session is that of the client that has it, "" for that of the build.
	Layout func(ctx context.Context, session, store string, d digest.Digest, platform *ocispec.Platform) (*image.Image, error)
	// Host starts the processes of exec operations.
	Host *sandbox.Host
	// Elsewhere runs the processes of exec operations in place of Host; nil for Host.
	Elsewhere Elsewhere
	// Locals are the local sources by name.
	Locals map[string]Local
	// Sync returns the view of a local source that Locals does not have; nil if there are no others.
	Sync Sync
	// Secret returns the value of a secret by its ID, or fs.ErrNotExist; nil if there are none.
	Secret func(ctx context.Context, id string) ([]byte, error)
	// SSH returns the agent that steps may use by its ID, nil for none. The agent serves one connection, and closes it. A nil function
	// has none.
	SSH func(ctx context.Context, id string) func(net.Conn)
	// HTTP sends the requests of http sources; nil for Go's default.
	HTTP *http.Client
	// Writable is as in sources.Fetcher.
	Writable bool
	// Blob opens a blob of a registry or of the client; nil for a build that has neither.
	Blob func(ctx context.Context, ref sources.BlobRef) (io.ReadCloser, error)
	// HostCerts are the certificates of the host that every process sees; nil for none.
	HostCerts *HostCerts
	// Proxy is the network of processes in place of all others but none; nil for the networks that they ask for.
	Proxy *ProxyNetwork
	// Digests is the cache of digests of host files.
	Digests *digestcache.Cache
	// KeepFailed keeps what processes that fail leave, for Failed.
	KeepFailed bool
	// KeepMounts makes the error of a step that fails a StepError, whose mounts can be read until Close.
	KeepMounts bool
	// ClientErrors gives errors the words of BuildKit, which its clients look for. Those of the command line are shorter.
	ClientErrors bool
}

// HostCerts is a directory with the host's certificates, and the change of the environment by which programs find them. They are part
// of no key, record or layer.
type HostCerts struct {
	Source, Target string
	Env            func(env []string) []string
}

// Worker runs the operations of one build.
type Worker struct {
	Options
	fetcher *sources.Fetcher
	mounts  *cachemount.Mounts

	mu         sync.Mutex
	pins       map[digest.Digest]sources.Identity
	temps      []*store.Temp
	kept       map[digest.Digest]*State // by operation
	plainRoots []*plainRoot             // the oldest first
	// requests are those of processes with the proxy network, by operation.
	requests map[digest.Digest]*proxynet.Capture

	emptying sync.Mutex
	emptied  map[emptiedCache]bool // the cache mounts of steps that are not to be cached

	keepMounts atomic.Bool

	removals errgroup.Group // of directories of finished steps

	networkReported sync.Once
}

// New returns a Worker.
func New(o Options) *Worker {
	if o.Secret == nil {
		o.Secret = func(context.Context, string) ([]byte, error) { return nil, fs.ErrNotExist }
	}
	if o.SSH == nil {
		o.SSH = func(context.Context, string) func(net.Conn) { return nil }
	}
	w := &Worker{
		Options: o, fetcher: &sources.Fetcher{Store: o.Store, Secret: o.Secret, SSH: o.SSH, Client: o.HTTP, Blob: o.Blob, Writable: o.Writable}, mounts: cachemount.New(o.Store),
		pins: map[digest.Digest]sources.Identity{}, kept: map[digest.Digest]*State{}, requests: map[digest.Digest]*proxynet.Capture{},
		emptied: map[emptiedCache]bool{},
	}
	if owners := w.Host.Owners(); owners != nil {
		w.mounts.Lay = func(ctx context.Context, v view.View, dir string) error {
			_, err := rootfs.Lay(ctx, v, ".", dir, owners)
			return err
		}
	}
	w.keepMounts.Store(o.KeepMounts)
	return w
}

// KeepFailedMounts sets KeepMounts: a front end that can read them has begun.
func (w *Worker) KeepFailedMounts() { w.keepMounts.Store(true) }

// Close removes the temporary directories of the build. Its results stay.
func (w *Worker) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for _, st := range w.kept {
		errs = append(errs, st.close())
	}
	clear(w.kept)
	errs = append(errs, w.removals.Wait())
	for _, t := range w.temps {
		errs = append(errs, t.Remove())
	}
	w.temps = nil
	for _, r := range w.plainRoots {
		errs = append(errs, r.temp.Remove())
	}
	w.plainRoots = nil
	return errors.Join(append(errs, w.fetcher.Close())...)
}

// Pin returns the identity of a git or http source that was solved, by its operation's digest.
func (w *Worker) Pin(op digest.Digest) (sources.Identity, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	pin, ok := w.pins[op]
	return pin, ok
}

// Requests returns what the process of an operation has requested through the proxy network; false if it did not run in this build.
func (w *Worker) Requests(op digest.Digest) (*proxynet.Capture, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, ok := w.requests[op]
	return c, ok
}

// removeAtEnd leaves a temporary directory to Close, since its files may be read until then.
func (w *Worker) removeAtEnd(t *store.Temp) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.temps = append(w.temps, t)
}

// removeLater removes a temporary directory while other steps run.
func (w *Worker) removeLater(t *store.Temp) { w.removals.Go(t.Remove) }

// write makes a layer of changes, in the form that the graph needs next.
func (w *Worker) write(ctx context.Context, changes []view.Change, v *solver.Vertex) (buildcache.Link, error) {
	form := layer.AsBlob
	if v.NeedsTree && w.WantsTrees() {
		form = layer.AsTree
	}
	l, err := w.Layers.Write(ctx, changes, form)
	if err != nil {
		return buildcache.Link{}, err
	}
	return buildcache.Link{DiffID: l.DiffID, Created: time.Now().UTC(), Description: v.Name}, nil
}

// WantsTrees reports whether processes run on the trees of layers.
func (w *Worker) WantsTrees() bool { return w.Elsewhere == nil && !w.Host.Plain() }

// kind is a solver.Kind without Open, Prepare and the Worker that they use.
type kind struct {
	solver.Kind
	open    func(w *Worker, t *solver.Task) (solver.Operation, error)
	prepare func(w *Worker, v *solver.Vertex) error // nil for nothing
}

var kinds = map[reflect.Type]kind{}

// register declares the kind of the operations of one type of pb.Op.Op.
func register[T any](k kind) struct{} {
	kinds[reflect.TypeFor[T]()] = k
	return struct{}{}
}

// Kinds returns the operations of this package.
func (w *Worker) Kinds() solver.Kinds {
	all := solver.Kinds{}
	for op, k := range kinds {
		bound := k.Kind
		bound.Open = func(t *solver.Task) (solver.Operation, error) { return k.open(w, t) }
		if k.prepare != nil {
			bound.Prepare = func(v *solver.Vertex) error { return k.prepare(w, v) }
		}
		all[op] = &bound
	}
	return all
}
