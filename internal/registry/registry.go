// Package registry is a client of the OCI distribution protocol (distribution-spec 1.1): authentication, retries, ranges and
// uploads. It knows neither images nor the store. Settings are those of containers-registries.conf(5), certs.d directories and
// the credentials of docker and podman.
package registry

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

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
	// Credential returns the credentials for a registry, in place of those of files: empty for none, a user of "" for an identity token.
	// nil is the files.
	Credential func(ctx context.Context, host string) (user, secret string, err error)
	// RegistriesConf is the file in place of registries.conf(5); "" is the usual ones.
	RegistriesConf string
	// Access says how hosts are reached, beside registries.conf and certs.d.
	Access Access
	// UserAgent is what registries see, "mica/1.0".
	UserAgent string
	// FirstWait is how long to wait before a request is repeated. It doubles with each try; 0 is 250 ms.
	FirstWait time.Duration
}

// Client talks to registries. It is safe for concurrent use.
type Client struct {
	docker  *configfile.ConfigFile
	ask     func(ctx context.Context, host string) (user, secret string, err error)
	system  *types.SystemContext // says where registries.conf is
	access  Access
	podman  map[string]*configfile.ConfigFile // podman's files of credentials that were read, nil for one that is not there
	auth    *auth.Client
	conns   *transports
	backoff backoff
	// trusted are hosts that the user lets be insecure.
	trusted sync.Map

	mu    sync.Mutex
	plain map[string]bool // hosts that were asked whether they speak TLS
}

// New returns a client. It reads no file and opens no connection before it is needed.
func New(o Options) *Client {
	c := &Client{
		docker: o.Docker, ask: o.Credential, system: &types.SystemContext{SystemRegistriesConfPath: o.RegistriesConf}, access: o.Access,
		backoff: backoff(cmp.Or(o.FirstWait, firstWait)), plain: map[string]bool{},
	}
	c.conns = &transports{insecure: c.insecure, access: &c.access, limits: defaultLimits, byHost: map[string]*http.Transport{}}
	c.auth = &auth.Client{
		Client:     &http.Client{Transport: &retrying{c.conns, c.backoff}},
		Cache:      auth.NewCache(),
		Credential: func(ctx context.Context, host string) (auth.Credential, error) { return c.credential(ctx, host, "") },
		ClientID:   "mica",
		Header:     http.Header{"User-Agent": {o.UserAgent}},
	}
	return c
}

// BlockedError says that the configuration forbids a registry.
type BlockedError struct{ Name string }

func (e *BlockedError) Error() string {
	return fmt.Sprintf("registry %s is blocked in %s", e.Name, sysregistriesv2.ConfigurationSourceDescription(nil))
}

// find returns what registries.conf says about a name, nil for nothing.
func (c *Client) find(name string) (*sysregistriesv2.Registry, error) {
	r, err := sysregistriesv2.FindRegistry(c.system, name)
	if err != nil {
		return nil, fmt.Errorf("registries configuration: %w", err)
	}
	if r != nil && r.Blocked {
		return nil, &BlockedError{name}
	}
	return r, nil
}

// endpoints are the names under which an image can be pulled, in the order to try them: mirrors, then the registry itself.
func (c *Client) endpoints(name reference.Named) ([]reference.Named, error) {
	r, err := c.find(name.Name())
	if err != nil {
		return nil, err
	}
	list, err := c.access.mirrorsOf(name)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return append(list, name), nil
	}
	sources, err := r.PullSourcesFromReference(name)
	if err != nil {
		return nil, fmt.Errorf("registries configuration: %w", err)
	}
	for _, s := range sources {
		list = append(list, s.Reference)
	}
	return list, nil
}

// endpointContext is the context of requests to the i-th endpoint.
func endpointContext(ctx context.Context, list []reference.Named, i int) context.Context {
	if i < len(list)-1 {
		return withPatience(ctx, hasty)
	}
	return ctx
}

// primary is the name under which an image is pushed: the registry's own, never a mirror's.
func (c *Client) primary(name reference.Named) (reference.Named, error) {
	list, err := c.endpoints(name)
	if err != nil {
		return nil, err
	}
	return list[len(list)-1], nil
}

// AllowInsecure lets the client speak to a name's registry without TLS, or with a certificate of anybody's, as
// `insecure = true` in registries.conf does. It comes before the first use of that registry.
func (c *Client) AllowInsecure(name reference.Named) { c.trusted.Store(reference.Domain(name), true) }

// insecure reports whether registries.conf lets a host be spoken to without TLS, or with a certificate of anybody's.
func (c *Client) insecure(host string) bool {
	if _, ok := c.trusted.Load(host); ok || c.access.insecure(host) {
		return true
	}
	r, err := sysregistriesv2.FindRegistry(c.system, host)
	if err == nil && r != nil && r.Insecure && hostOf(r.Location) == host {
		return true
	}
	all, err := sysregistriesv2.GetRegistries(c.system)
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

// registry opens a registry as a whole.
func (c *Client) registry(ctx context.Context, host string) (*remote.Registry, error) {
	if _, err := c.find(host); err != nil {
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
