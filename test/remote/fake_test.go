//go:build e2e

// Package remote pulls from registries and pushes to them: Debian's docker-registry, open, with passwords over TLS and with
// a token server, and a registry of the tests' own that misbehaves on command. The peers (skopeo, crane, Docker, umoci)
// must get the same digests. It needs root, for layers with owners.
package remote

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// fake is a registry in memory whose every answer the test may replace.
type fake struct {
	t   *testing.T
	srv *httptest.Server

	mu        sync.Mutex
	blobs     map[string][]byte            // by digest
	manifests map[string]map[string]sealed // by repository, by tag or digest
	uploads   map[string]*bytes.Buffer
	requests  []string
	referrers bool // whether it knows the referrers API
	// fault is asked before every answer; true: it has answered itself.
	fault func(w http.ResponseWriter, r *http.Request) bool
}

type sealed struct {
	mediaType string
	data      []byte
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{t: t, blobs: map[string][]byte{}, manifests: map[string]map[string]sealed{}, uploads: map[string]*bytes.Buffer{}, referrers: true}
	f.srv = httptest.NewServer(f)
	t.Cleanup(f.srv.Close)
	return f
}

// host is where the registry listens.
func (f *fake) host() string { return strings.TrimPrefix(f.srv.URL, "http://") }

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(s[:])
}

// blob adds a blob and returns its descriptor.
func (f *fake) blob(mediaType string, data []byte) map[string]any {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blobs[sum(data)] = data
	return map[string]any{"mediaType": mediaType, "digest": sum(data), "size": len(data)}
}

// manifest adds a manifest under a tag, and under its digest.
func (f *fake) manifest(repo, tag, mediaType string, m any) map[string]any {
	data, err := json.Marshal(m)
	if err != nil {
		f.t.Fatal(err)
	}
	f.put(repo, tag, mediaType, data)
	return map[string]any{"mediaType": mediaType, "digest": sum(data), "size": len(data)}
}

func (f *fake) put(repo, ref, mediaType string, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.manifests[repo] == nil {
		f.manifests[repo] = map[string]sealed{}
	}
	f.manifests[repo][ref] = sealed{mediaType, data}
	f.manifests[repo][sum(data)] = sealed{mediaType, data}
}

const (
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociIndex    = "application/vnd.oci.image.index.v1+json"
	ociConfig   = "application/vnd.oci.image.config.v1+json"
	ociLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// image adds an image of some layers (tars) and returns the descriptor of its manifest. edit may change it before.
func (f *fake) image(repo, tag string, platform map[string]any, edit func(m map[string]any), layers ...[]byte) map[string]any {
	ids, list := []string{}, []any{}
	for _, l := range layers {
		ids = append(ids, sum(l))
		list = append(list, f.blob(ociLayer, zip(l)))
	}
	config := map[string]any{"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": ids}}
	for k, v := range platform {
		config[k] = v
	}
	raw, err := json.Marshal(config)
	if err != nil {
		f.t.Fatal(err)
	}
	m := map[string]any{"schemaVersion": 2, "mediaType": ociManifest, "config": f.blob(ociConfig, raw), "layers": list}
	if edit != nil {
		edit(m)
	}
	return f.manifest(repo, tag, m["mediaType"].(string), m)
}

// zip compresses, always to the same bytes.
func zip(data []byte) []byte {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	_, _ = z.Write(data)
	_ = z.Close()
	return buf.Bytes()
}

// seen lists the requests so far that begin with a prefix: "GET /v2/x/blobs/".
func (f *fake) seen(prefix string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for _, r := range f.requests {
		if strings.HasPrefix(r, prefix) {
			list = append(list, r)
		}
	}
	return list
}

func (f *fake) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = nil
}

