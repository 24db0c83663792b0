package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/hostfiles"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/sources"
	"github.com/micabuild/mica/internal/view"
)

var _ = register[*pb.Op_Source](kind{
	open: newSourceOp,
	Kind: solver.Kind{
		Name:   func(v *solver.Vertex) string { return v.Op.GetSource().Identifier },
		Source: true,
	},
})

// newSourceOp picks the source by the scheme of its identifier.
func newSourceOp(w *Worker, t *solver.Task) (solver.Operation, error) {
	v, op := t.Vertex, t.Vertex.Op.GetSource()
	scheme, rest, ok := strings.Cut(op.Identifier, "://")
	if !ok {
		return nil, fmt.Errorf("source %q is not valid", op.Identifier)
	}
	switch scheme {
	case "docker-image":
		return &imageSource{w: w, v: v, ref: rest}, nil
	case "oci-layout":
		_, root, _ := strings.Cut(rest, "@")
		return &layoutSource{w: w, op: v.Op, root: digest.Digest(root)}, nil
	case "local":
		return &localSource{w, t, rest, op.Attrs}, nil
	}
	src, err := w.fetcher.Open(op.Identifier, op.Attrs)
	if err != nil {
		return nil, err
	}
	return &remoteSource{w, v, op, src}, nil
}

// Identify describes what a file over http or a git repository is now. The file may be downloaded for it.
func (w *Worker) Identify(ctx context.Context, op *pb.SourceOp, want sources.Wanted) (*sources.Details, error) {
	return w.fetcher.Identify(ctx, op.Identifier, op.Attrs, want)
}

var _ solver.Asking = (*remoteSource)(nil)

// remoteSource is a file over http, or a git repository. Every build asks the server for its current pin (a digest or a commit); the
// store has what was fetched before by its pin.
type remoteSource struct {
	w   *Worker
	v   *solver.Vertex
	op  *pb.SourceOp
	src sources.Source
}

func (o *remoteSource) Names() ([]string, error) {
	is := o.src.Identity()
	if is.Blob {
		name, err := remotecache.BlobKey(o.op, is.Digest)
		return []string{name}, err
	}
	if is.Commit != "" {
		name, err := remotecache.GitKey(o.op, is.Commit, is.Ref)
		return []string{name}, err
	}
	name, err := remotecache.HTTPKey(o.op, remotecache.Download{Filename: is.Name, Digest: is.Digest, Modified: is.Modified})
	return []string{name}, err
}

func (o *remoteSource) Key(ctx context.Context) (k buildcache.Key, ok bool, err error) {
	pin, err := o.src.Pin(ctx)
	if err != nil {
		return k, false, err
	}
	o.w.mu.Lock()
	o.w.pins[o.v.Digest] = o.src.Identity()
	o.w.mu.Unlock()
	k.Add(buildcache.KindSource, "remote", pin)
	return k, true, nil
}

func (o *remoteSource) Run(ctx context.Context) ([]*solver.Result, error) {
	tmp, err := o.w.Store.TempDir("source")
	if err != nil {
		return nil, err
	}
	defer func() { _ = tmp.Remove() }()
	dir := filepath.Join(tmp.Path, "files")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	if err := o.src.Fetch(ctx, dir); err != nil {
		return nil, err
	}
	r, err := o.w.commitFetched(ctx, dir)
	if err != nil {
		return nil, err
	}
	return []*solver.Result{r}, nil
}

// commitFetched makes a layer of files that were fetched. They belong to root in the layer, also where this process cannot give them to root.
func (w *Worker) commitFetched(ctx context.Context, dir string) (*solver.Result, error) {
	if os.Geteuid() != 0 {
		v, err := view.Dir(dir, view.DirOptions{Anonymous: true})
		if err != nil {
			return nil, err
		}
		return w.asLayers(ctx, &solver.Result{Local: v}, "/")
	}
	l, err := w.Layers.Commit(ctx, dir, nil)
	if err != nil {
		return nil, err
	}
	return &solver.Result{Chain: buildcache.NewChain(buildcache.Link{DiffID: l.DiffID})}, nil
}

// Asks and Ask ask the client for what the download needs: nobody waits for its answer.
func (o *remoteSource) Asks() bool { return o.src.Asks() }

func (o *remoteSource) Ask(ctx context.Context) { o.src.Ask(ctx) }

func (o *remoteSource) Close() error { return o.src.Close() }

// imageSource is FROM: an image of the local store.
type imageSource struct {
	w   *Worker
	v   *solver.Vertex
	ref string
	img *image.Image
}

func (o *imageSource) Key(context.Context) (buildcache.Key, bool, error) {
	return buildcache.Key{}, false, nil
}

func (o *imageSource) Run(ctx context.Context) ([]*solver.Result, error) {
	img, err := o.w.Image(ctx, o.ref)
	if err != nil {
		return nil, err
	}
	if want := o.v.Op.GetSource().Attrs[pb.AttrImageChecksum]; want != "" && want != img.Root.Digest.String() {
		if img, err = o.published(ctx, img.Root.Digest, want); err != nil {
			return nil, err
		}
	}
	o.img = img
	return imageResult(img, o.v.Op)
}

