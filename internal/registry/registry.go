// Package registry speaks the OCI distribution protocol (distribution-spec 1.1) with registries: pull, push, login, and
// what may be asked of a registry alone. Who may be asked how is what containers-registries.conf(5), certs.d folders and
// the credentials of docker and podman say.
package registry

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config/configfile"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// Options say where a Client takes its settings from. The zero value is what the environment says.
type Options struct {
	// Docker is docker's configuration file, which holds credentials; nil for none.
	Docker *configfile.ConfigFile
	// UserAgent is what registries see, "mica/1.0".
	UserAgent string
}

// Client talks to registries. It is safe for concurrent use.
type Client struct {
	docker *configfile.ConfigFile
	auth   *auth.Client
	conns  *transports
	// trusted are hosts that the user lets be insecure.
	trusted sync.Map

	mu    sync.Mutex
	plain map[string]bool // hosts that were asked whether they speak TLS
}

// New returns a client. It reads no file and opens no connection before it is needed.
func New(o Options) *Client {
	c := &Client{docker: o.Docker, plain: map[string]bool{}}
	c.conns = &transports{insecure: c.insecure, limits: defaultLimits, byHost: map[string]*http.Transport{}}
	c.auth = &auth.Client{
		Client:     &http.Client{Transport: &retrying{c.conns}},
		Cache:      auth.NewCache(),
		Credential: func(ctx context.Context, host string) (auth.Credential, error) { return c.credential(ctx, host, "") },
		ClientID:   "mica",
		Header:     http.Header{"User-Agent": {o.UserAgent}},
	}
	return c
}

// endpoint is a place that an image may be had from: a mirror, or the registry itself.
type endpoint struct {
	name   reference.Named // as the place knows the image, with tag or digest
	mirror bool
}

// BlockedError says that the configuration forbids a registry.
type BlockedError struct{ Name string }

func (e *BlockedError) Error() string {
	return fmt.Sprintf("registry %s is blocked in %s", e.Name, sysregistriesv2.ConfigurationSourceDescription(nil))
}

// find returns what registries.conf says about a name, nil for nothing.
func find(name string) (*sysregistriesv2.Registry, error) {
	r, err := sysregistriesv2.FindRegistry(&types.SystemContext{}, name)
	if err != nil {
		return nil, fmt.Errorf("registries configuration: %w", err)
	}
	if r != nil && r.Blocked {
		return nil, &BlockedError{name}
	}
	return r, nil
}

// endpoints are the places to pull name from, in the order to try them.
func endpoints(name reference.Named) ([]endpoint, error) {
	r, err := find(name.Name())
	if err != nil {
		return nil, err
	}
	if r == nil {
		return []endpoint{{name: name}}, nil
	}
	sources, err := r.PullSourcesFromReference(name)
	if err != nil {
		return nil, fmt.Errorf("registries configuration: %w", err)
	}
	var list []endpoint
	for i, s := range sources {
		list = append(list, endpoint{s.Reference, i < len(sources)-1})
	}
	return list, nil
}

// placeContext is the context to ask the i-th place in: while there are others, nobody waits long for one.
func placeContext(ctx context.Context, places []endpoint, i int) context.Context {
	if i < len(places)-1 {
		return withPatience(ctx, hasty)
	}
	return ctx
}

// home is where name is pushed to: the registry itself, never a mirror.
func home(name reference.Named) (reference.Named, error) {
	list, err := endpoints(name)
	if err != nil {
		return nil, err
	}
	return list[len(list)-1].name, nil
}

// AllowInsecure lets the client speak to a name's registry without TLS, or with a certificate of anybody's, as
// `insecure = true` in registries.conf does. It comes before the first use of that registry.
func (c *Client) AllowInsecure(name reference.Named) { c.trusted.Store(reference.Domain(name), true) }

// insecure reports whether registries.conf lets a host be spoken to without TLS, or with a certificate of anybody's.
func (c *Client) insecure(host string) bool {
	if _, ok := c.trusted.Load(host); ok {
		return true
	}
	r, err := sysregistriesv2.FindRegistry(&types.SystemContext{}, host)
	if err == nil && r != nil && r.Insecure && hostOf(r.Location) == host {
		return true
	}
	all, err := sysregistriesv2.GetRegistries(&types.SystemContext{})
	if err != nil {
		return false
	}
	for _, r := range all {
		for _, e := range append([]sysregistriesv2.Endpoint{r.Endpoint}, r.Mirrors...) {
			if e.Insecure && hostOf(e.Location) == host {
				return true
			}
		}
	}
	return false
}

func hostOf(location string) string {
	host, _, _ := strings.Cut(location, "/")
	return host
}

// repository opens a repository of a registry. name is one that endpoints or home gave.
func (c *Client) repository(ctx context.Context, name reference.Named) (*remote.Repository, error) {
	repo, err := remote.NewRepository(name.Name())
	if err != nil {
		return nil, fmt.Errorf("invalid name %s: %w", name, err)
	}
	of := *c.auth
	of.Credential = func(ctx context.Context, host string) (auth.Credential, error) {
		return c.credential(ctx, host, repo.Reference.Repository)
	}
	repo.Client = &of
	repo.MaxMetadataBytes = maxManifest
	repo.SkipReferrersGC = true
	repo.TagListMaxPages, repo.ReferrerListMaxPages = maxPages, maxReferrerPages
	repo.ManifestMediaTypes = manifestTypes
	repo.PlainHTTP, err = c.plainHTTP(ctx, repo.Reference.Host())
	return repo, err
}

// registry opens a registry as a whole.
func (c *Client) registry(ctx context.Context, host string) (*remote.Registry, error) {
	if _, err := find(host); err != nil {
		return nil, err
	}
	reg, err := remote.NewRegistry(host)
	if err != nil {
		return nil, fmt.Errorf("invalid registry %q: %w", host, err)
	}
	reg.Client = c.auth
	reg.PlainHTTP, err = c.plainHTTP(ctx, reg.Reference.Host())
	return reg, err
}
