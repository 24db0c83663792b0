package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.podman.io/image/v5/pkg/tlsclientconfig"
)

// maxHeader bounds the header of an answer, in bytes.
const maxHeader = 256 << 10

// transports has one HTTP transport for each host, since certificates belong to hosts.
type transports struct {
	insecure func(host string) bool
	limits   limits

	mu     sync.Mutex
	byHost map[string]*http.Transport
}

func (t *transports) RoundTrip(req *http.Request) (*http.Response, error) {
	host, err := t.of(req.URL.Host)
	if err != nil {
		return nil, err
	}
	resp, err := t.limits.send(host, req)
	if err == nil {
		chooseChallenge(resp.Header)
		if resp.StatusCode >= http.StatusBadRequest && req.Method != http.MethodHead {
			readRefusal(resp)
		}
	}
	if err != nil && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		err = &permanentError{fmt.Errorf("%s does not speak TLS; if that is meant to be, set insecure = true for it in registries.conf", req.URL.Host)}
	}
	return resp, err
}

// chooseChallenge leaves of several ways to authenticate (RFC 9110, 11.6.1) the one that registries have: tokens, else a
// password. Others, as Negotiate is, are for other clients.
func chooseChallenge(h http.Header) {
	const field = "Www-Authenticate"
	for _, scheme := range []string{"bearer ", "basic"} {
		for _, challenge := range h.Values(field) {
			if len(challenge) >= len(scheme) && strings.EqualFold(challenge[:len(scheme)], scheme) {
				h.Set(field, challenge)
				return
			}
		}
	}
}

func (t *transports) of(host string) (*http.Transport, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tr, ok := t.byHost[host]; ok {
		return tr, nil
	}
	config, err := tlsConfig(host, t.insecure(host))
	if err != nil {
		return nil, err
	}
	tr := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: 15 * time.Second,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     90 * time.Second,
		// A layer that is compressed already is no smaller for being compressed again.
		DisableCompression: true,
		// Go's own limit is 10 MiB.
		MaxResponseHeaderBytes: maxHeader,
		ReadBufferSize:         64 << 10,
		WriteBufferSize:        64 << 10,
	}
	t.byHost[host] = tr
	return tr, nil
}

// tlsConfig trusts the system's CAs and those of the host's folder in certs.d, whose client certificates it shows.
func tlsConfig(host string, insecure bool) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure} //nolint:gosec // as registries.conf says
	for _, dir := range certDirs() {
		dir = filepath.Join(dir, host)
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		if err := tlsclientconfig.SetupCertificates(dir, config); err != nil {
			return nil, fmt.Errorf("certificates of %s: %w", host, err)
		}
		break
	}
	return config, nil
}

// certDirs are the folders that have one folder of certificates for each host, as containers-certs.d(5) and docker have
// them; the first that knows a host counts.
func certDirs() []string {
	var dirs []string
	if dir := os.Getenv("MICA_CERTS_D"); dir != "" {
		dirs = append(dirs, dir)
	}
	if home, err := os.UserConfigDir(); err == nil {
		dirs = append(dirs, filepath.Join(home, "containers", "certs.d"))
	}
	return append(dirs, "/etc/containers/certs.d", "/etc/docker/certs.d")
}

// plainHTTP tells whether a host is spoken to without TLS: one on loopback, or one that registries.conf calls insecure,
// that does not know TLS. Any other must.
func (c *Client) plainHTTP(ctx context.Context, host string) (bool, error) {
	if !isLoopback(host) && !c.insecure(host) {
		return false, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if plain, ok := c.plain[host]; ok {
		return plain, nil
	}
	plain, err := asksForHTTP(ctx, host)
	if err != nil {
		return false, err
	}
	c.plain[host] = plain
	return plain, nil
}

// asksForHTTP begins a TLS handshake: a server of plain HTTP answers with an error message that is no TLS.
func asksForHTTP(ctx context.Context, host string) (bool, error) {
	addr := host
	if _, _, err := net.SplitHostPort(host); err != nil {
		addr = net.JoinHostPort(strings.Trim(host, "[]"), "443")
	}
	d := tls.Dialer{
		NetDialer: &net.Dialer{Timeout: 15 * time.Second},
		Config:    &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // nothing is sent over this connection
	}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err == nil {
		return false, conn.Close()
	}
	var record tls.RecordHeaderError
	if errors.As(err, &record) {
		return true, nil
	}
	// Nobody answers: the request itself will say so, after its retries. What answers on port 80 alone speaks plain HTTP.
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial", nil
}

func isLoopback(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	ip := net.ParseIP(name)
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || ip != nil && ip.IsLoopback()
}
