package builder

import (
	"context"
	"errors"
	"fmt"

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

// checkObjects refuses caches of type s3 and azblob that cannot be opened: better before a long build than after it.
func (b *Builder) checkObjects(o *Options) error {
	for _, c := range o.CacheTo {
		if c.Type != buildspec.CacheS3 && c.Type != buildspec.CacheAzure || c.IgnoreError {
			continue
		}
		if _, err := b.openObjects(&c, o.Client); err != nil {
			return fmt.Errorf("export build cache: %w", err)
		}
	}
	return nil
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
