// Package registrytest is a registry in memory for tests, with a proxy before it that records requests and injects faults.
package registrytest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Media types (image-spec, media-types.md).
const (
	TypeManifest = "application/vnd.oci.image.manifest.v1+json"
	TypeIndex    = "application/vnd.oci.image.index.v1+json"
	TypeConfig   = "application/vnd.oci.image.config.v1+json"
	TypeLayer    = "application/vnd.oci.image.layer.v1.tar"
)

// Memory is a registry in memory. It takes anything from tests, and checks what clients push by the distribution
// specification. Set its fields before it is used.
type Memory struct {
	Referrers bool // it knows the referrers API
	Page      int  // how many tags or repositories it lists at once; 0: all

	mu      sync.Mutex
	repos   map[string]*memoryRepo
	uploads map[string][]byte
	serial  int
}

type memoryRepo struct {
	blobs     map[string][]byte
	manifests map[string]Document // by tag and by digest
}

// Document is a manifest or an index.
type Document struct {
	Type string
	Data []byte
}

// Digest returns the sha256 digest of data.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// NewMemory is an empty registry that knows the referrers API.
func NewMemory() *Memory {
	return &Memory{Referrers: true, repos: map[string]*memoryRepo{}, uploads: map[string][]byte{}}
}

// repo gives a repository, made if it is missing. The caller holds mu.
func (m *Memory) repo(name string) *memoryRepo {
	r := m.repos[name]
	if r == nil {
		r = &memoryRepo{map[string][]byte{}, map[string]Document{}}
		m.repos[name] = r
	}
	return r
}

// AddBlob puts a blob into a repository.
func (m *Memory) AddBlob(repo string, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.repo(repo).blobs[Digest(data)] = data
}

// DropBlob removes a blob.
func (m *Memory) DropBlob(repo, digest string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.repo(repo).blobs, digest)
}

// Blob gives a blob of a repository, nil if it is not there.
func (m *Memory) Blob(repo, digest string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.repo(repo).blobs[digest]
}

// AddManifest puts a document under each of the names, and no other: a digest that is not its own, if the test wants so.
func (m *Memory) AddManifest(repo string, d Document, refs ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, ref := range refs {
		m.repo(repo).manifests[ref] = d
	}
}

// Manifest returns the manifest that has a tag or digest; its Data is nil if there is none.
func (m *Memory) Manifest(repo, ref string) Document {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.repo(repo).manifests[ref]
}

// Refs lists the tags and digests that a repository has manifests under, in order.
func (m *Memory) Refs(repo string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.repo(repo).manifests))
}

// Blobs lists the digests of the blobs of a repository, in order.
func (m *Memory) Blobs(repo string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.repo(repo).blobs))
}

func (m *Memory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind, repo, ref := split(r.URL.Path)
	switch kind {
	case Ping:
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	case Manifest:
		m.manifest(w, r, repo, ref)
	case Blob:
		m.blob(w, r, repo, ref)
	case Upload:
		m.upload(w, r, repo, ref)
	case Tags:
		m.tags(w, r, repo)
	case Catalog:
		m.catalog(w, r)
	case Referrers:
		m.referrers(w, repo, ref)
	default:
		Refuse(w, http.StatusNotFound, "UNSUPPORTED")
	}
}

// Refuse responds with an error of the distribution specification.
func Refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"as the test wants it"}]}`, code)
}

func (m *Memory) blob(w http.ResponseWriter, r *http.Request, repo, ref string) {
	data := m.Blob(repo, ref)
	if data == nil {
		Refuse(w, http.StatusNotFound, "BLOB_UNKNOWN")
		return
	}
	w.Header().Set("Docker-Content-Digest", ref)
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

func (m *Memory) manifest(w http.ResponseWriter, r *http.Request, repo, ref string) {
	if r.Method == http.MethodPut {
		m.putManifest(w, r, repo, ref)
		return
	}
	d := m.Manifest(repo, ref)
	if d.Data == nil {
		Refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
		return
	}
	if r.Method == http.MethodDelete {
		m.deleteManifest(repo, ref)
		w.WriteHeader(http.StatusAccepted)
		return
	}
	w.Header().Set("Content-Type", d.Type)
	w.Header().Set("Docker-Content-Digest", Digest(d.Data))
	w.Header().Set("Content-Length", strconv.Itoa(len(d.Data)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(d.Data)
	}
}

// deleteManifest removes a manifest by its digest with its tags, or a tag.
func (m *Memory) deleteManifest(repo, ref string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.repo(repo).manifests
	if strings.HasPrefix(ref, "sha256:") {
		maps.DeleteFunc(list, func(_ string, d Document) bool { return Digest(d.Data) == ref })
	}
	delete(list, ref)
}

// Descriptor points at a blob or a manifest (image-spec, descriptor.md).
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int               `json:"size"`
	URLs         []string          `json:"urls,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Platform     map[string]string `json:"platform,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
}

// Contents is what a document may say, manifest or index.
type Contents struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        *Descriptor       `json:"config,omitempty"`
	Layers        []Descriptor      `json:"layers,omitempty"`
	Manifests     []Descriptor      `json:"manifests,omitempty"`
	Subject       *Descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// putManifest takes a manifest whose blobs, or an index whose manifests, are there.
