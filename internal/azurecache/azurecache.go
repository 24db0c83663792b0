// Package azurecache reads and writes build caches in containers of Azure Blob Storage (--cache-to type=azblob), as BuildKit does
// (cache/remotecache/azblob). A cache is a blob with its config, and a blob for each layer.
package azurecache

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/objectstorage"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/registry"
)

// Options say where a cache is.
type Options struct {
	// URL is that of the storage account. Its query is a shared access signature if there is no Key.
	URL string
	// Account is the name of the account, by default the first label of the host. Key is its key, in base64.
	Account, Key string
	// Container is made if it does not exist.
	Container string
	// Prefix is the directory of Blobs and Manifests. Names are those of the manifest; the first is read.
	Prefix, Blobs, Manifests string
	Names                    []string
	// Objects sends the requests.
	Objects *registry.Objects
}

// Cache is a cache in a container. It is a content.Storage of layers, and safe for concurrent use.
type Cache struct {
	o       Options
	base    url.URL // of the container
	key     []byte  // empty for a signature in the URL
	service objectstorage.Service
	sender  *objectstorage.Sender
}

const (
	singlePut = 8 << 20 // bytes of a blob that one request writes
	parallel  = 4       // blocks of layers that are sent at the same time, as by BuildKit
)

// New returns the cache in a container, without a request.
func New(o Options) (*Cache, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("account_url is not the URL of a storage account")
	}
	if o.Account == "" {
		o.Account, _, _ = strings.Cut(u.Hostname(), ".")
	}
	if o.Container == "" || strings.ContainsAny(o.Container, "/?#") || strings.Trim(o.Container, ".") == "" {
		return nil, fmt.Errorf("invalid container %q", o.Container)
	}
	key, err := base64.StdEncoding.DecodeString(o.Key)
	if err != nil {
		return nil, errors.New("secret_access_key is not a key in base64")
	}
	if len(key) == 0 && u.Query().Get("sig") == "" {
		return nil, errNoKey
	}
	u.Path = strings.TrimRight(u.Path, "/") + "/" + o.Container
	u.RawPath = ""
	c := &Cache{o: o, base: *u, key: key, sender: objectstorage.NewSender(parallel)}
	c.service = objectstorage.Service{Objects: o.Objects, Sign: c.sign, Refused: refusal}
	return c, nil
}

// errNoKey is the error where no credentials are given.
var errNoKey = errors.New("no credentials for Azure Blob Storage: set secret_access_key, or an account_url with a shared access signature")

func (c *Cache) blobName(d digest.Digest) string {
	return path.Join(c.o.Prefix, c.o.Blobs, d.String())
}

func (c *Cache) manifestName(name string) string {
	return path.Join(c.o.Prefix, c.o.Manifests, name)
}

// Manifest returns the config of the cache. The error is errdef.ErrNotFound if the container has none.
func (c *Cache) Manifest(ctx context.Context) ([]byte, error) {
	return c.service.Manifest(ctx, c.manifestName(c.o.Names[0]))
}

// PutManifest writes the config of the cache under all of its names.
func (c *Cache) PutManifest(ctx context.Context, raw []byte) error {
	for _, n := range c.o.Names {
		name := c.manifestName(n)
		if err := c.write(ctx, name, int64(len(raw)), bytes.NewReader(raw)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// Exists reports whether the container has a blob.
func (c *Cache) Exists(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if err := oci.CheckDescriptor(d); err != nil {
		return false, err
	}
	_, ok, err := c.service.Head(ctx, c.blobName(d.Digest), d.Size)
	return ok, err
}

// Fetch reads a blob, unverified.
func (c *Cache) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return c.service.Open(ctx, d, c.blobName(d.Digest))
}

// Push writes a blob. Another that writes it at the same time is no error.
func (c *Cache) Push(ctx context.Context, d ocispec.Descriptor, r io.Reader) error {
	if err := oci.CheckDescriptor(d); err != nil {
		return err
	}
	name := c.blobName(d.Digest)
	err := c.write(ctx, name, d.Size, oci.NewVerifiedReader(r, d))
	var refused *objectstorage.Error
	if errors.As(err, &refused) && refused.Code == "InvalidBlockList" { // the list of another upload has dropped these blocks
		ok, other := c.Exists(ctx, d)
		if ok || other != nil {
			return other
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// write writes a blob: in blocks, if it is large.
func (c *Cache) write(ctx context.Context, name string, size int64, r io.Reader) error {
	if size > singlePut {
		return objectstorage.PutBlocks(ctx, c.sender, r, size, func(ctx context.Context, query url.Values, body []byte) error {
			return c.put(ctx, objectstorage.Call{Name: name, Query: query, Body: body})
		})
	}
	header := http.Header{"X-Ms-Blob-Type": {"BlockBlob"}}
	return c.sender.Send(ctx, r, size, max(size, 1), func(ctx context.Context, p objectstorage.Part) error {
		return c.put(ctx, objectstorage.Call{Name: name, Header: header, Body: p.Body})
	})
}

// put sends a request that writes. The first one in a new account makes the container.
func (c *Cache) put(ctx context.Context, r objectstorage.Call) error {
	r.Method = http.MethodPut
	err := c.done(ctx, r)
	var refused *objectstorage.Error
	if !errors.As(err, &refused) || refused.Code != "ContainerNotFound" {
		return err
	}
	err = c.done(ctx, objectstorage.Call{Method: http.MethodPut, Query: url.Values{"restype": {"container"}}})
	if errors.As(err, &refused) && refused.Code == "ContainerAlreadyExists" { // another has made it
		err = nil
	}
	if err != nil {
		return fmt.Errorf("create the container %s: %w", c.o.Container, err)
	}
	return c.done(ctx, r)
}
