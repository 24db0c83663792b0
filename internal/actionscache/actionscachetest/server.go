// Package actionscachetest is the cache service of GitHub Actions and its storage, for tests.
package actionscachetest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// Server is a service with its storage.
type Server struct {
	URL, Token string

	mu      sync.Mutex
	entries []*entry // in the order in which they were made
	fails   int
	breaks  int
}

type entry struct {
	key    string
	blocks map[string][]byte
	data   []byte
	done   bool
}

// New starts a service, with a token that may write the main branch.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	s.URL = h.URL + "/"
	now := time.Now()
	claims, err := json.Marshal(map[string]any{
		"ac": `[{"Scope":"refs/heads/main","Permission":3}]`, "nbf": now.Add(-time.Hour).Unix(), "exp": now.Add(time.Hour).Unix(),
	})
	if err != nil {
		t.Fatal(err)
	}
	part := base64.RawURLEncoding.EncodeToString
	s.Token = part([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + part(claims) + "." + part([]byte("signature"))
	return s
}

// Fail makes the next requests fail with a status that passes.
func (s *Server) Fail(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails = n
}

// Break makes the next downloads break off in the middle of what is left.
func (s *Server) Break(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.breaks = n
}

// Keys returns the keys of the entries that are whole.
func (s *Server) Keys() (keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if e.done {
			keys = append(keys, e.key)
		}
	}
	return keys
}

// Damage replaces the content of all entries whose keys begin with a text.
func (s *Server) Damage(prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if strings.HasPrefix(e.key, prefix) {
			e.data = []byte("damaged")
		}
	}
}

func (s *Server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	method, called := strings.CutPrefix(req.URL.Path, "/twirp/github.actions.results.api.v1.CacheService/")
	w.Header().Set("X-Ms-Request-Id", "1") // Azure's library takes it for granted
	switch {
	case s.fails > 0:
		s.fails--
		w.WriteHeader(http.StatusServiceUnavailable)
	case called && req.Header.Get("Authorization") != "Bearer "+s.Token:
		w.WriteHeader(http.StatusUnauthorized)
	case called:
		s.call(w, method, body)
	case req.URL.Query().Get("sig") != "signed":
		w.WriteHeader(http.StatusForbidden)
	default:
		s.blob(w, req, body)
	}
}

func (s *Server) call(w http.ResponseWriter, method string, body []byte) {
	var in struct {
		Key     string
		Restore []string `json:"restore_keys"`
		Version string
	}
	if json.Unmarshal(body, &in) != nil || in.Version == "" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	out := map[string]any{"ok": false}
	switch e := s.find(in.Key, false); method {
	case "GetCacheEntryDownloadURL":
		for _, k := range append([]string{in.Key}, in.Restore...) {
			if e := s.find(k, true); e != nil {
				out = map[string]any{"ok": true, "matched_key": e.key, "signed_download_url": s.signed(e)}
				break
			}
		}
	case "CreateCacheEntry":
		if e != nil {
			w.WriteHeader(http.StatusConflict)
			out = map[string]any{"code": "already_exists", "msg": "cache entry already exists"}
			break
		}
		e = &entry{key: in.Key, blocks: map[string][]byte{}}
		s.entries = append(s.entries, e)
		out = map[string]any{"ok": true, "signed_upload_url": s.signed(e)}
	case "FinalizeCacheEntryUpload":
		if e != nil {
			e.done = true
			out = map[string]any{"ok": true, "entry_id": "1"}
		}
	}
	_ = json.NewEncoder(w).Encode(out)
}

// find returns an entry; of those that begin with a key and are whole, the newest.
func (s *Server) find(key string, begins bool) (found *entry) {
	for _, e := range s.entries {
		if e.key == key && (e.done || !begins) || begins && e.done && strings.HasPrefix(e.key, key) {
			found = e
		}
	}
	return found
}

func (s *Server) signed(e *entry) string {
	return fmt.Sprintf("%sblobs/%s?sig=signed", s.URL, base64.RawURLEncoding.EncodeToString([]byte(e.key)))
}

// breaking is a response that ends after some bytes.
type breaking struct {
	http.ResponseWriter
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	n, err := b.ResponseWriter.Write(p[:min(len(p), b.left)])
	if b.left -= n; b.left == 0 {
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// blob is what Azure's storage does: Put Block, Put Block List, Put Blob, Get Blob.
func (s *Server) blob(w http.ResponseWriter, req *http.Request, body []byte) {
	key, _ := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(req.URL.Path, "/blobs/"))
	e := s.find(string(key), false)
	q := req.URL.Query()
	switch {
	case e == nil:
		w.WriteHeader(http.StatusNotFound)
	case req.Method == http.MethodGet:
		if r := req.Header.Get("X-Ms-Range"); r != "" {
			req.Header.Set("Range", r)
		}
		if s.breaks > 0 {
			s.breaks--
			w = &breaking{w, len(e.data) / 4}
		}
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(e.data))
	case q.Get("comp") == "block":
		e.blocks[q.Get("blockid")] = body
		w.WriteHeader(http.StatusCreated)
	case q.Get("comp") == "blocklist":
		var list struct{ Latest []string }
		if xml.Unmarshal(body, &list) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		e.data = nil
		for _, id := range list.Latest {
			e.data = append(e.data, e.blocks[id]...)
		}
		w.WriteHeader(http.StatusCreated)
	case req.Header.Get("X-Ms-Blob-Type") == "BlockBlob":
		e.data = body
		w.WriteHeader(http.StatusCreated)
	default:
		w.WriteHeader(http.StatusBadRequest)
	}
}