func (m *Memory) putManifest(w http.ResponseWriter, r *http.Request, repo, ref string) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var c Contents
	if err := json.Unmarshal(data, &c); err != nil || strings.HasPrefix(ref, "sha256:") && ref != Digest(data) {
		Refuse(w, http.StatusBadRequest, "MANIFEST_INVALID")
		return
	}
	for _, d := range c.Manifests {
		if m.Manifest(repo, d.Digest).Data == nil {
			Refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
			return
		}
	}
	blobs := c.Layers
	if c.Config != nil {
		blobs = append(blobs, *c.Config)
	}
	for _, d := range blobs {
		if m.Blob(repo, d.Digest) == nil && len(d.URLs) == 0 {
			Refuse(w, http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN")
			return
		}
	}
	m.AddManifest(repo, Document{r.Header.Get("Content-Type"), data}, ref, Digest(data))
	if c.Subject != nil && m.Referrers {
		w.Header().Set("OCI-Subject", c.Subject.Digest)
	}
	w.Header().Set("Docker-Content-Digest", Digest(data))
	w.Header().Set("Location", "/v2/"+repo+"/manifests/"+Digest(data))
	w.WriteHeader(http.StatusCreated)
}

// upload takes a blob: POST, PATCH and PUT, all at once, or mounted from another repository.
func (m *Memory) upload(w http.ResponseWriter, r *http.Request, repo, id string) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	q := r.URL.Query()
	if r.Method == http.MethodPost {
		if from := m.repos[q.Get("from")]; from != nil && from.blobs[q.Get("mount")] != nil {
			m.repo(repo).blobs[q.Get("mount")] = from.blobs[q.Get("mount")]
			created(w, repo, q.Get("mount"))
			return
		}
		m.serial++
		id = fmt.Sprint("u", m.serial)
		m.uploads[id] = nil
	}
	have, ok := m.uploads[id]
	if !ok {
		Refuse(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
		return
	}
	have = append(have, body...)
	m.uploads[id] = have
	digest := q.Get("digest")
	if digest == "" {
		status := http.StatusAccepted
		if r.Method == http.MethodGet {
			status = http.StatusNoContent
		}
		w.Header().Set("Location", "/v2/"+repo+"/blobs/uploads/"+id)
		w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, len(have)-1)))
		w.WriteHeader(status)
		return
	}
	delete(m.uploads, id)
	if Digest(have) != digest {
		Refuse(w, http.StatusBadRequest, "DIGEST_INVALID")
		return
	}
	m.repo(repo).blobs[digest] = append([]byte{}, have...) // not nil, which is a missing blob
	created(w, repo, digest)
}

func created(w http.ResponseWriter, repo, digest string) {
	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("Location", "/v2/"+repo+"/blobs/"+digest)
	w.WriteHeader(http.StatusCreated)
}

func (m *Memory) tags(w http.ResponseWriter, r *http.Request, repo string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.repos[repo] == nil {
		Refuse(w, http.StatusNotFound, "NAME_UNKNOWN")
		return
	}
	tags := slices.DeleteFunc(slices.Sorted(maps.Keys(m.repos[repo].manifests)), func(ref string) bool { return strings.Contains(ref, ":") })
	m.list(w, r, map[string]any{"name": repo}, "tags", tags)
}

func (m *Memory) catalog(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list(w, r, map[string]any{}, "repositories", slices.Sorted(maps.Keys(m.repos)))
}

// list responds with a page of a sorted list and a link to the next (distribution-spec, "Listing Tags").
func (m *Memory) list(w http.ResponseWriter, r *http.Request, resp map[string]any, key string, all []string) {
	from, found := slices.BinarySearch(all, r.URL.Query().Get("last"))
	if found {
		from++
	}
	page := all[from:]
	size := m.Page
	if n, err := strconv.Atoi(r.URL.Query().Get("n")); err == nil && n > 0 && (size == 0 || n < size) {
		size = n
	}
	if size > 0 && len(page) > size {
		page = page[:size]
		w.Header().Set("Link", fmt.Sprintf(`<%s?n=%d&last=%s>; rel="next"`, r.URL.Path, size, page[size-1]))
	}
	resp[key] = page
	Reply(w, "application/json", resp)
}

// referrers lists the manifests of a repository that have a subject (distribution-spec, "Listing Referrers").
func (m *Memory) referrers(w http.ResponseWriter, repo, subject string) {
	if !m.Referrers {
		Refuse(w, http.StatusNotFound, "NOT_FOUND")
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	list := map[string]Descriptor{}
	for _, d := range m.repo(repo).manifests {
		var c Contents
		if err := json.Unmarshal(d.Data, &c); err != nil || c.Subject == nil || c.Subject.Digest != subject {
			continue
		}
		list[Digest(d.Data)] = Descriptor{MediaType: d.Type, Digest: Digest(d.Data), Size: len(d.Data), ArtifactType: c.ArtifactType}
	}
	resp := map[string]any{"schemaVersion": 2, "mediaType": TypeIndex, "manifests": []Descriptor{}}
	for _, digest := range slices.Sorted(maps.Keys(list)) {
		resp["manifests"] = append(resp["manifests"].([]Descriptor), list[digest])
	}
	Reply(w, TypeIndex, resp)
}

// Reply responds with JSON.
func Reply(w http.ResponseWriter, mediaType string, v any) {
	w.Header().Set("Content-Type", mediaType)
	if err := json.NewEncoder(w).Encode(v); err != nil && !errors.Is(err, http.ErrHandlerTimeout) {
		panic(http.ErrAbortHandler)
	}
}
