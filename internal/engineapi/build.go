package engineapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"

	"github.com/distribution/reference"
	apibuild "github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/fairshare"
	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/sandbox"
)

// Limits on builds that run at once.
const (
	maxBuilds = 128 // of all clients, beside those of each
	ownBuilds = 4
)

// running are the builds that run, and those that a client can cancel, by the IDs that clients gave them.
type running struct {
	limit fairshare.Limit

	mu    sync.Mutex
	named map[string]*namedBuild
}

// namedBuild is a build that a client can cancel.
type namedBuild struct{ cancel context.CancelCauseFunc }

var errBusy = &requestError{http.StatusServiceUnavailable, errors.New("too many builds are running: try again when one has ended")}

var errCanceled = errors.New("the build was canceled")

// start returns the context of a client's build, and what ends it.
func (b *running) start(ctx context.Context, client, id string) (context.Context, func(), error) {
	if !b.limit.Take(client) {
		return nil, nil, errBusy
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	build := &namedBuild{cancel}
	if id != "" {
		if b.named == nil {
			b.named = map[string]*namedBuild{}
		}
		b.named[id] = build
	}
	return ctx, func() {
		cancel(nil)
		b.limit.Return(client)
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.named[id] == build { // and not a later one with the same ID
			delete(b.named, id)
		}
	}, nil
}

// cancelBuild answers a client that gives up a build of another connection.
func (s *Server) cancelBuild(_ http.ResponseWriter, r *http.Request) error {
	id := r.URL.Query().Get("id")
	if id == "" {
		return badRequest("build ID not provided")
	}
	s.builds.mu.Lock()
	defer s.builds.mu.Unlock()
	if build := s.builds.named[id]; build != nil {
		build.cancel(errCanceled)
	}
	return nil
}

// build answers docker build with the classic builder: BuildKit's front end compiles the Dockerfile.
func (s *Server) build(w http.ResponseWriter, r *http.Request) (err error) {
	o, err := buildOptions(r)
	if err != nil {
		return err
	}
	ctx, end, err := s.builds.start(r.Context(), fairshare.Client(r.RemoteAddr), r.URL.Query().Get("buildid"))
	if err != nil {
		return err
	}
	defer end()
	st, err := s.openStore(registryConfig(r))
	if err != nil {
		return err
	}
	var cleanup func() error
	if o.Context, cleanup, err = openContext(st, r); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanup()) }()
	host := s.o.Host
	if host == nil {
		if host, err = sandbox.NewHost(st.store, s.o.Runtime); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, host.Close()) }()
	}
	out := newStream(w)
	shown := &buildOutput{out: out, quiet: boolean(r, "q")}
	o.Events = shown.events
	b := &builder.Builder{Store: st.store, Layers: st.layers, Images: st.images, Host: host, Registry: st.registry}
	res, err := b.Build(ctx, *o)
	if err != nil {
		return endFailed(ctx, out, shown, err)
	}
	for _, note := range st.layers.Notes() {
		shown.text("NOTE: " + note + "\n")
	}
	s.reportBuild(shown, res)
	return nil
}

// reportBuild says what was built, in the words that programs look for.
func (s *Server) reportBuild(shown *buildOutput, res *builder.Result) {
	id := res.Image.ID.String()
	s.Built(res)
	if shown.quiet {
		shown.out.send(jsonstream.Message{Stream: id + "\n"})
	} else {
		shown.out.aux(apibuild.Result{ID: id})
		shown.text("Successfully built " + res.Image.ShortID() + "\n")
	}
	for _, name := range res.Names {
		shown.text("Successfully tagged " + familiar(name) + "\n")
	}
}

// familiar is a name as docker shows it.
func familiar(name string) string {
	if named, err := reference.ParseNormalizedNamed(name); err == nil {
		return reference.FamiliarString(named)
	}
	return name
}

// Built publishes the events of an image that a build has put into the store.
func (s *Server) Built(res *builder.Result) {
	id := res.Image.ID.String()
	s.imageEvent(events.ActionCreate, id, id, nil)
	for _, name := range res.Names {
		s.imageEvent(events.ActionTag, id, familiar(name), res.Image.Config.Config.Labels)
	}
}

// endFailed ends the answer of a build that has failed. A mistake in the Dockerfile is one in the request.
func endFailed(ctx context.Context, out *stream, shown *buildOutput, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errCanceled) {
		err = cause
	}
	shown.flush()
	at := builder.Position(err)
	err = builder.Located(err)
	var exit *ociruntime.ExitError
	if errors.As(err, &exit) {
		out.fail(err, exit.Code)
		return nil
	}
	if at != "" {
		err = &requestError{http.StatusBadRequest, err}
	}
	return out.end(err)
}

// openContext opens the context of a build: a URL, or the archive in the body.
func openContext(st *requestStore, r *http.Request) (builder.Context, func() error, error) {
	dockerfile := r.URL.Query().Get("dockerfile")
	remote := r.URL.Query().Get("remote")
	if remote == "" {
		return builder.SpoolArchive(st.store, r.Body, dockerfile)
	}
	if strings.HasPrefix(remote, "github.com/") {
		remote = "https://" + remote
	}
	for _, prefix := range []string{"http://", "https://", "git://", "ssh://", "git@"} {
		if strings.HasPrefix(remote, prefix) {
			return builder.RemoteContext{URL: remote, Dockerfile: dockerfile}, func() error { return nil }, nil
		}
	}
	return nil, nil, badRequest("remote context %q is neither a URL nor a git repository", remote)
}
