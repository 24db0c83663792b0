package registry_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"

	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/registry/registrytest"
)

func withPassword(t *testing.T) *registrytest.Server {
	m := registrytest.New(t)
	putImage(m, "team/app")
	m.Misbehave(registrytest.Password("alice", "secret"))
	return m
}

func authFile(key, user, password string) string {
	return fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, key, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

// TestCredentials from docker's configuration and podman's files. It sets the environment.
func TestCredentials(t *testing.T) {
	m := withPassword(t)
	for name, test := range map[string]struct {
		docker map[string]types.AuthConfig
		podman string
		want   string // of the error; "" for none
	}{
		"none":                      {nil, "", "denied"},
		"docker":                    {map[string]types.AuthConfig{m.Addr: {Username: "alice", Password: "secret"}}, "", ""},
		"docker, wrong":             {map[string]types.AuthConfig{m.Addr: {Username: "alice", Password: "x"}}, "", "denied"},
		"podman":                    {nil, authFile(m.Addr, "alice", "secret"), ""},
		"podman, for a repository":  {nil, authFile(m.Addr+"/team/app", "alice", "secret"), ""},
		"podman, for a namespace":   {nil, authFile(m.Addr+"/team", "alice", "secret"), ""},
		"podman, another registry":  {nil, authFile("example.com", "alice", "secret"), "denied"},
		"docker counts":             {map[string]types.AuthConfig{m.Addr: {Username: "alice", Password: "secret"}}, authFile(m.Addr, "alice", "x"), ""},
		"podman's file is damaged":  {nil, "{", "credentials"},
		"token of another registry": {map[string]types.AuthConfig{"example.com": {IdentityToken: "x"}}, "", "denied"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "auth.json")
			if test.podman != "" {
				if err := os.WriteFile(file, []byte(test.podman), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("REGISTRY_AUTH_FILE", file)
			docker := configfile.New("")
			for host, a := range test.docker {
				docker.AuthConfigs[host] = a
			}
			_, err := fetch(t, registry.New(registry.Options{Docker: docker, RegistriesConf: os.DevNull, FirstWait: time.Millisecond}), m.Name("team/app:1"))
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	m := withPassword(t)
	docker := configfile.New(filepath.Join(t.TempDir(), "config.json"))
	c := registry.New(registry.Options{Docker: docker, RegistriesConf: os.DevNull, FirstWait: time.Millisecond})
	if err := c.Login(t.Context(), m.Addr, "alice", "wrong"); err == nil || !strings.Contains(err.Error(), "401 Unauthorized") {
		t.Errorf("with a wrong password: %v", err)
	}
	if user, err := c.Known(m.Addr); user != "" || err != nil {
		t.Errorf("after a login that failed: %q, %v", user, err)
	}
	if err := c.Login(t.Context(), m.Addr, "alice", "secret"); err != nil {
		t.Fatal(err)
	}
	if user, err := c.Known(m.Addr); user != "alice" || err != nil {
		t.Errorf("known is %q, %v", user, err)
	}
	if err := c.CheckKnown(t.Context(), m.Addr); err != nil {
		t.Error(err)
	}
	if _, err := fetch(t, c, m.Name("team/app:1")); err != nil {
		t.Error(err)
	}
	for _, want := range []bool{true, false} {
		if known, err := c.Logout(m.Addr); known != want || err != nil {
			t.Errorf("logout: %v, %v", known, err)
		}
	}
	var denied *registry.DeniedError
	again := registry.New(registry.Options{Docker: docker, RegistriesConf: os.DevNull, FirstWait: time.Millisecond})
	if _, err := fetch(t, again, m.Name("team/app:1")); !errors.As(err, &denied) || denied.Host != m.Addr {
		t.Errorf("after logout: %v", err)
	}
}

// TestTokens: a token is requested for a repository with a password, and used.
func TestTokens(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	putImage(m, "team/app")
	var scopes []string
	m.Misbehave(func(registrytest.Request) registrytest.Fault {
		return func(w http.ResponseWriter, req *http.Request, next http.Handler) {
			switch {
			case req.URL.Path == "/token":
				user, password, _ := req.BasicAuth()
				if user != "alice" || password != "secret" {
					registrytest.Refuse(w, http.StatusUnauthorized, "UNAUTHORIZED")
					return
				}
				scopes = append(scopes, req.URL.Query().Get("scope"))
				registrytest.Reply(w, "application/json", map[string]string{"token": "good"})
			case req.Header.Get("Authorization") != "Bearer good":
				registrytest.Status(401, "WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="x"`, m.Addr))(w, req, next)
			default:
				next.ServeHTTP(w, req)
			}
		}
	})
	docker := configfile.New("")
	docker.AuthConfigs[m.Addr] = types.AuthConfig{Username: "alice", Password: "secret"}
	c := registry.New(registry.Options{Docker: docker, RegistriesConf: os.DevNull, FirstWait: time.Millisecond})
	if _, err := fetch(t, c, m.Name("team/app:1")); err != nil {
		t.Fatal(err)
	}
	if len(scopes) != 1 || scopes[0] != "repository:team/app:pull" {
		t.Errorf("scopes %v", scopes)
	}
	delete(docker.AuthConfigs, m.Addr)
	var denied *registry.DeniedError
	other := registry.New(registry.Options{Docker: docker, RegistriesConf: os.DevNull, FirstWait: time.Millisecond})
	if _, err := fetch(t, other, m.Name("team/app:1")); !errors.As(err, &denied) {
		t.Errorf("without a password: %v", err)
	}
}
