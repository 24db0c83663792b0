//go:build e2e

package remote

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/micabuild/mica/test/rig"
)

// authority is a CA of the test's own, with a certificate for loopback.
type authority struct {
	ca, cert, key string // files
	signer        *ecdsa.PrivateKey
	der           []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	dir := rig.TempDir(t)
	a := &authority{ca: dir + "/ca.crt", cert: dir + "/server.crt", key: dir + "/server.key"}
	caKey, caDER := certificate(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a CA of the test"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}, nil, nil)
	ca, err := x509.ParseCertificate(caDER)
	if err != nil {
		t.Fatal(err)
	}
	a.signer, a.der = certificate(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, caKey)
	keyDER, err := x509.MarshalECPrivateKey(a.signer)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.ca, "CERTIFICATE", caDER)
	writePEM(t, a.cert, "CERTIFICATE", a.der)
	writePEM(t, a.key, "EC PRIVATE KEY", keyDER)
	return a
}

func certificate(t *testing.T, c, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	if parent == nil {
		parent, parentKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// secured starts a docker-registry with further settings.
func secured(t *testing.T, scheme, settings string) string {
	t.Helper()
	r, err := rig.StartRegistryWith(rig.TempDir(t), scheme, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
	return r.Addr
}

// TestPasswordsOverTLS: a registry with a CA of its own and passwords. Without the CA nothing is sent; without a password,
// or with a wrong one, it is said what to do; login keeps the right one where docker does, logout forgets it.
func TestPasswordsOverTLS(t *testing.T) {
	a := newAuthority(t)
	hash, err := bcrypt.GenerateFromPassword([]byte("s3cret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	users := rig.TempDir(t) + "/htpasswd"
	if err := os.WriteFile(users, []byte("ann:"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := secured(t, "https", fmt.Sprintf("  tls: {certificate: %s, key: %s}\nauth: {htpasswd: {realm: test, path: %s}}\n", a.cert, a.key, users))
	config := rig.TempDir(t)
	m := built(t, addr+"/app:1")
	m.Env = append(m.Env, "DOCKER_CONFIG="+config, "HOME="+config)
	says := func(want string, args ...string) {
		t.Helper()
		out := m.Try(strings.NewReader(""), args...)
		if out.Code != 1 || !strings.Contains(out.Stderr, want) {
			t.Errorf("%v: exit code %d, says %q, want %q", args, out.Code, out.Stderr, want)
		}
	}
	says("certificate signed by unknown authority", "push", addr+"/app:1")
	certs := filepath.Join(config, ".config", "containers", "certs.d", addr)
	if err := os.MkdirAll(certs, 0o755); err != nil {
		t.Fatal(err)
	}
	rig.Must(t, "cp", a.ca, certs)
	says("needs 'mica login "+addr+"'", "push", addr+"/app:1")
	says("401 Unauthorized", "login", "-u", "ann", "-p", "wrong", addr)
	says("non TTY", "login", addr)
	says("Must provide --username", "login", "--password-stdin", addr)
	if out := m.RunIn(strings.NewReader("s3cret\n"), "login", "-u", "ann", "--password-stdin", addr); out != "Login Succeeded\n" {
		t.Errorf("login says %q", out)
	}
	var saved struct {
		Auths map[string]struct{ Auth string }
	}
	data, err := os.ReadFile(config + "/config.json")
	if err != nil || json.Unmarshal(data, &saved) != nil {
		t.Fatalf("docker's configuration: %v %s", err, data)
	}
	if got := saved.Auths[addr].Auth; got != base64.StdEncoding.EncodeToString([]byte("ann:s3cret")) {
		t.Errorf("saved: %s", data)
	}
	m.Run("push", "-q", addr+"/app:1")
	m.Run("login", addr) // with what is there
	m.Run("pull", "-q", addr+"/app:1")
	m.Run("logout", addr)
	says("needs 'mica login", "pull", addr+"/app:1")

	// Podman's file, and a helper that docker's names, serve as well.
	podman := config + "/auth.json"
	entry := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, addr+"/app", base64.StdEncoding.EncodeToString([]byte("ann:s3cret")))
	if err := os.WriteFile(podman, []byte(entry), 0o600); err != nil {
		t.Fatal(err)
	}
	m.Env = append(m.Env, "REGISTRY_AUTH_FILE="+podman)
	m.Run("pull", "-q", addr+"/app:1")
	m.Env = m.Env[:len(m.Env)-1]
	helper := "#!/bin/sh\nread server\nprintf '{\"ServerURL\":\"%s\",\"Username\":\"ann\",\"Secret\":\"s3cret\"}' \"$server\"\n"
	if err := os.WriteFile(config+"/docker-credential-test", []byte(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config+"/config.json", []byte(fmt.Sprintf(`{"credHelpers":{%q:"test"}}`, addr)), 0o600); err != nil {
		t.Fatal(err)
	}
	m.Env = append(m.Env, "PATH="+config+":"+os.Getenv("PATH"))
	m.Run("pull", "-q", addr+"/app:1")
}

// tokens is a token server (distribution, "Token Authentication"): ann may do everything, anybody may pull repositories
// whose names begin with "public/".
type tokens struct {
	a *authority

	mu     sync.Mutex
	scopes []string
	grants []string
}

func (s *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	user, password, _ := r.BasicAuth()
	grant := "basic"
	if r.Method == http.MethodPost {
		grant = r.Form.Get("grant_type")
		user, password = r.Form.Get("username"), r.Form.Get("password")
		if r.Form.Get("refresh_token") == "refresh-ann" {
			user, password = "ann", "s3cret"
		}
	}
	scopes := strings.Fields(strings.Join(r.Form["scope"], " "))
	s.mu.Lock()
	s.scopes, s.grants = append(s.scopes, scopes...), append(s.grants, grant)
	s.mu.Unlock()
	if user != "" && (user != "ann" || password != "s3cret") {
		http.Error(w, `{"details":"incorrect username or password"}`, http.StatusUnauthorized)
		return
	}
	access := []any{}
	for _, scope := range scopes {
		part := strings.SplitN(scope, ":", 3)
		actions := strings.Split(part[2], ",")
		if user == "" {
			if !strings.HasPrefix(part[1], "public/") {
				continue
			}
			actions = []string{"pull"}
		}
		access = append(access, map[string]any{"type": part[0], "name": part[1], "actions": actions})
	}
	token := s.sign(access, user)
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "access_token": token, "expires_in": 300})
}

// sign makes a JSON Web Token that docker-registry takes: ES256, the certificate in its header.
func (s *tokens) sign(access []any, user string) string {
	part := func(v any) string {
		data, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(data)
	}
	now := time.Now().Unix()
	text := part(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(s.a.der)}}) + "." +
		part(map[string]any{
			"iss": "test", "sub": user, "aud": "reg", "exp": now + 300, "nbf": now - 10, "iat": now - 10, "jti": fmt.Sprint(now), "access": access,
		})
	hash := sha256.Sum256([]byte(text))
	x, y, err := ecdsa.Sign(rand.Reader, s.a.signer, hash[:])
	if err != nil {
		return ""
	}
	signature := make([]byte, 64)
	x.FillBytes(signature[:32])
	y.FillBytes(signature[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// TestTokens: anonymous first, a scope for each repository, and identity tokens.
func TestTokens(t *testing.T) {
	s := &tokens{a: newAuthority(t)}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	addr := secured(t, "http", fmt.Sprintf("auth: {token: {realm: %q, service: reg, issuer: test, rootcertbundle: %s}}\n", srv.URL, s.a.ca))
	config := rig.TempDir(t)
	m := built(t, addr+"/public/app:1", addr+"/team/app:1")
	m.Env = append(m.Env, "DOCKER_CONFIG="+config)
	if out := m.Try(nil, "push", addr+"/public/app:1"); out.Code != 1 || !strings.Contains(out.Stderr, "mica login") {
		t.Errorf("an anonymous push: %d %s", out.Code, out.Stderr)
	}
	m.RunIn(strings.NewReader("s3cret"), "login", "-u", "ann", "--password-stdin", addr)
	m.Run("push", "-q", addr+"/public/app:1")
	m.Run("push", "-q", addr+"/team/app:1")
	s.mu.Lock()
	for _, scope := range s.scopes {
		if part := strings.SplitN(scope, ":", 3); part[0] != "repository" || part[1] != "public/app" && part[1] != "team/app" {
			t.Errorf("asked for the scope %s", scope)
		}
	}
	s.scopes = nil
	s.mu.Unlock()

	anybody := rig.NewMica(t)
	anybody.Env = append(anybody.Env, "DOCKER_CONFIG="+rig.TempDir(t))
	anybody.Run("pull", "-q", addr+"/public/app:1")
	if out := anybody.Try(nil, "pull", addr+"/team/app:1"); out.Code != 1 || !strings.Contains(out.Stderr, "denied") {
		t.Errorf("an anonymous pull of what is private: %d %s", out.Code, out.Stderr)
	}
	// A name that was logged in with by an identity token.
	identity := rig.TempDir(t)
	file := fmt.Sprintf(`{"auths":{%q:{"auth":%q,"identitytoken":"refresh-ann"}}}`, addr, base64.StdEncoding.EncodeToString([]byte("00000000-0000-0000-0000-000000000000:")))
	if err := os.WriteFile(identity+"/config.json", []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	anybody.Env = append(anybody.Env, "DOCKER_CONFIG="+identity)
	anybody.Run("pull", "-q", addr+"/team/app:1")
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := s.grants[len(s.grants)-1]; got != "refresh_token" {
		t.Errorf("the identity token was used by grant %q", got)
	}
}

// TestRegistriesConf: mirrors, hosts without TLS, and blocked ones, as containers-registries.conf(5) has them.
func TestRegistriesConf(t *testing.T) {
	f := newFake(t)
	f.image("mirror/app", "1", nil, nil, noise(t, 10_000))
	conf := rig.TempDir(t) + "/registries.conf"
	text := fmt.Sprintf(`
[[registry]]
prefix = "example.invalid/team"
location = "example.invalid/team"
[[registry.mirror]]
location = "127.0.0.1:1/nobody"
[[registry.mirror]]
location = "%s/mirror"

[[registry]]
location = "blocked.invalid"
blocked = true
`, f.host())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m := rig.NewMica(t)
	m.Env = append(m.Env, "CONTAINERS_REGISTRIES_CONF="+conf)
	m.Run("pull", "-q", "example.invalid/team/app:1")
	if got := m.Run("images", "--format", "{{.Repository}}:{{.Tag}}"); got != "example.invalid/team/app:1\n" {
		t.Errorf("by a mirror comes %q", got)
	}
	for args, want := range map[string]string{
		"pull blocked.invalid/x":          "blocked.invalid/x is blocked in",
		"tags blocked.invalid/x":          "is blocked in",
		"catalog blocked.invalid":         "is blocked in",
		"login -u a -p b blocked.invalid": "is blocked in",
	} {
		if out := m.Try(nil, strings.Fields(args)...); out.Code != 1 || !strings.Contains(out.Stderr, want) {
			t.Errorf("%s: %d %s", args, out.Code, out.Stderr)
		}
	}
	if err := os.WriteFile(conf, []byte("[[registry\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := m.Try(nil, "pull", "example.invalid/x"); out.Code != 1 || !strings.Contains(out.Stderr, "registries") {
		t.Errorf("with a broken file: %d %s", out.Code, out.Stderr)
	}
}
