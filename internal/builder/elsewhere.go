package builder

import (
	"context"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/remoteexec"
	"github.com/micabuild/mica/internal/solver/ops"
)

// Elsewhere is another mica that runs the processes of a build's steps.
type Elsewhere struct {
	// Connect returns a connection to one that runs processes of a platform (see remoteexec.Options). It stays open after the build.
	Connect func(ctx context.Context, p ocispec.Platform, lost *bkclient.Client) (*bkclient.Client, error)
	// Layers is the repository by which layers come and go.
	Layers buildspec.Cache
}

// elsewhere returns what runs the processes of the build, nil for this host. w writes the layers.
func (b *Builder) elsewhere(ctx context.Context, o *Options, x *imports, w *cacheWriter) (ops.Elsewhere, error) {
	if o.Elsewhere == nil {
		return nil, nil //nolint:nilnil // see above
	}
	c := &o.Elsewhere.Layers
	at, err := w.repository(ctx, c)
	if err != nil {
		return nil, err
	}
	w.cache, w.sums = x.used()
	return remoteexec.New(remoteexec.Options{
		Connect: o.Elsewhere.Connect, Repository: at, Insecure: c.Insecure, Credential: b.Registry.Credential,
		Layer: func(ctx context.Context, id digest.Digest) (ocispec.Descriptor, error) {
			return w.toRegistry(ctx, at, c, id)
		},
		Made: func(layers []remotecache.ImportedLayer) { w.cache.AddLayers(layers...) },
	}), nil
}
