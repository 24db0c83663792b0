package serve_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/buildkit/session"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/micabuild/mica/internal/serve"
)

// start serves a health service and a page on a new socket, and returns its path.
func start(t testing.TB) string {
	t.Helper()
	return startWith(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "page "+r.URL.Path) })
}

// startWith is start with another page.
func startWith(t testing.TB, page http.HandlerFunc) string {
	t.Helper()
	sessions, err := session.NewManager()
	if err != nil {
		t.Fatal(err)
	}
	rpc := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(rpc, health.NewServer())
	s := serve.New(serve.Options{GRPC: rpc, Sessions: sessions, HTTP: page})
	path := filepath.Join(t.TempDir(), "sub", "s.sock")
	ctx, cancel := context.WithCancel(t.Context())
	l, err := serve.Listen(ctx, "unix://"+path, serve.Access{})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if _, err := os.Lstat(path); err == nil {
			t.Error("the socket is still there")
		}
	})
	return path
}

// web is a client over HTTP/1.1.
func web(t *testing.T, path string) *http.Client {
	t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func check(t *testing.T, dial func(context.Context, string) (net.Conn, error)) {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///mica", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cc.Close() }()
	got, err := grpc_health_v1.NewHealthClient(cc).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || got.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", got, err)
	}
}

func TestBothProtocolsOnOneSocket(t *testing.T) {
	t.Parallel()
	path := start(t)
	check(t, func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	})
	// P is the first byte of POST and of the preface of HTTP/2.
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut} {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://docker/v1.47/info", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := web(t, path).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || string(body) != "page /v1.47/info" {
			t.Errorf("%s: %q, %v", method, body, err)
		}
	}
}

// upgrade asks for another protocol at a path, and returns the status line and the connection.
func upgrade(t *testing.T, socket, path, headers string) (string, net.Conn) {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\n"+headers+"\r\n"); err != nil {
		t.Fatal(err)
	}
	var head []byte
	for b := make([]byte, 1); !strings.HasSuffix(string(head), "\r\n\r\n"); head = append(head, b[0]) {
		if _, err := c.Read(b); err != nil {
			t.Fatalf("%v after %q", err, head)
		}
	}
	line, _, _ := strings.Cut(string(head), "\r\n")
	return line, c
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	path := start(t)
	for _, at := range []string{"/grpc", "/v1.54/grpc"} {
		line, c := upgrade(t, path, at, "Upgrade: h2c\r\n")
		if line != "HTTP/1.1 101 Switching Protocols" {
			t.Fatalf("%s: %s", at, line)
		}
		check(t, func(context.Context, string) (net.Conn, error) { return c, nil })
	}
	if line, _ := upgrade(t, path, "/session", "Upgrade: h2c\r\nX-Docker-Expose-Session-Uuid: a\r\n"); !strings.Contains(line, " 101 ") {
		t.Errorf("session: %s", line)
	}
	for _, at := range []string{"/grpc", "/session"} {
		if line, _ := upgrade(t, path, at, "Upgrade: websocket\r\n"); !strings.Contains(line, " 400 ") {
			t.Errorf("%s to another protocol: %s", at, line)
		}
	}
}

func TestSocketFiles(t *testing.T) {
	t.Parallel()
	path := start(t)
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	if _, err := serve.Listen(t.Context(), "unix://"+path, serve.Access{}); err == nil || !strings.Contains(err.Error(), "another server uses this socket") {
		t.Errorf("a socket in use: %v", err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := serve.Listen(t.Context(), "unix://"+file, serve.Access{}); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file: %v", err)
	}
	// A socket that a killed server left is replaced.
	stale := filepath.Join(dir, "stale.sock")
	l, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	again, err := serve.Listen(t.Context(), "unix://"+stale, serve.Access{})
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("left: %v", list)
	}
}

func TestInvalidAddresses(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"":                  "invalid address",
		"/run/mica.sock":    "invalid address",
		"unix://mica.sock":  "invalid address",
		"http://localhost:": "invalid address",
		"tcp://127.0.0.1:0": "--tlscacert",
	} {
		if l, err := serve.Listen(t.Context(), address, serve.Access{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v", address, l, err)
		}
	}
}

// TestSilentClients: clients that say nothing do not keep others from being answered.
func TestSilentClients(t *testing.T) {
	t.Parallel()
	path := start(t)
	for range 50 {
		c, err := net.DialTimeout("unix", path, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
	}
	check(t, func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	})
}

// TestManyConnections: a client that opens connections without end is refused at some number, and shuts out no other.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rpc := grpc.NewServer()
	s := serve.New(serve.Options{GRPC: rpc, HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) })})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Serve(ctx, l) })
	defer running.Wait()
	defer cancel()
	// answered asks over a new connection, which stays.
	answered := func(from string) bool {
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: mica\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return false
		}
		body, err := io.ReadAll(resp.Body)
		return err == nil && resp.Body.Close() == nil && strings.HasPrefix(string(body), from+":")
	}
	n := 0
	for n < 2000 && answered("127.0.0.2") {
		n++
	}
	if n < 1024 || n == 2000 {
		t.Errorf("a client has %d connections", n)
	}
	if !answered("127.0.0.3") {
		t.Error("another client is refused")
	}
}

// TestUserOfSocket: a server knows a client by a unix socket as a user of the host.
func TestUserOfSocket(t *testing.T) {
	t.Parallel()
	socket := startWith(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) })
	resp, err := web(t, socket).Get("http://docker/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != fmt.Sprintf("user %d", os.Geteuid()) {
		t.Errorf("%q, %v", body, err)
	}
}

// A handler that takes over a connection finds its socket: it half-closes it, and looks whether the client is there.
func TestHijackedSocket(t *testing.T) {
	t.Parallel()
	socket := startWith(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		inner, ok := conn, true
		for ok {
			var outer interface{ NetConn() net.Conn }
			if outer, ok = inner.(interface{ NetConn() net.Conn }); ok {
				inner = outer.NetConn()
			}
		}
		_, _ = fmt.Fprintf(conn, "%T", inner)
		_ = conn.Close()
	})
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: mica\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if kind, err := io.ReadAll(conn); err != nil || string(kind) != "*net.UnixConn" {
		t.Errorf("%s, %v", kind, err)
	}
}
