// Package s3cache reads and writes build caches in buckets of S3, and of services with its protocol (--cache-to type=s3), as BuildKit does
// (cache/remotecache/s3). A cache is an object with its config, and an object for each layer.
package s3cache

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/objectstorage"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/registry"
)

// Options say where a cache is.
type Options struct {
	Bucket, Region string
	// Endpoint is the URL of the service, "" for Amazon's. PathStyle has the bucket in paths, not in the name of the host.
	Endpoint  string
	PathStyle bool
	// Keys are what signs requests.
	Keys *credentials.Credentials
	// Prefix begins the names of all objects, before Blobs or Manifests. Names are those of the manifest; the first is read.
	Prefix, Blobs, Manifests string
	Names                    []string
	// Refresh is the age at which an object that is used again gets the current time: a rule of the bucket may remove old ones.
	Refresh time.Duration
	// Parallel limits how many parts of layers are sent at the same time.
	Parallel int
	// Objects sends the requests.
	Objects *registry.Objects
}

// Cache is a cache in a bucket. It is a content.Storage of layers, and safe for concurrent use.
type Cache struct {
	o       Options
	base    url.URL // of the bucket
	part    int64   // bytes of an upload
	service objectstorage.Service
	sender  *objectstorage.Sender
}

// New returns the cache in a bucket, without a request.
func New(o Options) (*Cache, error) {
	base, err := o.bucketURL()
	if err != nil {
		return nil, err
	}
	c := &Cache{o: o, base: *base, part: partSize, sender: objectstorage.NewSender(o.Parallel)}
	c.service = objectstorage.Service{Objects: o.Objects, Sign: c.sign, Refused: refusal}
	return c, nil
}

// bucketURL returns the URL of a bucket. One whose name has a dot would not match the certificate of its host.
func (o *Options) bucketURL() (*url.URL, error) {
	if strings.ContainsAny(o.Bucket, "/?#@:") || o.Bucket == "" {
		return nil, fmt.Errorf("invalid bucket %q", o.Bucket)
	}
	if strings.ContainsAny(o.Region, "/?#@:.") {
		return nil, fmt.Errorf("invalid region %q", o.Region)
	}
	domain := "amazonaws.com"
	if strings.HasPrefix(o.Region, "cn-") {
		domain += ".cn"
	}
	u, err := url.Parse(cmp.Or(o.Endpoint, "https://s3."+o.Region+"."+domain))
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("endpoint_url is not the URL of a service over HTTP")
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	if o.PathStyle && o.Endpoint != "" || strings.Contains(o.Bucket, ".") {
		u.Path += "/" + o.Bucket
	} else {
		u.Host = o.Bucket + "." + u.Host
	}
	return u, nil
}

func (c *Cache) blobKey(d digest.Digest) string { return c.o.Prefix + c.o.Blobs + d.String() }

// Manifest returns the config of the cache. The error is errdef.ErrNotFound if the bucket has none.
func (c *Cache) Manifest(ctx context.Context) ([]byte, error) {
	return c.service.Manifest(ctx, c.o.Prefix+c.o.Manifests+c.o.Names[0])
}

// PutManifest writes the config of the cache under all of its names.
func (c *Cache) PutManifest(ctx context.Context, raw []byte) error {
	for _, name := range c.o.Names {
		key := c.o.Prefix + c.o.Manifests + name
		if err := c.put(ctx, key, int64(len(raw)), bytes.NewReader(raw)); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

// Exists reports whether the bucket has a blob. One that is old gets the current time.
func (c *Cache) Exists(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if err := oci.CheckDescriptor(d); err != nil {
		return false, err
	}
	key := c.blobKey(d.Digest)
	header, ok, err := c.service.Head(ctx, key, d.Size)
	if err != nil || header == nil {
		return false, err
	}
	if at, err := http.ParseTime(header.Get("Last-Modified")); err == nil && time.Since(at) > c.o.Refresh {
		if err := c.touch(ctx, key, d.Size); err != nil {
			return false, fmt.Errorf("refresh %s: %w", key, err)
		}
	}
	return ok, nil
}

// Fetch reads a blob, unverified.
func (c *Cache) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return c.service.Open(ctx, d, c.blobKey(d.Digest))
}

// Push writes a blob.
func (c *Cache) Push(ctx context.Context, d ocispec.Descriptor, r io.Reader) error {
	if err := oci.CheckDescriptor(d); err != nil {
		return err
	}
	key := c.blobKey(d.Digest)
	if err := c.put(ctx, key, d.Size, oci.NewVerifiedReader(r, d)); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}
