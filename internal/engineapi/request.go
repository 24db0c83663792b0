package engineapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	configtypes "github.com/docker/cli/cli/config/types"
	apiregistry "github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/prune"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/transfer"
	"github.com/micabuild/mica/internal/version"
)

func serverVersion() string { return version.String() }

// opened is the store of one request, and the client of registries with the credentials of that request.
type opened struct {
	store    *store.Store
	layers   *layer.Layers
	images   *image.Images
	registry *registry.Client
}

// credentials finds what a request brings for a registry.
type credentials func(host string) configtypes.AuthConfig

func (s *Server) open(find credentials) (*opened, error) {
	st, err := store.Open(s.o.Root)
	if err != nil {
		return nil, err
	}
	o := &opened{store: st, layers: layer.New(st), registry: s.client(find)}
	o.layers.SetFetch(func(ctx context.Context, repository string, desc ocispec.Descriptor) (io.ReadCloser, error) {
		return o.registry.OpenBlob(ctx, repository, desc)
	})
	o.images = image.New(st, o.layers)
	return o, nil
}

// client returns a client of registries that has only the credentials of a request, nil for none.
func (s *Server) client(find credentials) *registry.Client {
	settings := s.o.Registry
	settings.Docker = nil
	settings.Credential = func(_ context.Context, host string) (user, secret string, err error) {
		if find == nil {
			return "", "", nil
		}
		a := find(host)
		if a.IdentityToken != "" {
			return "", a.IdentityToken, nil
		}
		return a.Username, a.Password, nil
	}
	return registry.New(settings)
}

func (o *opened) local() *transfer.Local {
	return &transfer.Local{Store: o.store, Layers: o.layers, Images: o.images}
}

func (o *opened) pruner() *prune.Pruner {
	return &prune.Pruner{Store: o.store, Layers: o.layers, Images: o.images}
}

// using calls f while the objects that it makes or reads are held.
func (o *opened) using(ctx context.Context, f func() error) (err error) {
	use, err := o.store.Use(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, use.End()) }()
	return f()
}

// withStore opens the store, and calls f while its objects are held.
func (s *Server) withStore(ctx context.Context, find credentials, f func(*opened) error) error {
	o, err := s.open(find)
	if err != nil {
		return err
	}
	return o.using(ctx, func() error { return f(o) })
}

// collect removes what a request has made garbage. What cannot be removed now is left to the next prune.
func (s *Server) collect(ctx context.Context) {
	if o, err := s.open(nil); err == nil {
		_, _ = o.pruner().Garbage(context.WithoutCancel(ctx))
	}
}

// boolean reads a flag of the query as Docker does: anything that is not a word for "no" is "yes".
func boolean(r *http.Request, name string) bool {
	text := r.URL.Query().Get(name)
	return !slices.Contains([]string{"", "0", "no", "false", "none"}, strings.ToLower(strings.TrimSpace(text)))
}

// number reads a number of the query, 0 for none.
func number(r *http.Request, name string) (int64, error) { return queryNumber(r.URL.Query(), name) }

func queryNumber(q url.Values, name string) (int64, error) {
	text := q.Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, badRequest("invalid value %q for %s: it is not a number", text, name)
	}
	return n, nil
}

// filters reads the filters of a query: {"label":{"a=b":true}}, or {"label":["a=b"]} from old clients.
func filters(r *http.Request) (map[string][]string, error) {
	text := r.URL.Query().Get("filters")
	if text == "" {
		return map[string][]string{}, nil
	}
	var sets map[string]map[string]bool
	if err := json.Unmarshal([]byte(text), &sets); err == nil {
		lists := map[string][]string{}
		for key, set := range sets {
			for value, given := range set {
				if given {
					lists[key] = append(lists[key], value)
				}
			}
			sort.Strings(lists[key])
		}
		return lists, nil
	}
	lists := map[string][]string{}
	if err := json.Unmarshal([]byte(text), &lists); err != nil {
		return nil, badRequest("invalid filter: %w", err)
	}
	return lists, nil
}

// conditions are filters as flags have them: key=value.
func conditions(lists map[string][]string) []string {
	var list []string
	for key, values := range lists {
		for _, v := range values {
			list = append(list, key+"="+v)
		}
	}
	sort.Strings(list)
	return list
}

