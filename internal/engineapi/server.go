// Package engineapi serves Docker's Engine API over one store: images, registries, builds, containers, volumes, events, and what docker asks of a server. The
// handlers call what mica's commands call.
//
// Each request has the store for itself, as a process of a command has it: what it holds is released with it, and a prune does not wait
// for the others.
package engineapi

import (
	"context"
	"net/http"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/client/pkg/versions"

	"github.com/micabuild/mica/internal/containers"
	"github.com/micabuild/mica/internal/fairshare"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/version"
)

// The versions of the API that the server speaks.
const (
	MaxVersion = "1.56"
	MinVersion = "1.40"
)

// Options say what a server serves.
type Options struct {
	// Root is the directory of the store.
	Root string
	// Registry has the settings of the clients of registries. Requests bring their own credentials: those of the server are not used.
	Registry registry.Options
	// Runtime is the OCI runtime of the steps of builds, "" to find one.
	Runtime string
	// Host runs the steps of builds; nil makes one for each build.
	Host *sandbox.Host
	// BuildKit is set if BuildKit's sessions are served beside this API, at /grpc and /session: docker builds with them.
	BuildKit bool
}

// Server serves one store. It is safe for concurrent use.
type Server struct {
	o      Options
	mux    *http.ServeMux
	events *hub
	builds running
	// containers live as long as the server.
	containers *containers.Manager
	// garbage is what removals of images have left.
	garbage garbage
	// writeTimeout is how long clients may read nothing.
	writeTimeout time.Duration
}

// New returns a server. It opens the store with each request.
func New(o Options) *Server {
	s := &Server{o: o, mux: http.NewServeMux(), events: newHub(), writeTimeout: writeTimeout}
	s.builds.limit = fairshare.Limit{Own: ownBuilds, Shared: maxBuilds}
	s.containers = containers.NewManager(containers.Options{Root: o.Root, Host: o.Host, Publish: s.events.publish})
	s.addRoutes()
	return s
}

// Close ends the containers of the server.
func (s *Server) Close() error { return s.containers.Close() }

// HasContainers reports whether there are containers, also stopped ones: they end with the server.
func (s *Server) HasContainers() bool {
	_, all := s.containers.Count()
	return all > 0
}

// handler serves a request. It returns the errors that come before the answer.
type handler func(w http.ResponseWriter, r *http.Request) error

func (s *Server) addRoutes() {
	for pattern, h := range map[string]handler{
		"GET /_ping":     s.ping,
		"GET /version":   s.version,
		"GET /info":      s.info,
		"POST /auth":     s.auth,
		"GET /events":    s.streamEvents,
		"GET /system/df": s.diskUsage,
		"POST /build":    s.build,

		"GET /images/json":            s.listImages,
		"GET /images/search":          searchImages,
		"GET /images/get":             s.saveImages,
		"GET /images/{rest...}":       s.getImage,
		"POST /images/load":           s.loadImages,
		"POST /images/create":         s.createImage,
		"POST /images/prune":          s.pruneImages,
		"POST /images/{rest...}":      s.postImage,
		"DELETE /images/{name...}":    s.removeImage,
		"GET /distribution/{rest...}": s.inspectDistribution,

		"POST /build/prune":  s.pruneBuilds,
		"POST /build/cancel": s.cancelBuild,
	} {
		s.mux.Handle(pattern, s.answer(h))
	}
	for _, routes := range []map[string]handler{s.containerRoutes(), s.volumeRoutes(), s.networkRoutes(), absent} {
		for pattern, h := range routes {
			s.mux.Handle(pattern, s.answer(h))
		}
	}
	s.mux.Handle("/", s.answer(func(http.ResponseWriter, *http.Request) error { return pageNotFound }))
}

// versioned is a path that begins with a version of the API.
var versioned = regexp.MustCompile(`^/v([0-9.]+)(/.*)$`)

type versionKey struct{}

// ServeHTTP answers a request, of any version of the API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Server", "Docker/"+version.String()+" ("+runtime.GOOS+")")
	h.Set("Api-Version", MaxVersion)
	h.Set("Ostype", runtime.GOOS)
	h.Set("Docker-Experimental", "false")
	version := MaxVersion
	if m := versioned.FindStringSubmatch(r.URL.Path); m != nil {
		version = m[1]
		u := *r.URL
		u.Path, u.RawPath = m[2], strings.TrimPrefix(u.RawPath, "/v"+version)
		c := *r
		c.URL = &u
		r = &c
	}
	if err := checkVersion(version); err != nil {
		writeError(w, err)
		return
	}
	if r.Method == http.MethodOptions { // of any path, as in Docker
		return
	}
	s.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), versionKey{}, version)))
}

// checkVersion refuses versions of clients that the server does not speak, in Docker's words.
func checkVersion(v string) error {
	switch {
	case !isVersion(v):
		return badRequest("invalid API version: %q", v)
	case versions.LessThan(v, MinVersion):
		return badRequest("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", v, MinVersion)
	case versions.GreaterThan(v, MaxVersion):
		return badRequest("client version %s is too new. Maximum supported API version is %s", v, MaxVersion)
	}
	return nil
}

// isVersion reports whether a text is two numbers with a point between them.
func isVersion(v string) bool {
	major, minor, ok := strings.Cut(v, ".")
	if !ok {
		return false
	}
	for _, part := range []string{major, minor} {
		if n, err := strconv.Atoi(part); err != nil || n < 0 || n > 9999 {
			return false
		}
	}
	return true
}

// since reports whether the client speaks at least a version.
func since(r *http.Request, version string) bool {
	v, ok := r.Context().Value(versionKey{}).(string)
	return !ok || versions.GreaterThanOrEqualTo(v, version)
}
