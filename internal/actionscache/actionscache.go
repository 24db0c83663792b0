// Package actionscache reads and writes build caches in the cache service of GitHub Actions (--cache-to type=gha), as BuildKit does
// (cache/remotecache/gha). It speaks version 2 of the service's protocol: calls in Twirp's JSON, which return signed URLs of Azure blobs.
package actionscache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/objectstorage"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/registry"
)

// Options say where a cache is.
type Options struct {
	URL, Token string
	// Scope is the name of the cache.
	Scope string
	// Timeout limits the time of a call of the service.
	Timeout time.Duration
	// Objects sends the requests.
	Objects *registry.Objects
}

// Cache is a cache of a repository. It is a content.Storage of layers.
type Cache struct {
	o      Options
	scopes []scope
	sender *objectstorage.Sender
}

// scope is a branch, or a pull request, whose entries the token opens.
type scope struct {
	Scope      string
	Permission int
}

const (
	permissionWrite = 2
	maxScopes       = 32
	maxIndex        = 64 << 20 // bytes
	parallel        = 4        // blocks of layers that are sent at the same time, as by BuildKit
)

// New returns the cache that a token opens, without a request.
func New(o Options) (*Cache, error) {
	scopes, err := scopesOf(o.Token)
	if err != nil {
		return nil, fmt.Errorf("token of the GitHub Actions cache: %w", err)
	}
	return &Cache{o: o, scopes: scopes, sender: objectstorage.NewSender(parallel)}, nil
}

// scopesOf reads the scopes in the claims of a JSON web token. The service verifies the token.
func scopesOf(token string) (list []scope, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("not a JSON web token")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, errors.New("not a JSON web token")
	}
	var claims struct {
		AC string `json:"ac"`
	}
	if json.Unmarshal(raw, &claims) != nil || json.Unmarshal([]byte(claims.AC), &list) != nil {
		return nil, errors.New("it has no access controls")
	}
	if len(list) == 0 || len(list) > maxScopes {
		return nil, fmt.Errorf("it has %d scopes, not 1 to %d", len(list), maxScopes)
	}
	return list, nil
}

// indexKey begins the keys of the indexes of a scope; a number follows.
func (c *Cache) indexKey(scope string) string {
	return "index-" + c.o.Scope + "-1-" + digest.FromString(scope).Encoded()[:8] + "#"
}

func blobKey(d digest.Digest) string { return "buildkit-blob-1-" + d.String() }

// keyVersion is the version of all entries, which readers have to know too.
func keyVersion() string {
	sum := sha256.Sum256([]byte("|go-actionscache-1.0"))
	return hex.EncodeToString(sum[:])
}

// Indexes returns the newest index of each scope that has one.
func (c *Cache) Indexes(ctx context.Context) (list [][]byte, err error) {
	for _, s := range c.scopes {
		e, err := c.find(ctx, c.indexKey(s.Scope))
		if errors.Is(err, errdef.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		raw, err := c.readIndex(ctx, e.url)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.key, err)
		}
		list = append(list, raw)
	}
	return list, nil
}

func (c *Cache) readIndex(ctx context.Context, url string) ([]byte, error) {
	resp, err := c.send(ctx, http.MethodGet, url, nil, nil)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxIndex+1))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	if len(raw) > maxIndex {
		return nil, fmt.Errorf("the index is larger than %d bytes", maxIndex)
	}
	return raw, nil
}

// maxIndexTries limits how many numbers of an index are tried that others have taken.
const maxIndexTries = 100

// PutIndex writes a new index of the scope that the token may write.
func (c *Cache) PutIndex(ctx context.Context, raw []byte) error {
	prefix, err := c.writable()
	if err != nil {
		return err
	}
	number := 0
	e, err := c.find(ctx, prefix)
	switch {
	case err == nil:
		if number, err = strconv.Atoi(strings.TrimPrefix(e.key, prefix)); err != nil {
			return fmt.Errorf("the index %.200q has no number", e.key)
		}
	case !errors.Is(err, errdef.ErrNotFound):
		return err
	}
	for range maxIndexTries {
		number++
		err = c.save(ctx, prefix+strconv.Itoa(number), int64(len(raw)), bytes.NewReader(raw))
		if !errors.Is(err, errExists) {
			return err
		}
	}
	return err
}

// writable returns the beginning of the keys of indexes in the scope that the token may write.
func (c *Cache) writable() (string, error) {
	found := ""
	for _, s := range c.scopes {
		if s.Permission&permissionWrite != 0 {
			found = c.indexKey(s.Scope)
		}
	}
	if found == "" {
		return "", errors.New("the token of the GitHub Actions cache allows no writing")
	}
	return found, nil
}

// Exists reports whether the cache has a blob.
func (c *Cache) Exists(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	_, err := c.findBlob(ctx, d)
	if errors.Is(err, errdef.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Fetch reads a blob, unverified.
func (c *Cache) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	e, err := c.findBlob(ctx, d)
	if err != nil {
		return nil, err
	}
	return c.download(ctx, d, e)
}

func (c *Cache) findBlob(ctx context.Context, d ocispec.Descriptor) (*entry, error) {
	if err := oci.CheckDescriptor(d); err != nil {
		return nil, err
	}
	e, err := c.find(ctx, blobKey(d.Digest))
	if err != nil {
		return nil, err
	}
	if e.key != blobKey(d.Digest) { // the service looks for keys that begin like the one asked for
		return nil, fmt.Errorf("%s: %w", d.Digest, errdef.ErrNotFound)
	}
	return e, nil
}

// Push writes a blob. Another that writes it at the same time is no error.
func (c *Cache) Push(ctx context.Context, d ocispec.Descriptor, r io.Reader) error {
	if err := oci.CheckDescriptor(d); err != nil {
		return err
	}
	err := c.save(ctx, blobKey(d.Digest), d.Size, oci.NewVerifiedReader(r, d))
	if errors.Is(err, errExists) {
		return nil
	}
	return err
}
