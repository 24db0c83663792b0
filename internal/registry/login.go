package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/docker/cli/cli/config/types"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// Login checks a user name and password with a registry, and keeps them where docker would: in its configuration file or
// the helper that it names. Docker's library warns on stderr of a password in a file.
func (c *Client) Login(ctx context.Context, host, user, password string) error {
	if err := c.check(ctx, host, auth.Credential{Username: user, Password: password}); err != nil {
		return err
	}
	key := serverKey(host)
	entry := types.AuthConfig{Username: user, Password: password, ServerAddress: key}
	if err := c.docker.GetCredentialsStore(key).Store(entry); err != nil {
		return fmt.Errorf("save credentials: %w", err)
	}
	return nil
}

// CheckLogin asks a registry whether it takes a user's name and password, or identity token. It keeps neither.
func (c *Client) CheckLogin(ctx context.Context, host string, a types.AuthConfig) error {
	return c.check(ctx, host, credentialOf(a))
}

// check asks a registry whether it takes a credential.
func (c *Client) check(ctx context.Context, host string, cred auth.Credential) error {
	reg, err := c.registry(ctx, host)
	if err != nil {
		return err
	}
	asked := *c.auth
	asked.Cache = auth.NewCache()
	asked.Credential = auth.StaticCredential(reg.Reference.Host(), cred)
	reg.Client = &asked
	if err := reg.Ping(ctx); err != nil {
		return loginError(host, err)
	}
	return nil
}

// LoginError is the error of a registry that refuses a login, in Docker's words.
type LoginError struct {
	Host   string
	Status int
}

func (e *LoginError) Error() string {
	return fmt.Sprintf("login attempt to https://%s/v2/ failed with status: %d %s", e.Host, e.Status, http.StatusText(e.Status))
}

func loginError(host string, err error) error {
	var resp *errcode.ErrorResponse
	if errors.As(err, &resp) && (resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden) {
		return &LoginError{host, resp.StatusCode}
	}
	return Explain(host, err)
}

// Known returns the user name that is kept for a registry, "" for none.
func (c *Client) Known(host string) (string, error) {
	got, err := c.docker.GetAuthConfig(serverKey(host))
	return got.Username, err
}

// CheckKnown asks a registry whether it takes the credentials that are kept for it.
func (c *Client) CheckKnown(ctx context.Context, host string) error {
	got, err := c.docker.GetAuthConfig(serverKey(host))
	if err != nil {
		return err
	}
	return c.check(ctx, host, credentialOf(got))
}

// Logout forgets a registry's credentials; known is false where there were none.
func (c *Client) Logout(host string) (known bool, err error) {
	key := serverKey(host)
	got, err := c.docker.GetAuthConfig(key)
	if err != nil {
		return false, fmt.Errorf("credentials of %s: %w", host, err)
	}
	if err := c.docker.GetCredentialsStore(key).Erase(key); err != nil {
		return false, fmt.Errorf("forget credentials: %w", err)
	}
	return got.Username != "" || got.IdentityToken != "", nil
}
