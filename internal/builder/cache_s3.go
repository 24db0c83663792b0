package builder

import (
	"cmp"
	"errors"
	"os"
	"strings"

	"github.com/micabuild/mica/internal/buildspec"
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
