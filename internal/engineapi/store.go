package engineapi

import (
	"context"
	"errors"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/prune"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/transfer"
)

// requestStore is the store of one request, and the client of registries with the credentials of that request.
type requestStore struct {
	store    *store.Store
	layers   *layer.Layers
	images   *image.Images
	registry *registry.Client
}

func (s *Server) openStore(find credentials) (*requestStore, error) {
	st, err := store.Open(s.o.Root)
	if err != nil {
		return nil, err
	}
	o := &requestStore{store: st, layers: layer.New(st), registry: s.client(find)}
	o.layers.SetFetch(func(ctx context.Context, repository string, desc ocispec.Descriptor) (io.ReadCloser, error) {
		return o.registry.OpenBlob(ctx, repository, desc)
	})
	o.images = image.New(st, o.layers)
	return o, nil
}

func (o *requestStore) local() *transfer.Local {
	return &transfer.Local{Store: o.store, Layers: o.layers, Images: o.images}
}

func (o *requestStore) pruner() *prune.Pruner {
	return &prune.Pruner{Store: o.store, Layers: o.layers, Images: o.images}
}

// using calls f while the objects that it makes or reads are held.
func (o *requestStore) using(ctx context.Context, f func() error) (err error) {
	use, err := o.store.Use(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, use.End()) }()
	return f()
}

// withStore opens the store, and calls f while its objects are held.
func (s *Server) withStore(ctx context.Context, find credentials, f func(*requestStore) error) error {
	o, err := s.openStore(find)
	if err != nil {
		return err
	}
	return o.using(ctx, func() error { return f(o) })
}

// collect removes what a request has made garbage. What cannot be removed now is left to the next prune.
func (s *Server) collect(ctx context.Context) {
	if o, err := s.openStore(nil); err == nil {
		_, _ = o.pruner().Garbage(context.WithoutCancel(ctx))
	}
}
