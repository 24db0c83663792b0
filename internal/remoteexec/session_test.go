package remoteexec

import (
	"context"
	"testing"

	"github.com/moby/buildkit/session/auth"
)

// A server gets the credentials for the registry of the repository, and for no other.
func TestCredentials(t *testing.T) {
	t.Parallel()
	get := func(_ context.Context, host string) (user, secret string, err error) {
		return "user", "secret of " + host, nil
	}
	for repository, hosts := range map[string]map[string]bool{
		"r.example.com:5000/a/b": {"r.example.com:5000": true, "r.example.com": false, "docker.io": false, "": false},
		"docker.io/library/x":    {"registry-1.docker.io": true, "https://index.docker.io/v1/": true, "r.example.com": false},
	} {
		s := &authServer{c: &credentialsOf{repository, get}}
		for host, want := range hosts {
			got, err := s.Credentials(t.Context(), &auth.CredentialsRequest{Host: host})
			if err != nil || (got.Secret == "secret of "+host) != want || !want && got.Username+got.Secret != "" {
				t.Errorf("for %s, %q gets %v, %v", repository, host, got, err)
			}
		}
	}
}
