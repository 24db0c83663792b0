// Package proxynet is an HTTP and HTTPS proxy for a process whose only way out it is. It asks a policy about every request, also in
// TLS connections, for which it has an authority of its own that the process trusts, and records what was requested.
package proxynet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

// Proxy is the proxy of one process.
type Proxy struct {
	// Authority signs the certificates that the process gets.
	Authority *Authority
	// Policy returns the URL to fetch in place of one, or an error if it is not allowed; nil allows all. It may be called by several
	// goroutines at once.
	Policy func(ctx context.Context, url string) (string, error)
	// Loopback allows connections to the host's own loopback.
	Loopback bool
	// Capture records the requests; nil for none.
	Capture *Capture
	// Roots are the authorities by which servers are verified; nil for the system's.
	Roots *x509.CertPool
}

// The limits of a proxy.
const (
	maxConnections    = 256       // of the process
	maxIdle           = 32        // connections to servers
	maxHeader         = 256 << 10 // of a request, in bytes
	maxResponseHeader = 1 << 20
	headerTime        = 30 * time.Second // for the header of a request, or a handshake
	dialTime          = 30 * time.Second
	idleTime          = 2 * time.Minute
)

// Env are the variables by which programs find a proxy at an address. They name no proxy for the process's own loopback.
func Env(address string) []string {
	var env []string
	for _, v := range []struct{ name, value string }{
		{"HTTP_PROXY", "http://" + address}, {"HTTPS_PROXY", "http://" + address}, {"NO_PROXY", "127.0.0.1,localhost,::1"},
	} {
		env = append(env, v.name+"="+v.value, strings.ToLower(v.name)+"="+v.value)
	}
	return env
}

// serving is a proxy while it serves.
type serving struct {
	*Proxy
	ctx     context.Context // ends with the process
	server  *http.Server
	forward *httputil.ReverseProxy
	tunnels *tunnels

	mu      sync.Mutex
	ended   bool
	running sync.WaitGroup // requests
}

// Serve answers the connections to l until l is closed. It then ends all connections and requests, and returns when nothing is
// recorded any more.
func (p *Proxy) Serve(l net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	transport := p.transport()
	s := &serving{Proxy: p, ctx: ctx, tunnels: newTunnels(l.Addr())}
	quiet := log.New(io.Discard, "", 0)
	s.forward = &httputil.ReverseProxy{
		Rewrite: rewrite, Transport: transport, ModifyResponse: s.received, ErrorHandler: s.failed, ErrorLog: quiet,
	}
	s.server = &http.Server{
		Handler: s, ErrorLog: quiet, MaxHeaderBytes: maxHeader, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime,
		BaseContext: func(net.Listener) context.Context { return ctx }, ConnContext: tunnelContext,
	}
	var inner sync.WaitGroup
	inner.Go(func() { _ = s.server.Serve(s.tunnels) })
	_ = s.server.Serve(netutil.LimitListener(l, maxConnections))
	cancel()
	_ = s.server.Close()
	s.tunnels.end()
	inner.Wait()
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.running.Wait()
	transport.CloseIdleConnections()
}

// begin counts a request, unless the proxy has ended.
func (s *serving) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.running.Add(1)
	return true
}

func (p *Proxy) transport() *http.Transport {
	d := &net.Dialer{Timeout: dialTime}
	if !p.Loopback {
		d.ControlContext = refuseLoopback
	}
	return &http.Transport{
		DialContext: d.DialContext, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: p.Roots},
		DisableCompression:  true, // what is recorded is what the server has sent
		TLSHandshakeTimeout: headerTime, IdleConnTimeout: idleTime, MaxIdleConns: maxIdle, MaxResponseHeaderBytes: maxResponseHeader,
	}
}

func (s *serving) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.begin() {
		return
	}
	defer s.running.Done()
	if r.Method == http.MethodConnect {
		s.connect(w, r)
		return
	}
	to, err := target(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if to, err = s.allowed(r, to); err != nil {
		http.Error(w, http.StatusText(http.StatusForbidden), http.StatusForbidden)
		return
	}
	s.forward.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), targetKey{}, to)))
}

// targetKey is the key of the URL to fetch in the context of a request.
type targetKey struct{}

func targetOf(r *http.Request) *url.URL { return r.Context().Value(targetKey{}).(*url.URL) }

// target is the URL that a request is for. In a tunnel, the host is the one that the tunnel was asked for.
func target(r *http.Request) (*url.URL, error) {
	u := *r.URL
	switch in := tunnelOf(r.Context()); {
	case in != "":
		u.Scheme, u.Host = "https", in
	case !u.IsAbs():
		u.Scheme, u.Host = "http", r.Host
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the scheme is not http or https")
	}
	if u.Hostname() == "" || u.Opaque != "" {
		return nil, errors.New("the URL has no host")
	}
	u.Host = plainHost(u.Scheme, u.Host)
	if u.Path == "" {
		u.Path = "/"
	}
	u.Fragment, u.RawFragment = "", ""
	return &u, nil
}

// plainHost is a host as policies and provenance name it: in lower case, without the port of the scheme and the dot of the root.
func plainHost(scheme, host string) string {
	u := url.URL{Host: strings.ToLower(host)}
	name, port := strings.TrimSuffix(u.Hostname(), "."), u.Port()
	if scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		port = ""
	}
	switch {
	case port != "":
		return net.JoinHostPort(name, port)
	case strings.Contains(name, ":"):
		return "[" + name + "]"
	}
	return name
}

// allowed returns the URL to fetch for a request, or an error if nothing may be fetched for it.
func (s *serving) allowed(r *http.Request, to *url.URL) (*url.URL, error) {
	if s.Policy == nil {
		return to, nil
	}
	asked := shown(to)
	got, err := s.Policy(r.Context(), asked)
	if err != nil || got == asked {
		return to, err
	}
	if r.Method != http.MethodGet {
		return nil, errors.New("only a GET is replaced")
	}
	u, err := url.Parse(got)
	if err != nil {
		return nil, err
	}
	if u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the replacement is not a URL of http or https")
	}
	return u, nil
}

// rewrite makes the request to the server. A process cannot reach another host than the one that the policy was asked about.
func rewrite(r *httputil.ProxyRequest) {
	to := targetOf(r.In)
	r.Out.URL, r.Out.Host = to, to.Host
	for _, name := range []string{"Accept-Encoding", "Connection", "Upgrade"} {
		r.Out.Header.Del(name)
	}
}

// failed answers a request that the server has not answered.
func (s *serving) failed(w http.ResponseWriter, r *http.Request, err error) {
	s.Capture.request(r.Method, targetOf(r), "", http.StatusBadGateway)
	s.Capture.lacks(r.Method, targetOf(r), "upstream_error")
	http.Error(w, err.Error(), http.StatusBadGateway)
}

// received records a response, now and at its end.
func (s *serving) received(resp *http.Response) error {
	r, to := resp.Request, resp.Request.URL
	redirect := ""
	if at, err := resp.Location(); err == nil {
		redirect = shown(at)
	}
	s.Capture.request(r.Method, to, redirect, resp.StatusCode)
	resp.Body = s.Capture.follow(resp)
	return nil
}