// platform reads a platform of the query: JSON, or the form "linux/arm64" of older parts of the API. It is nil for none.
func platform(r *http.Request) (*ocispec.Platform, error) {
	list, err := platformList(r, "platform")
	if err != nil || len(list) == 0 {
		return nil, err
	}
	if len(list) > 1 {
		return nil, badRequest("multiple platforms are not supported here")
	}
	return &list[0], nil
}

func platformList(r *http.Request, name string) (list []ocispec.Platform, err error) {
	for _, text := range r.URL.Query()[name] {
		if text == "" {
			continue
		}
		var p ocispec.Platform
		if strings.HasPrefix(text, "{") {
			if err := json.Unmarshal([]byte(text), &p); err != nil {
				return nil, badRequest("failed to parse platform: %w", err)
			}
			if p.OS == "" || p.Architecture == "" {
				return nil, badRequest("both OS and Architecture must be provided")
			}
		} else if p, err = platforms.Parse(text); err != nil {
			return nil, badRequest("invalid platform %q: %w", text, err)
		}
		list = append(list, platforms.Normalize(p))
	}
	return list, nil
}

// repoTag joins a repository and a tag, each of which may have the tag. It is nil for no repository.
func repoTag(repo, tag string) (reference.Named, error) {
	if repo == "" {
		return nil, nil
	}
	named, err := image.ParseName(strings.TrimSuffix(repo, ":"))
	if err != nil {
		return nil, &requestError{http.StatusBadRequest, err}
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, badRequest("cannot import digest reference")
	}
	if tag != "" {
		if named, err = reference.WithTag(reference.TrimNamed(named), tag); err != nil {
			return nil, &requestError{http.StatusBadRequest, err}
		}
	}
	return reference.TagNameOnly(named), nil
}

// remoteName is the name of an image in a registry, whose tag may be a digest. Without a tag it is a repository.
func remoteName(name, tag string) (reference.Named, error) {
	named, err := image.ParseName(strings.TrimSuffix(name, ":"))
	if err != nil {
		return nil, &requestError{http.StatusBadRequest, err}
	}
	if tag == "" {
		return named, nil
	}
	if d, parseErr := digest.Parse(tag); parseErr == nil {
		named, err = reference.WithDigest(reference.TrimNamed(named), d)
	} else {
		named, err = reference.WithTag(reference.TrimNamed(named), tag)
	}
	if err != nil {
		return nil, &requestError{http.StatusBadRequest, err}
	}
	return named, nil
}

// registryAuth reads the credentials of a header for the registry of a name. No other host gets them. As in Docker, a header that
// cannot be read counts for nothing.
func registryAuth(r *http.Request, name reference.Named) credentials {
	a := decodeAuth(r.Header.Get(apiregistry.AuthHeader))
	domain := hostOf(reference.Domain(name))
	return func(host string) configtypes.AuthConfig {
		if hostOf(host) != domain {
			return configtypes.AuthConfig{}
		}
		return a
	}
}

func decodeAuth(text string) configtypes.AuthConfig {
	var a apiregistry.AuthConfig
	if err := decodeBase64(text, &a); err != nil {
		return configtypes.AuthConfig{}
	}
	return authConfig(a)
}

// decodeBase64 reads JSON in the URL-safe alphabet, with padding or without.
func decodeBase64(text string, into any) error {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

func authConfig(a apiregistry.AuthConfig) configtypes.AuthConfig {
	c := configtypes.AuthConfig{
		Username: a.Username, Password: a.Password, ServerAddress: a.ServerAddress, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
	}
	if raw, err := base64.StdEncoding.DecodeString(a.Auth); err == nil && c.Username == "" {
		c.Username, c.Password, _ = strings.Cut(string(raw), ":")
	}
	return c
}

// registryConfig reads the credentials of a header for several registries, by their names.
func registryConfig(r *http.Request) credentials {
	var all map[string]apiregistry.AuthConfig
	_ = decodeBase64(r.Header.Get("X-Registry-Config"), &all)
	return func(host string) configtypes.AuthConfig {
		for key, a := range all {
			if hostOf(key) == hostOf(host) {
				return authConfig(a)
			}
		}
		return configtypes.AuthConfig{}
	}
}

// hostOf is the host of an address that may be a URL. Docker Hub has several.
func hostOf(address string) string {
	_, rest, ok := strings.Cut(address, "://")
	if !ok {
		rest = address
	}
	host, _, _ := strings.Cut(rest, "/")
	host = host[strings.LastIndexByte(host, '@')+1:] // a user's name and password are not shown
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		return "docker.io"
	}
	return host
}
