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

	"github.com/micabuild/mica/internal/hostfiles"
)

// maxHeader bounds the header of a response, in bytes.
const maxHeader = 256 << 10

// transports has one HTTP transport for each host, as certificates belong to hosts.
type transports struct {
	insecure func(host string) bool
	access   *Access
	limits   limits

	mu     sync.Mutex
	byHost map[string]*http.Transport
}

func (t *transports) RoundTrip(req *http.Request) (*http.Response, error) {
	host, err := t.of(req.Context(), req.URL.Host)
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
	if isPlainHTTP(err) {
		err = &permanentError{&NoTLSError{req.URL.Host}}
	}
	return resp, err
}

// NoTLSError is the error of a registry that responds to a TLS handshake in plain HTTP, and may not.
type NoTLSError struct{ Host string }

func (e *NoTLSError) Error() string {
	return e.Host + " does not support TLS (to use plain HTTP, set insecure = true for it in registries.conf)"
}

// isPlainHTTP reports whether a TLS handshake failed because the server speaks plain HTTP.
func isPlainHTTP(err error) bool {
	var record tls.RecordHeaderError
	return errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/"
}

// chooseChallenge keeps one of several challenges (RFC 9110, 11.6.1): a token, or else a password. Registries do not use
// others, such as Negotiate.
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

// of returns the transport of a host. The first call for a host reads its certificates.
func (t *transports) of(ctx context.Context, host string) (tr *http.Transport, err error) {
	t.mu.Lock()
	tr = t.byHost[host]
	t.mu.Unlock()
	if tr != nil {
		return tr, nil
	}
	err = hostfiles.With(ctx, func() error {
		t.mu.Lock()
		defer t.mu.Unlock()
		if tr = t.byHost[host]; tr != nil {
			return nil
		}
		config, err := tlsConfig(host, t.insecure(host))
		if err == nil && t.access != nil {
			err = t.access.configure(host, config)
		}
		if err != nil {
			return err
		}
		tr = newTransport(config)
		t.byHost[host] = tr
		return nil
	})
	return tr, err
}

func newTransport(config *tls.Config) *http.Transport {
	return &http.Transport{
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
}

// tlsConfig trusts the system's CAs and those in the host's directory in certs.d, and presents its client certificates.
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

// certDirs are the directories with one directory of certificates for each host (containers-certs.d(5)). The first that has
// a host is used.
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

// plainHTTP reports whether to use plain HTTP: only if the host does not support TLS, and is on loopback or insecure by
// registries.conf.
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

// asksForHTTP begins a TLS handshake: a server of plain HTTP responds with an error message that is not TLS.
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
	// If there is no response, the request itself fails, after its retries. A registry on port 80 alone speaks plain HTTP.
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
