package builder

import (
	"cmp"
	"context"
	"errors"
	"os"
	"strings"

	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/s3cache"
)

// openS3 opens a cache of type s3, without a request. What is not given is taken from the environment of the host, but for a client: it has
// sent its own values, and may not use what the host may.
func (b *Builder) openS3(c *buildspec.Cache, client Client) (*s3cache.Cache, error) {
	s := c.S3
	if client == nil {
		s.Bucket = cmp.Or(s.Bucket, os.Getenv("AWS_BUCKET"))
		s.Region = cmp.Or(s.Region, os.Getenv("AWS_REGION"))
		s.Endpoint = cmp.Or(s.Endpoint, os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"))
	}
	if s.Bucket == "" || s.Region == "" {
		return nil, errors.New("cache type s3 needs bucket and region, or AWS_BUCKET and AWS_REGION in the environment of the client")
	}
	keys := s3cache.StaticKeys(s.KeyID, s.Secret, s.Session)
	if s.KeyID == "" || s.Secret == "" {
		if client != nil {
			return nil, errors.New("cache type s3 needs access_key_id and secret_access_key from the client")
		}
		keys = s3cache.HostKeys(s.Region)
	}
	return s3cache.New(s3cache.Options{
		Bucket: s.Bucket, Region: s.Region, Endpoint: s.Endpoint, PathStyle: s.PathStyle, Keys: keys, Prefix: s.Prefix, Blobs: s.Blobs,
		Manifests: s.Manifests, Names: strings.Split(s.Name, ";"), Refresh: s.Refresh, Parallel: s.Parallel, Objects: b.Registry.Objects(),
	})
}

// readS3 reads a cache of type s3. There is no Import of a cache that was never written.
func (b *Builder) readS3(ctx context.Context, c *buildspec.Cache, client Client, limit *budget) ([]*remotecache.Import, error) {
	at, err := b.openS3(c, client)
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

// writeS3 exports to a cache of type s3.
func (x *cacheWriter) writeS3(ctx context.Context, c *buildspec.Cache, o remotecache.ExportOptions, keys []remotecache.Key) error {
	at, err := x.b.openS3(c, x.client)
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