func (f *fake) setFault(fault func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	line := r.Method + " " + r.URL.RequestURI()
	if h := r.Header.Get("Range"); h != "" {
		line += " " + h
	}
	f.requests = append(f.requests, line)
	fault := f.fault
	f.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	for _, kind := range []struct {
		sep   string
		serve func(w http.ResponseWriter, r *http.Request, repo, ref string)
	}{
		{"/blobs/uploads/", f.upload}, {"/blobs/", f.serveBlob}, {"/manifests/", f.serveManifest}, {"/referrers/", f.serveReferrers},
	} {
		if repo, ref, ok := strings.Cut(path, kind.sep); ok {
			kind.serve(w, r, repo, ref)
			return
		}
	}
	if path != "" {
		refuse(w, http.StatusNotFound, "UNSUPPORTED")
	}
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"as the test wants it"}]}`, code)
}

func (f *fake) serveBlob(w http.ResponseWriter, r *http.Request, _, ref string) {
	f.mu.Lock()
	data, ok := f.blobs[ref]
	f.mu.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN")
		return
	}
	w.Header().Set("Docker-Content-Digest", ref)
	w.Header().Set("Content-Type", "application/octet-stream")
	serveRange(w, r, data)
}

// serveRange answers with a range if one was asked for.
func serveRange(w http.ResponseWriter, r *http.Request, data []byte) {
	w.Header().Set("Accept-Ranges", "bytes")
	var from, to int
	if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); n == 2 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, min(to, len(data)-1), len(data)))
		data = data[from:min(to+1, len(data))]
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.WriteHeader(http.StatusPartialContent)
	} else {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	}
	if r.Method != http.MethodHead {
		_, _ = w.Write(data)
	}
}

func (f *fake) serveManifest(w http.ResponseWriter, r *http.Request, repo, ref string) {
	if r.Method == http.MethodPut {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		f.put(repo, ref, r.Header.Get("Content-Type"), data)
		var m struct {
			Subject *struct {
				Digest string `json:"digest"`
			} `json:"subject"`
		}
		if json.Unmarshal(data, &m) == nil && m.Subject != nil && f.referrers {
			w.Header().Set("OCI-Subject", m.Subject.Digest)
		}
		w.Header().Set("Docker-Content-Digest", sum(data))
		w.WriteHeader(http.StatusCreated)
		return
	}
	f.mu.Lock()
	m, ok := f.manifests[repo][ref]
	f.mu.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
		return
	}
	w.Header().Set("Content-Type", m.mediaType)
	w.Header().Set("Docker-Content-Digest", sum(m.data))
	w.Header().Set("Content-Length", strconv.Itoa(len(m.data)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(m.data)
	}
}

// serveReferrers lists the manifests whose subject is ref (distribution-spec, "Listing Referrers").
func (f *fake) serveReferrers(w http.ResponseWriter, _ *http.Request, repo, ref string) {
	if !f.referrers {
		refuse(w, http.StatusNotFound, "NOT_FOUND")
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	list := []any{}
	done := map[string]bool{}
	for _, m := range f.manifests[repo] {
		var parsed struct {
			ArtifactType string `json:"artifactType"`
			Subject      *struct {
				Digest string `json:"digest"`
			} `json:"subject"`
		}
		d := sum(m.data)
		if json.Unmarshal(m.data, &parsed) == nil && parsed.Subject != nil && parsed.Subject.Digest == ref && !done[d] {
			done[d] = true
			list = append(list, map[string]any{"mediaType": m.mediaType, "digest": d, "size": len(m.data), "artifactType": parsed.ArtifactType})
		}
	}
	w.Header().Set("Content-Type", ociIndex)
	_ = json.NewEncoder(w).Encode(map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": list})
}

// upload takes blobs: POST, PATCH and PUT, and mounts.
func (f *fake) upload(w http.ResponseWriter, r *http.Request, repo, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch r.Method {
	case http.MethodPost:
		if d := r.URL.Query().Get("mount"); d != "" && f.blobs[d] != nil {
			w.Header().Set("Docker-Content-Digest", d)
			w.WriteHeader(http.StatusCreated)
			return
		}
		id = fmt.Sprint("u", len(f.uploads))
		f.uploads[id] = &bytes.Buffer{}
		w.Header().Set("Location", "/v2/"+repo+"/blobs/uploads/"+id)
		w.WriteHeader(http.StatusAccepted)
	case http.MethodPatch, http.MethodPut:
		buf, ok := f.uploads[id]
		if !ok {
			refuse(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
			return
		}
		if _, err := io.Copy(buf, r.Body); err != nil {
			return
		}
		if r.Method == http.MethodPatch {
			w.Header().Set("Location", "/v2/"+repo+"/blobs/uploads/"+id)
			w.WriteHeader(http.StatusAccepted)
			return
		}
		want := r.URL.Query().Get("digest")
		if sum(buf.Bytes()) != want {
			refuse(w, http.StatusBadRequest, "DIGEST_INVALID")
			return
		}
		f.blobs[want] = buf.Bytes()
		w.Header().Set("Docker-Content-Digest", want)
		w.WriteHeader(http.StatusCreated)
	}
}

// noise is a layer of one file that does not compress.
func noise(t *testing.T, size int) []byte {
	t.Helper()
	data := make([]byte, size)
	state := uint64(88172645463325252) // xorshift
	for i := range data {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		data[i] = byte(state)
	}
	return rig.LayerOf(t, map[string][]byte{"noise": data})
}
