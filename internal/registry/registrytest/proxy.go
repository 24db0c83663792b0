package registrytest

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Kind is what a request asks a registry about.
type Kind string

// The kinds of requests, by their paths (distribution-spec, "Endpoints").
const (
	Ping      Kind = "ping"
	Manifest  Kind = "manifest"
	Blob      Kind = "blob"
	Upload    Kind = "upload"
	Tags      Kind = "tags"
	Referrers Kind = "referrers"
	Catalog   Kind = "catalog"
	Other     Kind = "other"
)

// Request is one that a proxy saw.
type Request struct {
	Method     string
	Path       string // with its query
	Kind       Kind
	Repository string
	Ref        string // tag, digest or upload
	Range      string
	Authorized bool // it carried credentials
	Nth        int  // of those with this method and kind, from 1
	Status     int  // 0: the connection was cut before a response
}

// split takes a path apart.
func split(path string) (kind Kind, repo, ref string) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	switch {
	case !ok:
		return Other, "", ""
	case rest == "":
		return Ping, "", ""
	case rest == "_catalog":
		return Catalog, "", ""
	}
	for _, k := range []struct {
		sep  string
		kind Kind
	}{{"/blobs/uploads/", Upload}, {"/blobs/", Blob}, {"/manifests/", Manifest}, {"/tags/", Tags}, {"/referrers/", Referrers}} {
		if repo, ref, ok := strings.Cut(rest, k.sep); ok {
			return k.kind, repo, ref
		}
	}
	return Other, "", ""
}

// Proxy stands before a registry, records requests and injects faults.
type Proxy struct {
	Addr string // host:port
	URL  string
	next http.Handler

	mu       sync.Mutex
	choose   func(Request) Fault
	requests []*Request
	counts   map[string]int
}

// NewProxy starts a proxy before a handler, until the test ends.
func NewProxy(t testing.TB, next http.Handler) *Proxy {
	t.Helper()
	p := &Proxy{next: next, counts: map[string]int{}}
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	p.URL, p.Addr = srv.URL, strings.TrimPrefix(srv.URL, "http://")
	return p
}

// Forward is a handler that hands requests to a registry at another address, which sees the name the client used.
func Forward(addr string) http.Handler {
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: addr})
		r.Out.Host = r.In.Host
	}}
}

// Misbehave sets what chooses the fault for each request; it gives nil for those that pass. Counting starts anew.
func (p *Proxy) Misbehave(choose func(Request) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.choose = choose
	clear(p.counts)
}

// Behave ends all faults, and forgets what was seen.
func (p *Proxy) Behave() {
	p.Misbehave(nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = nil
}

// Seen lists the requests so far of some kinds, or all.
func (p *Proxy) Seen(kinds ...Kind) []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []Request
	for _, r := range p.requests {
		if len(kinds) == 0 || slices.Contains(kinds, r.Kind) {
			list = append(list, *r)
		}
	}
	return list
}

// SeenBy lists the requests so far of one method and some kinds, or all.
func (p *Proxy) SeenBy(method string, kinds ...Kind) []Request {
	return slices.DeleteFunc(p.Seen(kinds...), func(r Request) bool { return r.Method != method })
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind, repo, ref := split(r.URL.Path)
	req := &Request{
		Method: r.Method, Path: r.URL.RequestURI(), Kind: kind, Repository: repo, Ref: ref,
		Range: r.Header.Get("Range"), Authorized: r.Header.Get("Authorization") != "",
	}
	p.mu.Lock()
	key := r.Method + " " + string(kind)
	p.counts[key]++
	req.Nth = p.counts[key]
	p.requests = append(p.requests, req)
	var fault Fault
	if p.choose != nil {
		fault = p.choose(*req)
	}
	p.mu.Unlock()
	resp := &noted{ResponseWriter: w, note: func(status int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		req.Status = status
	}}
	if fault == nil {
		p.next.ServeHTTP(resp, r)
		return
	}
	fault(resp, r, p.next)
}

// noted reports the status of a response.
type noted struct {
	http.ResponseWriter
	note func(int)
	once sync.Once
}

func (n *noted) WriteHeader(status int) {
	n.once.Do(func() { n.note(status) })
	n.ResponseWriter.WriteHeader(status)
}

func (n *noted) Write(data []byte) (int, error) {
	n.once.Do(func() { n.note(http.StatusOK) })
	return n.ResponseWriter.Write(data)
}

// Unwrap is for http.ResponseController.
func (n *noted) Unwrap() http.ResponseWriter { return n.ResponseWriter }
