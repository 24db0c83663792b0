package builder

import (
	"context"
	"errors"

	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/remotecache"
)

// objectCache is a cache in object storage: blobs, and a config by name.
type objectCache interface {
	content.Storage
	// Manifest returns the config. The error is errdef.ErrNotFound if the cache was never written.
	Manifest(ctx context.Context) ([]byte, error)
	PutManifest(ctx context.Context, raw []byte) error
}

// openObjects opens a cache of type s3 or azblob, without a request.
func (b *Builder) openObjects(c *buildspec.Cache, client Client) (objectCache, error) {
	if c.Type == buildspec.CacheAzure {
		return b.openAzure(c, client)
	}
	return b.openS3(c, client)
}

// readObjects reads a cache of type s3 or azblob. There is no Import of a cache that was never written.
func (b *Builder) readObjects(ctx context.Context, c *buildspec.Cache, client Client, limit *budget) ([]*remotecache.Import, error) {
	at, err := b.openObjects(c, client)
	if err != nil {
		return nil, err
	}
	raw, err := at.Manifest(ctx)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	i, err := limit.readConfig(at, raw)
	if err != nil {
		return nil, err
	}
	return []*remotecache.Import{i}, nil
}

// writeObjects exports to a cache of type s3 or azblob.
func (x *cacheWriter) writeObjects(ctx context.Context, c *buildspec.Cache, o remotecache.ExportOptions, keys []remotecache.Key) error {
	at, err := x.b.openObjects(c, x.client)
	if err != nil {
		return err
	}
	o.Describe, o.Parallel = true, c.S3.Parallel
	got, err := x.exported(ctx, at, c, o, keys)
	if err != nil || got == nil {
		return err
	}
	return at.PutManifest(ctx, got.Config)
}
