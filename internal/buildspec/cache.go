package buildspec

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/tonistiigi/go-csvvalue"

	"github.com/micabuild/mica/internal/compression"
)

// The types of a remote cache, as --cache-from and --cache-to name them.
const (
	CacheRegistry = "registry"
	CacheLocal    = "local"
	CacheInline   = "inline"
	CacheActions  = "gha" // the cache service of GitHub Actions
	CacheS3       = "s3"
	CacheAzure    = "azblob" // Azure Blob Storage
)

// Cache is a remote cache that is read or written, with BuildKit's attributes (docs.docker.com/build/cache/backends).
type Cache struct {
	Type string
	// Ref is the name of an image at a registry. Insecure allows a registry without TLS.
	Ref      string
	Insecure bool
	// Dir is the directory of a local cache, Tag and Digest name a manifest in it; "" is the default.
	Dir, Tag, Digest string
	// Actions is the cache of type gha.
	Actions ActionsCache
	// S3 is the cache of type s3.
	S3 S3Cache
	// Azure is the cache of type azblob.
	Azure AzureCache
	// Max also writes the results of steps that are not in the image (mode=max).
	Max bool
	// Steps is a cache in which each step is a record of its own (mode=steps).
	Steps bool
	// NoLeases lets builds run a step of such a cache that another build runs.
	NoLeases bool
	// Compression, Level and Force say how layers are written.
	Compression compression.Algorithm
	Level       int
	Force       bool
	// DockerTypes writes Docker's media types. Index writes an index, as former versions of BuildKit did.
	DockerTypes, Index bool
	// IgnoreError goes on with the build if the cache cannot be written.
	IgnoreError bool
}

// cacheAttributes are those that each type has, for reading and for writing.
var cacheAttributes = map[string]struct{ from, to []string }{
	CacheRegistry: {
		[]string{"ref", "mode", "registry.insecure"},
		[]string{"ref", "mode", "compression", "compression-level", "force-compression", "oci-mediatypes", "image-manifest", "ignore-error", "registry.insecure", "lease"},
	},
	CacheLocal: {
		[]string{"src", "digest", "tag"},
		[]string{"dest", "mode", "tag", "compression", "compression-level", "force-compression", "oci-mediatypes", "image-manifest", "ignore-error"},
	},
	CacheInline:  {nil, []string{"mode"}},
	CacheActions: {actionsAttributes, append([]string{"mode", "ignore-error"}, actionsAttributes...)},
	CacheS3:      {s3Attributes, append([]string{"mode", "ignore-error"}, s3Attributes...)},
	CacheAzure:   {azureAttributes, append([]string{"mode", "ignore-error"}, azureAttributes...)},
}

// ParseCaches reads --cache-from or, if to is set, --cache-to.
func ParseCaches(list []string, to bool) ([]Cache, error) {
	var entries []Entry
	for _, s := range list {
		if s == "" {
			continue
		}
		got, err := ParseCache(s)
		if err != nil {
			return nil, fmt.Errorf("invalid cache %q: %w", s, err)
		}
		entries = append(entries, got...)
	}
	return NewCaches(entries, to)
}

// ParseCache reads "type=registry,ref=name", or names in registries alone.
func ParseCache(text string) ([]Entry, error) {
	if !strings.Contains(text, "=") {
		refs, err := csvvalue.Fields(text, nil)
		var out []Entry
		for _, r := range refs {
			out = append(out, Entry{CacheRegistry, map[string]string{"ref": r}})
		}
		return out, err
	}
	e, err := ParseEntry(text, strings.ToLower)
	if err == nil && e.Type == "" {
		err = fmt.Errorf("type required for %q", text)
	}
	return []Entry{e}, err
}

// NewCaches checks entries of caches that are read, or written if to is set.
func NewCaches(entries []Entry, to bool) ([]Cache, error) {
	var caches []Cache
	for _, e := range entries {
		c, err := newCache(e, to)
		if err != nil {
			return nil, fmt.Errorf("invalid cache %q: %w", e.withoutTokens(), err)
		}
		caches = append(caches, *c)
	}
	return caches, nil
}

