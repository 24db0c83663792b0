package rig

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/micabuild/mica/internal/registry/registrytest"
)

// Token servers and registries know each other by these names.
const (
	tokenIssuer  = "tests"
	tokenService = "registry.tests"
)

// TokenRequest is one that a token server saw.
type TokenRequest struct {
	Method string
	Grant  string // of OAuth2: password, refresh_token; "" for Docker's GET
	User   string // "" for nobody
	Scopes []string
	Status int
}

// TokenServer gives tokens as Docker Hub's does (distribution, docs/spec/auth): by GET with a password, and by OAuth2. User
// may do everything everywhere; anybody may pull from public repositories. Set its fields before it is used.
type TokenServer struct {
	Public  []string // repositories
	Refresh string   // the refresh token that it gives and takes; "": none
	Expires time.Duration

	URL string // its realm
	ca  *Authority

	mu   sync.Mutex
	seen []TokenRequest
}

// NewTokenServer starts one, until the test ends.
func NewTokenServer(t testing.TB) *TokenServer {
	t.Helper()
	ca, err := NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	s := &TokenServer{Expires: 5 * time.Minute, ca: ca}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	s.URL = srv.URL + "/token"
	return s
}

// Seen lists the requests so far.
func (s *TokenServer) Seen() []TokenRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// Forget forgets them.
func (s *TokenServer) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = nil
}

func (s *TokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req := TokenRequest{Method: r.Method, Status: http.StatusOK}
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, f := range r.Form["scope"] {
		req.Scopes = append(req.Scopes, strings.Fields(f)...)
	}
	known := s.who(r, &req)
	if !known || r.Form.Get("service") != tokenService {
		req.Status = http.StatusUnauthorized
	}
	s.mu.Lock()
	s.seen = append(s.seen, req)
	s.mu.Unlock()
	if req.Status != http.StatusOK {
		registrytest.Refuse(w, req.Status, "UNAUTHORIZED")
		return
	}
	token, err := s.token(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	response := map[string]any{"token": token, "access_token": token, "expires_in": int(s.Expires.Seconds()), "issued_at": time.Now().UTC().Format(time.RFC3339)}
	if s.Refresh != "" && (req.Grant != "" || r.Form.Get("offline_token") == "true") {
		response["refresh_token"] = s.Refresh
	}
	registrytest.Reply(w, "application/json", response)
}

// who finds out who asks; false: somebody who is not who he says he is.
func (s *TokenServer) who(r *http.Request, req *TokenRequest) bool {
	if r.Method == http.MethodGet {
		user, password, given := r.BasicAuth()
		req.User = user
		return !given || user == User && password == Password
	}
	req.Grant = r.PostForm.Get("grant_type")
	switch req.Grant {
	case "password":
		req.User = r.PostForm.Get("username")
		return req.User == User && r.PostForm.Get("password") == Password
	case "refresh_token":
		req.User = User
		return s.Refresh != "" && r.PostForm.Get("refresh_token") == s.Refresh
	}
	return false
}

type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// granted is what somebody may do of what was asked for.
func (s *TokenServer) granted(req TokenRequest) []access {
	list := []access{}
	for _, scope := range req.Scopes {
		kind, rest, _ := strings.Cut(scope, ":")
		i := strings.LastIndex(rest, ":")
		if i < 0 {
			continue
		}
		a := access{kind, rest[:i], strings.Split(rest[i+1:], ",")}
		if req.User != User {
			if kind != "repository" || !slices.Contains(s.Public, a.Name) {
				continue
			}
			a.Actions = []string{"pull"}
		}
		list = append(list, a)
	}
	return list
}

// token is a signed JSON Web Token (RFC 7519) with the server's certificate in it.
func (s *TokenServer) token(req TokenRequest) (string, error) {
	now := time.Now()
	header := map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(s.ca.cert.Raw)}}
	claims := map[string]any{
		"iss": tokenIssuer, "aud": tokenService, "sub": req.User, "jti": rand.Text(), "access": s.granted(req),
		"iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(s.Expires).Unix(),
	}
	var parts []string
	for _, part := range []any{header, claims} {
		data, err := json.Marshal(part)
		if err != nil {
			return "", err
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString(data))
	}
	signed := strings.Join(parts, ".")
	sum := sha256.Sum256([]byte(signed))
	signature, err := s.ca.sign(sum[:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), err
}

// StartRegistry starts an empty docker-registry that takes this server's tokens, and keeps its files in dir.
func (s *TokenServer) StartRegistry(dir string) (*Registry, error) {
	roots := filepath.Join(dir, "token.crt")
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.ca.cert.Raw})
	if err := os.WriteFile(roots, data, 0o600); err != nil {
		return nil, err
	}
	return startRegistry(dir, "http", http.DefaultClient, "relativeurls: false", fmt.Sprintf(
		"auth:\n  token: {realm: %q, service: %q, issuer: %q, rootcertbundle: %q}", s.URL, tokenService, tokenIssuer, roots))
}
