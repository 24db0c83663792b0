package proxynet

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// rig is a proxy that serves, with a client that uses it and trusts its authority.
type rig struct {
	client *http.Client
	addr   string
	end    func() // waits for the end
}

func start(t *testing.T, p *Proxy) *rig {
	t.Helper()
	var err error
	if p.Authority, err = NewAuthority(); err != nil {
		t.Fatal(err)
	}
	if p.Capture == nil {
		p.Capture = &Capture{}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Serve(l)
	}()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.Authority.PEM())
	at := &url.URL{Scheme: "http", Host: l.Addr().String()}
	transport := &http.Transport{Proxy: http.ProxyURL(at), TLSClientConfig: &tls.Config{RootCAs: roots}}
	r := &rig{addr: l.Addr().String(), client: &http.Client{Transport: transport}, end: sync.OnceFunc(func() {
		_ = l.Close()
		<-done
		transport.CloseIdleConnections()
	})}
	t.Cleanup(r.end)
	return r
}

// get returns the status and the body of a response.
func (r *rig) get(t *testing.T, at string) (int, string) {
	t.Helper()
	resp, err := r.client.Get(at)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

var modified = time.Unix(1, 0)

// site answers a few paths.
func site(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/file":
		fmt.Fprint(w, "content")
	case "/moved":
		http.Redirect(w, r, "/file", http.StatusFound)
	case "/chunks":
		for range 3 {
			fmt.Fprint(w, "chunk ")
			w.(http.Flusher).Flush()
		}
	case "/part":
		http.ServeContent(w, r, "", modified, strings.NewReader("content"))
	case "/header":
		fmt.Fprint(w, r.Host, " ", r.Header.Get("X-Forwarded-For"), r.Header.Get("Accept-Encoding"), r.URL.RawQuery)
	default:
		http.NotFound(w, r)
	}
}

func serveSite(t *testing.T, secure bool) (*httptest.Server, *x509.CertPool) {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(site))
	if !secure {
		srv.Start()
		t.Cleanup(srv.Close)
		return srv, nil
	}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	return srv, roots
}

// TestProxy: what is fetched over http and https is recorded with its digest, and what cannot be a material is a gap.
func TestProxy(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("tls=", secure), func(t *testing.T) {
			t.Parallel()
			srv, roots := serveSite(t, secure)
			c := &Capture{}
			r := start(t, &Proxy{Loopback: true, Capture: c, Roots: roots})
			for path, want := range map[string]string{"/file": "content", "/chunks": "chunk chunk chunk ", "/moved": "content"} {
				if status, body := r.get(t, srv.URL+path); status != http.StatusOK || body != want {
					t.Errorf("%s is %d %q, want %q", path, status, body, want)
				}
			}
			r.get(t, srv.URL+"/missing")
			req, _ := http.NewRequest(http.MethodGet, srv.URL+"/part", nil)
			req.Header.Set("Range", "bytes=1-2")
			for _, do := range []func() (*http.Response, error){
				func() (*http.Response, error) { return r.client.Do(req) },
				func() (*http.Response, error) { return r.client.Head(srv.URL + "/file") },
			} {
				resp, err := do()
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
			r.end()
			want := map[string]string{"/file": "content", "/chunks": "chunk chunk chunk ", "/moved": "content"}
			for _, m := range c.Materials() {
				path := strings.TrimPrefix(m.URL, srv.URL)
				if m.Digest != digest.FromString(want[path]) {
					t.Errorf("material %s has digest %s", m.URL, m.Digest)
				}
			}
			for path := range want {
				if !slices.ContainsFunc(c.Materials(), func(m Material) bool { return m.URL == srv.URL+path }) {
					t.Errorf("no material of %s", path)
				}
			}
			reasons := map[string]string{}
			for _, g := range c.Gaps() {
				reasons[strings.TrimPrefix(g.URL, srv.URL)] = g.Reason
			}
			if fmt.Sprint(reasons) != "map[/file:method_not_materializable /missing:unsuccessful_response /part:partial_response]" {
				t.Errorf("gaps are %v", reasons)
			}
			if n := len(c.Requests()); n != 7 {
				t.Errorf("%d requests are recorded, want 7: %v", n, c.Requests())
			}
		})
	}
}

// TestPolicy: the policy is asked about the URL as sources are written, and may forbid or replace it.
func TestPolicy(t *testing.T) {
	t.Parallel()
	srv, _ := serveSite(t, false)
	var mu sync.Mutex
	var asked []string
	r := start(t, &Proxy{Loopback: true, Policy: func(_ context.Context, u string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, u)
		switch {
		case strings.HasSuffix(u, "/replaced"):
			return srv.URL + "/file", nil
		case strings.HasSuffix(u, "/wrong"):
			return "git://host/repo", nil
		case strings.Contains(u, "/denied"):
			return "", errors.New("no")
		}
		return u, nil
	}})
	for path, want := range map[string]int{"/file": 200, "/denied": 403, "/replaced": 200, "/wrong": 403} {
		if status, _ := r.get(t, srv.URL+path); status != want {
			t.Errorf("%s has status %d, want %d", path, status, want)
		}
	}
	resp, err := r.client.Post(srv.URL+"/replaced", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("a POST is replaced: %s", resp.Status)
	}
	r.get(t, "https://EXAMPLE.invalid.:443/denied?a=b;c")
	if last := asked[len(asked)-1]; last != "https://example.invalid/denied?a=b;c" {
		t.Errorf("the policy is asked about %q", last)
	}
}

