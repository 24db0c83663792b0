// Package azurecachetest is a storage account of Azure with its block blobs, in memory, for tests.
package azurecachetest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Account is the name of the account.
const Account = "account"

// Server is an account. Requests are signed with its key, or have its signature in the URL.
type Server struct {
	// URL is that of the account, Key its key, SAS a query with a shared access signature.
	URL, Key, SAS string
	// Fault returns the code of an error for a request, "" for none.
	Fault func(*http.Request) string

	mu         sync.Mutex
	containers map[string]bool
	blobs      map[string][]byte
	blocks     map[string]map[string][]byte
}

// New starts a service without containers.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{
		Key: base64.StdEncoding.EncodeToString([]byte("verysecretkey")), SAS: "sv=2021-12-02&sp=rwc&sig=verysecretsignature%2B%3D",
		containers: map[string]bool{}, blobs: map[string][]byte{}, blocks: map[string]map[string][]byte{},
	}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	s.URL = h.URL + "/" + Account
	return s
}

// Blobs returns the names of all blobs, each after its container.
func (s *Server) Blobs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.blobs))
}

// Damage replaces the content of all blobs whose names begin with a text by zeros.
func (s *Server) Damage(prefix string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, data := range s.blobs {
		if strings.HasPrefix(name, prefix) {
			s.blobs[name] = make([]byte, len(data))
			n++
		}
	}
	return n
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("X-Ms-Request-Id", "1") // Azure's library takes it for granted
	w.Header().Set("X-Ms-Version", r.Header.Get("X-Ms-Version"))
	name, ok := strings.CutPrefix(r.URL.Path, "/"+Account+"/")
	container, _, isBlob := strings.Cut(name, "/")
	code := ""
	if s.Fault != nil {
		code = s.Fault(r)
	}
	switch {
	case code != "":
		refuse(w, code)
	case !ok || r.Header.Get("X-Ms-Version") == "" || !s.signed(r):
		refuse(w, "AuthenticationFailed")
	case r.URL.Query().Get("restype") == "container":
		s.container(w, r, container)
	case !s.containers[container]:
		refuse(w, "ContainerNotFound")
	case !isBlob:
		refuse(w, "InvalidUri")
	case r.Method == http.MethodPut:
		s.put(w, r, name, body)
	default:
		s.get(w, r, name)
	}
}

// signed verifies the signature of a request.
func (s *Server) signed(r *http.Request) bool {
	if r.URL.Query().Get("sig") == "verysecretsignature+=" {
		return r.Header.Get("Authorization") == ""
	}
	var text strings.Builder
	text.WriteString(r.Method)
	length := r.Header.Get("Content-Length")
	if r.ContentLength > 0 {
		length = fmt.Sprint(r.ContentLength)
	}
	get := r.Header.Get
	for _, v := range []string{
		get("Content-Encoding"), get("Content-Language"), strings.TrimPrefix(length, "0"), get("Content-MD5"), get("Content-Type"), get("Date"),
		get("If-Modified-Since"), get("If-Match"), get("If-None-Match"), get("If-Unmodified-Since"), get("Range"),
	} {
		text.WriteString("\n" + v)
	}
	for _, k := range slices.Sorted(maps.Keys(r.Header)) {
		if strings.HasPrefix(k, "X-Ms-") {
			text.WriteString("\n" + strings.ToLower(k) + ":" + get(k))
		}
	}
	path, query, _ := strings.Cut(r.RequestURI, "?") // the bytes that were sent
	text.WriteString("\n/" + Account + path)
	if query != "" {
		q := r.URL.Query()
		for _, k := range slices.Sorted(maps.Keys(q)) {
			text.WriteString("\n" + k + ":" + q.Get(k))
		}
	}
	key, _ := base64.StdEncoding.DecodeString(s.Key)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text.String()))
	return get("Authorization") == "SharedKey "+Account+":"+base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func (s *Server) container(w http.ResponseWriter, r *http.Request, name string) {
	switch {
	case r.Method == http.MethodPut && s.containers[name]:
		refuse(w, "ContainerAlreadyExists")
	case r.Method == http.MethodPut:
		s.containers[name] = true
		w.WriteHeader(http.StatusCreated)
	case !s.containers[name]:
		refuse(w, "ContainerNotFound")
	}
}

// put is Put Blob, Put Block and Put Block List.
func (s *Server) put(w http.ResponseWriter, r *http.Request, name string, body []byte) {
	q := r.URL.Query()
	_, exists := s.blobs[name]
	switch {
	case q.Get("comp") != "block" && r.Header.Get("If-None-Match") == "*" && exists:
		refuse(w, "BlobAlreadyExists")
		return
	case q.Get("comp") == "block":
		if s.blocks[name] == nil {
			s.blocks[name] = map[string][]byte{}
		}
		for id := range s.blocks[name] {
			if len(id) != len(q.Get("blockid")) {
				refuse(w, "InvalidBlobOrBlock")
				return
			}
		}
		s.blocks[name][q.Get("blockid")] = body
	case q.Get("comp") == "blocklist":
		var list struct{ Latest []string }
		data := []byte{}
		err := xml.Unmarshal(body, &list)
		for _, id := range list.Latest {
			block, ok := s.blocks[name][id]
			if !ok || err != nil {
				refuse(w, "InvalidBlockList")
				return
			}
			data = append(data, block...)
		}
		s.blobs[name] = data
		delete(s.blocks, name)
	case r.Header.Get("X-Ms-Blob-Type") == "BlockBlob":
		s.blobs[name] = body
		delete(s.blocks, name)
	default:
		refuse(w, "InvalidHeaderValue")
		return
	}
	w.WriteHeader(http.StatusCreated)
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, name string) {
	data, ok := s.blobs[name]
	if !ok {
		refuse(w, "BlobNotFound")
		return
	}
	if v := r.Header.Get("X-Ms-Range"); v != "" {
		r.Header.Set("Range", v)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// refuse answers with an error, as Azure does: with the byte order mark of UTF-8.
func refuse(w http.ResponseWriter, code string) {
	status := http.StatusBadRequest
	switch {
	case strings.HasSuffix(code, "NotFound"):
		status = http.StatusNotFound
	case strings.HasSuffix(code, "AlreadyExists"):
		status = http.StatusConflict
	case code == "AuthenticationFailed":
		status = http.StatusForbidden
	case code == "ServerBusy":
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("X-Ms-Error-Code", code)
	w.WriteHeader(status)
	fmt.Fprintf(w, "\ufeff<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>%s</Code><Message>as the test wants it</Message></Error>", code)
}
