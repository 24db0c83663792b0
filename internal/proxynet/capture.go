package proxynet

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/redact"
)

// Request is a request that a server has answered, or not.
type Request struct {
	Method, URL string
	Status      int
	redirect    string
}

// Material is a file that was fetched.
type Material struct {
	URL    string        `json:"url"`
	Digest digest.Digest `json:"digest"`
}

// Gap is a request whose response is not a material.
type Gap struct {
	Method string `json:"method"`
	URL    string `json:"url"`
	Reason string `json:"reason"` // as in BuildKit's provenance
}

// Capture records requests. It is safe for concurrent use, and a nil Capture records nothing.
type Capture struct {
	mu        sync.Mutex
	size      int // of all texts
	full      bool
	requests  []Request
	materials []Material
	gaps      []Gap
}

// maxCapture bounds the texts of a Capture, in bytes. Requests that no longer fit are a gap.
const maxCapture = 4 << 20

// fits reports whether texts may be added. The caller holds the lock.
func (c *Capture) fits(texts ...string) bool {
	for _, t := range texts {
		c.size += len(t) + 64
	}
	if c.size > maxCapture && !c.full {
		c.full = true
		c.gaps = append(c.gaps, Gap{Reason: "too_many_requests"})
	}
	return !c.full
}

// shown is a URL as it is recorded.
func shown(u *url.URL) string {
	plain := *u
	plain.Host = plainHost(u.Scheme, u.Host)
	return redact.URLs(plain.String())
}

func (c *Capture) request(method string, u *url.URL, redirect string, status int) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := shown(u); c.fits(at, redirect) {
		c.requests = append(c.requests, Request{Method: method, URL: at, Status: status, redirect: redirect})
	}
}

func (c *Capture) lacks(method string, u *url.URL, reason string) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := shown(u); c.fits(at) {
		c.gaps = append(c.gaps, Gap{method, at, reason})
	}
}

func (c *Capture) got(u *url.URL, d digest.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := shown(u); c.fits(at) {
		c.materials = append(c.materials, Material{at, d})
	}
}

// Requests are the requests in the order of their responses.
func (c *Capture) Requests() []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Request(nil), c.requests...)
}

// Gaps are the requests that no material is of.
func (c *Capture) Gaps() []Gap {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Gap(nil), c.gaps...)
}

// Materials are the files that were fetched. A URL that was redirected has the file that it has led to.
func (c *Capture) Materials() []Material {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := append([]Material(nil), c.materials...)
	known := map[string]digest.Digest{}
	for _, m := range list {
		known[m.URL] = m.Digest
	}
	from := map[string][]string{} // the URLs that lead to one
	for _, r := range c.requests {
		if r.redirect != "" {
			from[r.redirect] = append(from[r.redirect], r.URL)
		}
	}
	for i := 0; i < len(list); i++ {
		for _, u := range from[list[i].URL] {
			if _, ok := known[u]; !ok {
				known[u] = list[i].Digest
				list = append(list, Material{u, list[i].Digest})
			}
		}
	}
	return list
}

// follow returns the body of a response, which is recorded at its end.
func (c *Capture) follow(resp *http.Response) io.ReadCloser {
	if c == nil {
		return resp.Body
	}
	return &body{ReadCloser: resp.Body, c: c, resp: resp, hash: sha256.New()}
}

// body is the body of a response.
type body struct {
	io.ReadCloser
	c    *Capture
	resp *http.Response
	hash hash.Hash
	n    int64
	err  error
	once sync.Once
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	_, _ = b.hash.Write(p[:n])
	b.n += int64(n)
	if err != nil {
		b.err = err
	}
	return n, err
}

// Close records the response.
func (b *body) Close() error {
	b.once.Do(b.record)
	return b.ReadCloser.Close()
}

func (b *body) record() {
	req, status := b.resp.Request, b.resp.StatusCode
	if reason := b.gap(); reason != "" {
		b.c.lacks(req.Method, req.URL, reason)
	} else if status >= 200 && status < 300 {
		b.c.got(req.URL, digest.NewDigest(digest.SHA256, b.hash))
	}
}

// gap is the reason why the response is not a material, "" if it may be one.
func (b *body) gap() string {
	whole := errors.Is(b.err, io.EOF) || b.err == nil && b.n == b.resp.ContentLength
	switch req := b.resp.Request; {
	case req.Method != http.MethodGet:
		return "method_not_materializable"
	case req.Header.Get("Range") != "" || b.resp.StatusCode == http.StatusPartialContent:
		return "partial_response"
	case !whole:
		return "body_read_failed"
	case b.resp.StatusCode >= http.StatusBadRequest:
		return "unsuccessful_response"
	}
	return ""
}
