package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/micabuild/mica/internal/hostfiles"
)

// dockerHub is how the files of credentials call Docker Hub.
const dockerHub = "https://index.docker.io/v1/"

// serverKey is what docker's configuration calls a registry.
func serverKey(host string) string {
	switch host {
	case "docker.io", "index.docker.io", "registry-1.docker.io":
		return dockerHub
	}
	return host
}

// Credential returns the credentials for a registry, for one that pulls and pushes on behalf of this client: empty for none, a user of ""
// for an identity token.
func (c *Client) Credential(ctx context.Context, host string) (user, secret string, err error) {
	cred, err := c.credential(ctx, host, "")
	if err != nil || cred.Username == "" {
		return "", cred.RefreshToken, err
	}
	return cred.Username, cred.Password, nil
}

// credential finds the credentials for a repository of a registry: docker's, through its helpers, then podman's.
func (c *Client) credential(ctx context.Context, host, repository string) (auth.Credential, error) {
	if c.ask != nil {
		user, secret, err := c.ask(ctx, host)
		switch {
		case err != nil:
			return auth.EmptyCredential, fmt.Errorf("credentials of %s: %w", host, err)
		case user == "":
			return auth.Credential{RefreshToken: secret}, nil
		}
		return auth.Credential{Username: user, Password: secret}, nil
	}
	key := serverKey(host)
	if c.docker != nil {
		cred, err := configured(ctx, c.docker, key)
		if err != nil {
			return auth.EmptyCredential, fmt.Errorf("credentials of %s: %w", host, err)
		}
		if cred != auth.EmptyCredential {
			return cred, nil
		}
	}
	for _, file := range podmanFiles() {
		cred, err := c.podmanCredential(ctx, file, host, repository)
		if err != nil {
			return auth.EmptyCredential, fmt.Errorf("credentials of %s: %s: %w", host, file, err)
		}
		if cred != auth.EmptyCredential {
			return cred, nil
		}
	}
	return auth.EmptyCredential, nil
}

func credentialOf(a types.AuthConfig) auth.Credential {
	cred := auth.Credential{Username: a.Username, Password: a.Password, RefreshToken: a.IdentityToken, AccessToken: a.RegistryToken}
	if a.Username == "<token>" { // what helpers call an identity token
		cred = auth.Credential{RefreshToken: a.Password}
	}
	return cred
}

// podmanFiles are the places of containers-auth.json(5).
func podmanFiles() []string {
	var files []string
	if f := os.Getenv("REGISTRY_AUTH_FILE"); f != "" {
		return append(files, f)
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		files = append(files, filepath.Join(dir, "containers", "auth.json"))
	} else {
		files = append(files, fmt.Sprintf("/run/containers/%d/auth.json", os.Getuid()))
	}
	if dir, err := os.UserConfigDir(); err == nil {
		files = append(files, filepath.Join(dir, "containers", "auth.json"))
	}
	return files
}

// configured is the credential that a file of docker's form has for a key, or the helper that the file names for it.
func configured(ctx context.Context, config *configfile.ConfigFile, key string) (cred auth.Credential, err error) {
	get := func() error {
		got, err := config.GetAuthConfig(key)
		cred = credentialOf(got)
		return err
	}
	if config.CredentialsStore == "" && config.CredentialHelpers[key] == "" {
		return cred, get()
	}
	err = hostfiles.With(ctx, get)
	return cred, err
}

// podmanFile is one of podman's files, which has docker's form; nil if it cannot be read.
func podmanFile(file string) (*configfile.ConfigFile, error) {
	f, err := os.Open(file)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
			return nil, nil
		}
		return nil, err
	}
	defer func() { _ = f.Close() }()
	config := configfile.New(file)
	if err := config.LoadFromReader(io.LimitReader(f, MaxManifest)); err != nil {
		return nil, err
	}
	return config, nil
}

// ReadHostFiles reads registries.conf(5) and the files of credentials, once and for all: what this host's root directory has later does not count.
func (c *Client) ReadHostFiles() error {
	if _, err := sysregistriesv2.GetRegistries(c.system); err != nil { // the package keeps them
		return fmt.Errorf("registries configuration: %w", err)
	}
	c.podman = map[string]*configfile.ConfigFile{}
	for _, file := range podmanFiles() {
		config, err := podmanFile(file)
		if err != nil {
			return fmt.Errorf("credentials: %s: %w", file, err)
		}
		c.podman[file] = config
	}
	return nil
}

// podmanCredential is that of one of podman's files. A key may be longer than a registry's name ("quay.io/team"): the longest one that the repository
// begins with counts.
func (c *Client) podmanCredential(ctx context.Context, file, host, repository string) (auth.Credential, error) {
	config, read := c.podman[file]
	if !read {
		var err error
		if config, err = podmanFile(file); err != nil {
			return auth.EmptyCredential, err
		}
	}
	if config == nil {
		return auth.EmptyCredential, nil
	}
	name := host
	if serverKey(host) == dockerHub {
		name = "docker.io"
	}
	for key := name + "/" + repository; key != "."; key = path.Dir(key) {
		if entry, ok := config.AuthConfigs[key]; ok {
			return credentialOf(entry), nil
		}
	}
	for _, key := range []string{name, serverKey(host)} {
		cred, err := configured(ctx, config, key)
		if err != nil || cred != auth.EmptyCredential {
			return cred, err
		}
	}
	return auth.EmptyCredential, nil
}