// TestHostIsThatOfThePolicy: neither a Host header nor a request in a tunnel leads to another host.
func TestHostIsThatOfThePolicy(t *testing.T) {
	t.Parallel()
	srv, roots := serveSite(t, true)
	r := start(t, &Proxy{Loopback: true, Roots: roots})
	for _, at := range []string{"/header?a=1;b", "http://other.invalid/header?a=1;b"} {
		req, _ := http.NewRequest(http.MethodGet, srv.URL+"/header", nil)
		req.URL.Opaque = at
		req.Host = "other.invalid"
		req.Header.Set("Accept-Encoding", "gzip")
		resp, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if want := strings.TrimPrefix(srv.URL, "https://") + " a=1;b"; string(data) != want {
			t.Errorf("the server has seen %q, want %q", data, want)
		}
	}
}

// TestLoopback: the host's loopback is reached by no name and no form of address, unless it is allowed.
func TestLoopback(t *testing.T) {
	t.Parallel()
	srv, _ := serveSite(t, false)
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	r := start(t, &Proxy{})
	for _, host := range []string{"127.0.0.1", "127.9.9.9", "localhost", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[::ffff:0.0.0.0]"} {
		if status, body := r.get(t, "http://"+host+":"+port+"/file"); status != http.StatusBadGateway {
			t.Errorf("%s is reached: %d %s", host, status, body)
		}
	}
}

// TestServersAreVerified: a server without a trusted certificate is not reached.
func TestServersAreVerified(t *testing.T) {
	t.Parallel()
	srv, _ := serveSite(t, true)
	c := &Capture{}
	r := start(t, &Proxy{Loopback: true, Roots: x509.NewCertPool(), Capture: c})
	if status, body := r.get(t, srv.URL+"/file"); status != http.StatusBadGateway || !strings.Contains(body, "certificate") {
		t.Errorf("the response is %d %q", status, body)
	}
	if g := c.Gaps(); len(g) != 1 || g[0].Reason != "upstream_error" || g[0].URL != srv.URL+"/file" {
		t.Errorf("gaps are %v", g)
	}
}

// TestEnd: the end of the listener ends requests and tunnels, and an unfinished response is a gap.
func TestEnd(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "begin")
		w.(http.Flusher).Flush()
		close(asked)
		<-r.Context().Done()
	}))
	defer srv.Close()
	c := &Capture{}
	r := start(t, &Proxy{Loopback: true, Capture: c})
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	fmt.Fprint(conn, "CONNECT host.invalid:443 HTTP/1.1\r\nHost: host.invalid:443\r\n\r\n")
	in := bufio.NewReader(conn)
	if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Fatal(line, err)
	}
	resp, err := r.client.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	<-asked
	r.end()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the response has not been cut")
	}
	_ = resp.Body.Close()
	if _, err := io.ReadAll(in); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the tunnel ends with %v", err)
	}
	if g := c.Gaps(); len(g) != 1 || g[0].Reason != "body_read_failed" {
		t.Errorf("gaps are %v", g)
	}
}

// TestHostile: what is not a request to a server is refused.
func TestHostile(t *testing.T) {
	t.Parallel()
	r := start(t, &Proxy{})
	for request, want := range map[string]string{
		"GET ftp://host/ HTTP/1.1\r\nHost: host\r\n\r\n":                            "400",
		"GET http:///path HTTP/1.1\r\nHost:\r\n\r\n":                                "400",
		"GET http://user:@:80/ HTTP/1.1\r\nHost:\r\n\r\n":                           "400",
		"CONNECT host HTTP/1.1\r\nHost: host\r\n\r\n":                               "400",
		"CONNECT :443 HTTP/1.1\r\nHost: :443\r\n\r\n":                               "400",
		"GET http://h/ HTTP/1.1\r\nA: " + strings.Repeat("a", 2*maxHeader) + "\r\n": "431",
	} {
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.WriteString(conn, request) }()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%.40q: %v", request, err)
		} else if _ = resp.Body.Close(); !strings.HasPrefix(resp.Status, want) {
			t.Errorf("%.40q: %s, want %s", request, resp.Status, want)
		}
		_ = conn.Close()
	}
}

// TestCaptureIsBounded: what does not fit is one gap.
func TestCaptureIsBounded(t *testing.T) {
	t.Parallel()
	c := &Capture{}
	c.request(http.MethodGet, &url.URL{Scheme: "https", User: url.UserPassword("a", "secret"), Host: "host"}, "", 200)
	long := &url.URL{Scheme: "https", Host: "host", Path: "/" + strings.Repeat("x", 1<<16)}
	for range 2 * maxCapture >> 16 {
		c.request(http.MethodGet, long, "", 200)
		c.lacks(http.MethodGet, long, "unsuccessful_response")
	}
	size, gaps := 0, c.Gaps()
	for _, r := range c.Requests() {
		size += len(r.URL)
		if strings.Contains(r.URL, "secret") {
			t.Fatal("a password is recorded")
		}
	}
	for _, g := range gaps {
		size += len(g.URL)
	}
	if size > maxCapture || gaps[len(gaps)-1].Reason != "too_many_requests" {
		t.Errorf("%d bytes, the last gap is %v", size, gaps[len(gaps)-1])
	}
}
