package solver

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/sources"
	"github.com/micabuild/mica/internal/view"
)

var _ = register[*pb.Op_Source](kind{
	open: func(s *Solver, v *vertex, _ []*Result, _ *tracker) (operation, error) {
		return newSourceOp(s, v, v.op.GetSource())
	},
	name:   func(v *vertex) string { return v.op.GetSource().Identifier },
	source: true,
})

// newSourceOp picks the source by the scheme of its identifier.
func newSourceOp(s *Solver, v *vertex, op *pb.SourceOp) (operation, error) {
	scheme, rest, ok := strings.Cut(op.Identifier, "://")
	if !ok {
		return nil, fmt.Errorf("source %q is not valid", op.Identifier)
	}
	switch scheme {
	case "docker-image":
		return &imageSource{s: s, v: v, ref: rest}, nil
	case "oci-layout":
		return &layoutSource{s, rest, platformOf(v.op)}, nil
	case "local":
		return &localSource{s, rest, op.Attrs}, nil
	}
	src, err := s.fetcher.Open(op.Identifier, op.Attrs)
	if err != nil {
		return nil, err
	}
	return &remoteSource{s, v, op, src}, nil
}

// remoteSource is a file over http, or a git repository. Every build asks the server for its current pin (a digest or a commit); the
// store has what was fetched before by its pin.
type remoteSource struct {
	s   *Solver
	v   *vertex
	op  *pb.SourceOp
	src sources.Source
}

func (o *remoteSource) names() ([]string, error) {
	is := o.src.Identity()
	if is.Commit != "" {
		name, err := remotecache.GitKey(o.op, is.Commit, is.Ref)
		return []string{name}, err
	}
	name, err := remotecache.HTTPKey(o.op, remotecache.Download{Filename: is.Name, Digest: is.Digest, Modified: is.Modified})
	return []string{name}, err
}

func (o *remoteSource) key(ctx context.Context) (Key, bool, error) {
	var k Key
	pin, err := o.src.Pin(ctx)
	if err != nil {
		return k, false, err
	}
	o.s.mu.Lock()
	o.s.pins[o.v.digest] = o.src.Identity()
	o.s.mu.Unlock()
	k.add("source", "remote", pin)
	return k, true, nil
}

func (o *remoteSource) run(ctx context.Context) ([]*Result, error) {
	tmp, err := o.s.store.TempDir("source")
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
	l, err := o.s.layers.Commit(ctx, dir)
	if err != nil {
		return nil, err
	}
	return []*Result{(&Result{}).on(ChainLink{DiffID: l.DiffID})}, nil
}

func (o *remoteSource) close() error { return o.src.Close() }

// imageSource is FROM: an image of the local store.
type imageSource struct {
	s   *Solver
	v   *vertex
	ref string
	img *image.Image
}

func (o *imageSource) key(context.Context) (Key, bool, error) { return Key{}, false, nil }

func (o *imageSource) run(ctx context.Context) ([]*Result, error) {
	img, err := o.s.image(ctx, o.ref)
	if err != nil {
		return nil, err
	}
	o.img = img
	return []*Result{ImageResult(img)}, nil
}

func (o *imageSource) names() ([]string, error) {
	return remotecache.ImageKeys(o.v.op, remotecache.Image{
		Roots: []digest.Digest{o.img.Root.Digest, o.img.Target.Digest}, Chain: o.img.Chain(),
	})
}

// layoutSource is a named context that is an OCI layout.
type layoutSource struct {
	s        *Solver
	ref      string // ends in "@digest"
	platform *ocispec.Platform
}

func (o *layoutSource) key(context.Context) (Key, bool, error) { return Key{}, false, nil }

func (o *layoutSource) run(context.Context) ([]*Result, error) {
	_, d, _ := strings.Cut(o.ref, "@")
	img, err := o.s.layout(digest.Digest(d), o.platform)
	if err != nil {
		return nil, err
	}
	return []*Result{ImageResult(img)}, nil
}

func (o *layoutSource) names() ([]string, error) { return nil, nil }

// platformOf is the platform that an operation is for, nil for this host's.
func platformOf(op *pb.Op) *ocispec.Platform {
	p := op.Platform
	if p == nil {
		return nil
	}
	return &ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures}
}

// ImageResult returns an image's filesystem as a result. Its links have no times and descriptions: the image's own history has them.
func ImageResult(img *image.Image) *Result {
	var chain []ChainLink
	for _, id := range img.Chain() {
		chain = append(chain, ChainLink{DiffID: id})
	}
	return newResult(chain)
}

// localSource is a directory of the host: a build context, or the directory of the Dockerfile.
type localSource struct {
	s     *Solver
	name  string
	attrs map[string]string
}

func (o *localSource) key(context.Context) (Key, bool, error) { return Key{}, false, nil }

func (o *localSource) names() ([]string, error) { return nil, nil }

func (o *localSource) run(context.Context) ([]*Result, error) {
	open, ok := o.s.locals[o.name]
	if !ok {
		return nil, fmt.Errorf("no local source is called %q", o.name)
	}
	opt := view.DirOptions{Digests: o.s.digests, Anonymous: true}
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
	v, err := open(opt)
	if err != nil {
		return nil, err
	}
	return []*Result{{local: v}}, nil
}