func newCache(e Entry, to bool) (*Cache, error) {
	attributes, ok := cacheAttributes[e.Type]
	names, needs := attributes.from, map[string]string{CacheRegistry: "ref", CacheLocal: "src"}[e.Type]
	if to {
		names = attributes.to
		if e.Type == CacheLocal {
			needs = "dest"
		}
	}
	switch {
	case !ok || !to && e.Type == CacheInline:
		return nil, fmt.Errorf("unknown cache type %q: use registry, local, gha, s3 or azblob, or inline to write one", e.Type)
	case needs != "" && e.Attrs[needs] == "":
		return nil, fmt.Errorf("cache type %s needs %s", e.Type, needs)
	}
	c := &Cache{Type: e.Type, Compression: compression.Gzip}
	switch e.Type {
	case CacheS3:
		c.S3 = newS3Cache()
	case CacheAzure:
		c.Azure = newAzureCache()
	}
	manifest := false
	for _, k := range slices.Sorted(maps.Keys(e.Attrs)) {
		if !slices.Contains(names, k) || !to && k == "mode" && e.Attrs[k] != "steps" {
			return nil, fmt.Errorf("cache type %s has no attribute %q", e.Type, k)
		}
		if err := c.set(k, e.Attrs[k]); err != nil {
			return nil, err
		}
		manifest = manifest || k == "image-manifest" && !c.Index
	}
	if c.Type == CacheActions {
		c.Actions.Scope = cmp.Or(c.Actions.Scope, DefaultScope)
	}
	if c.Steps {
		return c, c.checkSteps(e.Attrs)
	}
	return c, c.check(manifest)
}

// set reads one attribute.
func (c *Cache) set(key, value string) (err error) {
	if c.Type == CacheS3 && slices.Contains(s3Attributes, key) {
		return c.S3.set(key, value)
	}
	if c.Type == CacheAzure && slices.Contains(azureAttributes, key) {
		c.Azure.set(key, value)
		return nil
	}
	switch key {
	case "ref":
		c.Ref = value
		_, err = reference.ParseNormalizedNamed(value)
		if err != nil {
			return fmt.Errorf("invalid cache reference %q: %w", value, err)
		}
	case "src", "dest":
		c.Dir = value
	case "tag":
		c.Tag = value
	case "digest":
		c.Digest = value
	case "mode":
		if value != "min" && value != "max" && value != "steps" {
			return fmt.Errorf("invalid cache mode %q: use min, max or steps", value)
		}
		c.Max, c.Steps = value == "max", value == "steps"
	case "compression":
		if value != "" {
			c.Compression = compressionNamed(value)
		}
	case "compression-level":
		if c.Level, err = strconv.Atoi(value); err != nil {
			return fmt.Errorf("cache attribute %s: %q is not a number", key, value)
		}
	case "scope", "url", "url_v2", "token", "timeout", "version", "ghtoken", "repository":
		return c.Actions.set(key, value)
	default:
		return c.setFlag(key, value)
	}
	return nil
}

func (c *Cache) setFlag(key, value string) error {
	on, err := strconv.ParseBool(value)
	if err != nil {
		return fmt.Errorf("cache attribute %s: %q is neither true nor false", key, value)
	}
	switch key {
	case "registry.insecure":
		c.Insecure = on
	case "force-compression":
		c.Force = on
	case "oci-mediatypes":
		c.DockerTypes = !on
	case "image-manifest":
		c.Index = !on
	case "ignore-error":
		c.IgnoreError = on
	case "lease":
		c.NoLeases = !on
	}
	return nil
}

// check refuses attributes that conflict. manifest is set if the user asked for an image manifest.
func (c *Cache) check(manifest bool) error {
	if c.NoLeases {
		return errors.New("lease=false is for mode=steps")
	}
	if manifest && c.DockerTypes {
		return errors.New("image-manifest=true conflicts with oci-mediatypes=false")
	}
	if c.Compression == compression.Estargz && c.DockerTypes {
		return errors.New("compression=estargz conflicts with oci-mediatypes=false")
	}
	return compression.CheckLevel(c.Compression, c.Level)
}

// checkSteps refuses what a cache of mode=steps cannot have.
func (c *Cache) checkSteps(attrs map[string]string) error {
	if c.Type != CacheRegistry {
		return fmt.Errorf("cache type %s has no mode=steps: use type=registry", c.Type)
	}
	name, err := reference.ParseNormalizedNamed(c.Ref)
	if err != nil {
		return err
	}
	if !reference.IsNameOnly(name) {
		return fmt.Errorf("mode=steps uses a whole repository: leave out the tag or digest of %s", c.Ref)
	}
	for _, k := range []string{"image-manifest", "oci-mediatypes"} {
		if _, ok := attrs[k]; ok {
			return fmt.Errorf("mode=steps has no attribute %s", k)
		}
	}
	if c.Compression == compression.Estargz {
		return errors.New("mode=steps has no compression=estargz, which changes layers")
	}
	return compression.CheckLevel(c.Compression, c.Level)
}
