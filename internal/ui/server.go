// Package ui serves the images, builds and cache of a store as a page for browsers: its files, which are embedded, and the JSON that they
// ask for.
//
// The page shows names, commands and output that others wrote. The server sends them as data, and the page shows them as text.
package ui

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/store"
)

// Options are what a server shows.
type Options struct {
	Store *store.Store
	// Fetch fetches blobs that the store lacks but a registry is known to have; nil for none.
	Fetch layer.Fetch
	// Registry is the client for images of registries; nil for none.
	Registry func() *registry.Client
	Version  string // of mica
}

// Server serves one store to those who have its URL. It is safe for concurrent use.
type Server struct {
	store    *store.Store
	fetch    layer.Fetch
	registry func() *registry.Client
	version  string
	builds   *history.Builds
	trees    shelf
	// use is held while a request reads objects of the store, and exclusively by a prune, which a process that uses the store must
	// not do.
	use sync.RWMutex

	space string // the first part of all paths: a cookie for it is not sent to other servers of the host
	token string
	ended context.Context // ends with Serve
}

// New returns a server of a store, with a new token.
func New(o Options) *Server {
	return &Server{
		store: o.Store, fetch: o.Fetch, registry: o.Registry, version: o.Version, builds: history.Open(o.Store),
		space: random(8), token: random(32), ended: context.Background(),
	}
}

// random returns n random bytes in hexadecimal digits.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return hex.EncodeToString(b)
}

// URL is the address of the page at a listener, with the token.
func (s *Server) URL(addr net.Addr) string {
	host := addr.String()
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		host = net.JoinHostPort("localhost", fmt.Sprint(tcp.Port))
	}
	return "http://" + host + "/" + s.space + "/?token=" + s.token
}

// IsLoopback reports whether only this host reaches an address, HOST:PORT.
func IsLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Times and sizes of requests: a client that is slower or sends more is not a browser with this page.
const (
	headerTimeout = 10 * time.Second
	shutdownTime  = 2 * time.Second
	maxHeader     = 64 << 10
	maxBody       = 64 << 10
)

// Serve answers requests of a listener until ctx ends. It closes the listener.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	s.ended = ctx
	srv := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: headerTimeout, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	// Requests end with ctx; a prune ends at its next step.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if err := srv.Shutdown(end); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("end the server: %w", err)
	}
	return srv.Close()
}

// Handler returns what answers requests.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, f := range map[string]func(*http.Request) (any, error){
		"GET /api/info":           s.info,
		"GET /api/images":         s.held(s.listImages),
		"GET /api/image":          s.held(s.showImage),
		"GET /api/files":          s.held(s.listFiles),
		"GET /api/search":         s.held(s.searchFiles),
		"GET /api/sizes":          s.held(s.sizes),
		"GET /api/analysis":       s.held(s.analyzeImage),
		"GET /api/diff":           s.held(s.diffImages),
		"GET /api/difftext":       s.held(s.diffText),
		"GET /api/builds":         s.listBuilds,
		"GET /api/build":          s.showBuild,
		"GET /api/log":            s.showLog,
		"GET /api/cache":          s.showCache,
		"POST /api/cache/prune":   s.pruneCache,
		"POST /api/builds/remove": s.removeBuild,
	} {
		mux.Handle(pattern, answer(f))
	}
	mux.HandleFunc("GET /api/content", s.sendFile)
	mux.HandleFunc("GET /api/watch", s.watchBuild)
	mux.Handle("GET /", page())
	return s.guard(http.StripPrefix("/"+s.space, mux))
}

// newLayers returns the layers and images of the store. What they remember ends with them: the server lasts longer than a command.
func (s *Server) newLayers() (*layer.Layers, *image.Images) {
	l := layer.New(s.store)
	if s.fetch != nil {
		l.SetFetch(s.fetch)
	}
	return l, image.New(s.store, l)
}

// using calls f while the objects that it reads are held, so that a prune of another process leaves them.
func (s *Server) using(ctx context.Context, f func() error) (err error) {
	s.use.RLock()
	defer s.use.RUnlock()
	use, err := s.store.Use(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, use.End()) }()
	return f()
}

// held is f with the objects that it reads held.
func (s *Server) held(f func(*http.Request) (any, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (v any, err error) {
		err = s.using(r.Context(), func() (err error) { v, err = f(r); return err })
		return v, err
	}
}

func (s *Server) info(*http.Request) (any, error) {
	return map[string]string{"version": s.version, "store": s.store.Root()}, nil
}

// trimRoot is a path of a file without the slash that people write before it; "." for the root.
func trimRoot(name string) string {
	if name = strings.Trim(name, "/"); name == "" {
		return "."
	}
	return name
}
