package buildspec

import (
	"fmt"
	"strconv"
	"time"
)

// S3Cache is a cache of type s3, with the attributes of BuildKit. What is not given, the environment has.
type S3Cache struct {
	Bucket, Region, Endpoint string
	PathStyle                bool
	KeyID, Secret, Session   string
	Prefix, Blobs, Manifests string
	// Name is that of the manifest, or several with semicolons between them.
	Name    string
	Refresh time.Duration
	// Parallel is how many layers or parts of them are sent at the same time.
	Parallel int
}

var s3Attributes = []string{
	"bucket", "region", "endpoint_url", "use_path_style", "access_key_id", "secret_access_key", "session_token", "prefix", "blobs_prefix",
	"manifests_prefix", "name", "touch_refresh", "upload_parallelism", "disable_accept_encoding", "retry_mode", "retry_max_attempts",
}

// maxParallel limits upload_parallelism: each part that is sent is in memory.
const maxParallel = 64

// newS3Cache has the defaults of BuildKit.
func newS3Cache() S3Cache {
	return S3Cache{Blobs: "blobs/", Manifests: "manifests/", Name: DefaultScope, Refresh: 24 * time.Hour, Parallel: 4}
}

func (s *S3Cache) set(key, value string) (err error) {
	texts := map[string]*string{
		"bucket": &s.Bucket, "region": &s.Region, "endpoint_url": &s.Endpoint, "access_key_id": &s.KeyID, "secret_access_key": &s.Secret,
		"session_token": &s.Session, "prefix": &s.Prefix, "blobs_prefix": &s.Blobs, "manifests_prefix": &s.Manifests, "name": &s.Name,
	}
	if text, ok := texts[key]; ok {
		*text = value
		return nil
	}
	switch key {
	case "use_path_style":
		s.PathStyle, err = strconv.ParseBool(value)
	case "disable_accept_encoding": // mica asks for no encoding
		_, err = strconv.ParseBool(value)
	case "touch_refresh":
		s.Refresh, err = time.ParseDuration(value)
	case "upload_parallelism":
		if s.Parallel, err = strconv.Atoi(value); err == nil && (s.Parallel <= 0 || s.Parallel > maxParallel) {
			return fmt.Errorf("cache attribute %s: %d is not 1 to %d", key, s.Parallel, maxParallel)
		}
	}
	if err != nil {
		return fmt.Errorf("cache attribute %s: %q is invalid", key, value)
	}
	return nil // retry_mode and retry_max_attempts are those of a library: requests are sent again as those of registries are
}