// published returns the image that the name has at its registry, which must have the expected digest. An image of the store has another one
// there if it was pushed from here, since its layers are compressed then.
func (o *imageSource) published(ctx context.Context, have digest.Digest, want string) (*image.Image, error) {
	mismatch := func(d digest.Digest) error {
		return fmt.Errorf("image digest %s for %s does not match expected checksum %s", d, o.ref, want)
	}
	if strings.Contains(o.ref, "@") || o.w.Published == nil {
		return nil, mismatch(have)
	}
	there, err := o.w.Published(ctx, o.ref)
	if err != nil {
		return nil, fmt.Errorf("%w, and the registry does not say another: %w", mismatch(have), err)
	}
	if there.String() != want {
		return nil, mismatch(there)
	}
	return o.w.Image(ctx, o.ref+"@"+want)
}

func (o *imageSource) Names() ([]string, error) {
	return remotecache.ImageKeys(o.v.Op, remotecache.Image{
		Roots: []digest.Digest{o.img.Root.Digest, o.img.Target.Digest}, Chain: o.img.Chain(),
	})
}

// layoutSource is a named context that is an OCI layout.
type layoutSource struct {
	w    *Worker
	op   *pb.Op
	root digest.Digest // of the manifest or index
	img  *image.Image
}

func (o *layoutSource) Key(context.Context) (buildcache.Key, bool, error) {
	return buildcache.Key{}, false, nil
}

func (o *layoutSource) Run(ctx context.Context) ([]*solver.Result, error) {
	attrs := o.op.GetSource().Attrs
	img, err := o.w.Layout(ctx, sources.SessionOf(attrs[pb.AttrOCILayoutSessionID]), attrs[pb.AttrOCILayoutStoreID], o.root, platformOf(o.op))
	if err != nil {
		return nil, err
	}
	o.img = img
	return imageResult(img, o.op)
}

// Names returns the names that the image has at a registry: BuildKit names both sources alike.
func (o *layoutSource) Names() ([]string, error) {
	return remotecache.ImageKeys(o.op, remotecache.Image{
		Roots: []digest.Digest{o.root, o.img.Target.Digest}, Chain: o.img.Chain(),
	})
}

// platformOf is the platform that an operation is for, nil for this host's.
func platformOf(op *pb.Op) *ocispec.Platform {
	p := op.Platform
	if p == nil {
		return nil
	}
	return &ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures}
}

// imageResult returns an image's filesystem as a result, of as many layers as the operation wants. Its links have no times and descriptions: the
// image's own history has them.
func imageResult(img *image.Image, op *pb.Op) ([]*solver.Result, error) {
	ids, err := remotecache.LimitLayers(op.GetSource(), img.Chain())
	if err != nil {
		return nil, err
	}
	var chain []buildcache.Link
	for _, id := range ids {
		chain = append(chain, buildcache.Link{DiffID: id})
	}
	return []*solver.Result{{Chain: buildcache.NewChain(chain...)}}, nil
}

// localSource is a directory of the host: a build context, or the directory of the Dockerfile.
type localSource struct {
	w     *Worker
	t     *solver.Task
	name  string
	attrs map[string]string
}

func (o *localSource) Key(context.Context) (buildcache.Key, bool, error) {
	return buildcache.Key{}, false, nil
}

func (o *localSource) Names() ([]string, error) { return nil, nil }

func (o *localSource) Run(ctx context.Context) ([]*solver.Result, error) {
	remote, err := o.remote()
	if err != nil {
		return nil, fmt.Errorf("local source %s: %w", o.name, err)
	}
	local, ok := o.w.Locals[o.name]
	switch {
	case ok && remote.Described:
		return nil, fmt.Errorf("local source %s: only a client of mica serve sends the metadata of files alone", o.name)
	case !ok && o.w.Sync == nil:
		return nil, fmt.Errorf("no local source is called %q", o.name)
	}
	opt := view.DirOptions{Digests: o.w.Digests, Anonymous: true}
	for attr, list := range map[string]*[]string{
		pb.AttrIncludePatterns: &opt.Include,
		pb.AttrExcludePatterns: &opt.Exclude,
		pb.AttrFollowPaths:     &opt.Follow,
	} {
		if v := o.attrs[attr]; v != "" {
			if err := json.Unmarshal([]byte(v), list); err != nil {
				return nil, fmt.Errorf("local source %s: attribute %s: %w", o.name, attr, err)
			}
		}
	}
	var v view.View
	if !ok {
		v, err = o.w.Sync(ctx, *remote, opt)
	} else { // a directory that is open is read wherever it is moved
		err = hostfiles.With(ctx, func() error {
			v, err = local(opt)
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	return []*solver.Result{{Local: v}}, nil
}

// remote is the source as a client elsewhere has it.
func (o *localSource) remote() (*Remote, error) {
	r := &Remote{
		Name: o.name, Key: o.attrs[pb.AttrSharedKeyHint], Session: sources.SessionOf(o.attrs[pb.AttrLocalSessionID]),
		Once: o.attrs[pb.AttrLocalDiffer] == pb.AttrLocalDifferNone, Sent: o.t.Transfer(o.name),
	}
	var err error
	if v := o.attrs[pb.AttrMetadataTransfer]; v != "" {
		if r.Described, err = strconv.ParseBool(v); err != nil {
			return nil, fmt.Errorf("attribute %s: %q is neither true nor false", pb.AttrMetadataTransfer, v)
		}
	}
	if v := o.attrs[pb.AttrMetadataTransferExclude]; v != "" {
		if err := json.Unmarshal([]byte(v), &r.WithContent); err != nil {
			return nil, fmt.Errorf("attribute %s: %w", pb.AttrMetadataTransferExclude, err)
		}
	}
	return r, nil
}
