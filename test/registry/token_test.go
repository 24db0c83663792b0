//go:build e2e

package registry

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/test/rig"
)

// withTokens starts a docker-registry that takes the tokens of a server, with one public repository.
func withTokens(t *testing.T) (*rig.TokenServer, string) {
	t.Helper()
	s := rig.NewTokenServer(t)
	s.Public = []string{"public/app"}
	r, err := s.StartRegistry(rig.TempDir(t))
	return s, started(t, r, err)
}

// askedFor lists the scopes that a token server was asked for.
func askedFor(s *rig.TokenServer) []string {
	var all []string
	for _, r := range s.Seen() {
		all = append(all, r.Scopes...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestTokensOfAServer(t *testing.T) {
	s, addr := withTokens(t)
	public, private := addr+"/public/app:1", addr+"/private/app:1"
	c := newClient(t)
	c.build("one", public, private)
	c.refuses(`denied`, "push", public)
	if out := c.login(addr, "wrong"); out.Code != 1 {
		t.Errorf("a wrong password: exit code %d, %q", out.Code, out.Stdout)
	}
	if out := c.login(addr, rig.Password); out.Code != 0 {
		t.Fatalf("login: %s", out.Stderr)
	}
	s.Forget()
	d := digestIn(t, c.says("push", public))
	for _, scope := range askedFor(s) {
		if !strings.HasPrefix(scope, "repository:public/app:") {
			t.Errorf("a push to public/app asks for %s", scope)
		}
	}
	c.says("push", private)

	nobody := newClient(t)
	s.Forget()
	nobody.mustSay(`Digest: `+d, "pull", public)
	if got := askedFor(s); !slices.Equal(got, []string{"repository:public/app:pull"}) {
		t.Errorf("a pull of public/app asks for %v", got)
	}
	for _, r := range s.Seen() {
		if r.User != "" {
			t.Errorf("somebody asks: %+v", r)
		}
	}
	nobody.refuses(`denied.*private/app|private/app.*denied`, "pull", private)
	nobody.refuses(`denied`, "tags", addr+"/private/app")
	nobody.Run("tag", public, addr+"/public/app:2")
	nobody.refuses(`denied`, "push", addr+"/public/app:2")

	other := newClient(t)
	if out := other.login(addr, rig.Password); out.Code != 0 {
		t.Fatalf("login: %s", out.Stderr)
	}
	other.mustSay(`Digest: `, "pull", private)
	if got := other.Run("tags", addr+"/private/app"); got != "1\n" {
		t.Errorf("tags: %q", got)
	}
	other.Run("logout", addr)
	other.refuses(`denied`, "pull", private)
}

// TestRefreshToken: the identity token of docker login is exchanged for others; no password is kept or sent.
func TestRefreshToken(t *testing.T) {
	s, addr := withTokens(t)
	s.Refresh = "refresh-me"
	c := newClient(t)
	c.build("one", addr+"/private/app:1")
	c.write("docker/config.json", fmt.Sprintf(`{"auths":{%q:{"auth":%q,"identitytoken":"refresh-me"}}}`, addr, basic("00000000-0000-0000-0000-000000000000", "")))
	d := digestIn(t, c.says("push", addr+"/private/app:1"))
	c.Run("rmi", addr+"/private/app:1")
	c.mustSay(`Digest: `+d, "pull", addr+"/private/app:1")
	for _, r := range s.Seen() {
		if r.Grant != "refresh_token" {
			t.Errorf("asked by %+v", r)
		}
	}
	if len(s.Seen()) == 0 {
		t.Error("nobody asked for a token")
	}
	c.write("docker/config.json", fmt.Sprintf(`{"auths":{%q:{"identitytoken":"forged"}}}`, addr))
	c.refuses(`denied|authentication|unauthorized`, "pull", addr+"/private/app:1")
}

// TestExpiredTokenIsRenewed: a registry that no longer takes a token is given a new one, in the middle of a pull.
func TestExpiredTokenIsRenewed(t *testing.T) {
	s, addr := withTokens(t)
	s.Expires = time.Hour
	c := newClient(t)
	p := registrytest.NewProxy(t, registrytest.Forward(addr))
	c.write("docker/config.json", authFile(addr, rig.User, rig.Password))
	c.build("one", addr+"/public/app:1")
	c.Run("push", "-q", addr+"/public/app:1")
	challenge := fmt.Sprintf(`Bearer realm=%q,service="registry.tests",scope="repository:public/app:pull",error="invalid_token"`, s.URL)
	s.Forget()
	p.Misbehave(func(r registrytest.Request) registrytest.Fault {
		if r.Kind == registrytest.Blob && r.Method == http.MethodGet && r.Nth == 2 {
			return registrytest.Status(401, "WWW-Authenticate", challenge)
		}
		return nil
	})
	newClient(t).Run("pull", "-q", p.Addr+"/public/app:1")
	if n := len(s.Seen()); n < 2 {
		t.Errorf("%d tokens were asked for", n)
	}
}
