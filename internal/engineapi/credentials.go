package engineapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/distribution/reference"
	configtypes "github.com/docker/cli/cli/config/types"
	apiregistry "github.com/moby/moby/api/types/registry"

	"github.com/micabuild/mica/internal/registry"
)

// credentials finds what a request brings for a registry.
type credentials func(host string) configtypes.AuthConfig

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
