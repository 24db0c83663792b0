package control_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/registry/registrytest"
)

// entry is a cache of a registry.
func entry(ref string) gwclient.CacheOptionsEntry {
	return gwclient.CacheOptionsEntry{Type: "registry", Attrs: map[string]string{"ref": ref}}
}

// made is a graph with two steps.
func made(ctx context.Context, t *testing.T, name string) *llb.Definition {
	t.Helper()
	st := llb.Scratch()
	for _, part := range []string{"below", "top"} {
		st = st.File(llb.Mkfile("/"+part, 0o644, []byte(name)), llb.WithCustomName(part))
	}
	def, err := st.Marshal(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return def
}

// importing builds with a client that is the front end, and names caches with the graph. It returns the last event of each step.
func (s *server) importing(ctx context.Context, t *testing.T, name string, caches ...gwclient.CacheOptionsEntry) (map[string]*client.Vertex, error) {
	t.Helper()
	events := make(chan *client.SolveStatus)
	steps := map[string]*client.Vertex{}
	var watching sync.WaitGroup
	watching.Go(func() {
		for st := range events {
			for _, v := range st.Vertexes {
				steps[v.Name] = v
			}
		}
	})
	_, err := s.client.Build(ctx, client.SolveOpt{}, "test", func(ctx context.Context, c gwclient.Client) (*gwclient.Result, error) {
		return c.Solve(ctx, gwclient.SolveRequest{Definition: made(ctx, t, name).ToPB(), CacheImports: caches, Evaluate: true})
	}, events)
	watching.Wait()
	return steps, err
}

// TestImportsOfFrontends: clients that are front ends name caches, many at once, each with others.
func TestImportsOfFrontends(t *testing.T) {
	t.Parallel()
	m, s := registrytest.New(t), start(t)
	const builds = 8
	for i := range builds {
		name := fmt.Sprint(i)
		o := client.SolveOpt{CacheExports: []client.CacheOptionsEntry{{Type: "registry", Attrs: map[string]string{"ref": m.Name("cache:" + name), "mode": "max"}}}}
		if _, _, err := s.solve(t, made(t.Context(), t, name), o); err != nil {
			t.Fatal(err)
		}
	}
	other := start(t)
	var eg errgroup.Group
	for i := range builds {
		eg.Go(func() error {
			name := fmt.Sprint(i)
			steps, err := other.importing(t.Context(), t, name, entry(m.Name("cache:"+name)), entry(m.Name("missing:1")))
			if err == nil && (!steps["top"].Cached || steps["importing cache manifest from "+m.Name("missing:1")].Error == "") {
				err = fmt.Errorf("build %s: %v", name, steps)
			}
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		t.Error(err)
	}
}

// TestHostileImports: a front end reads no directory that its client has not given, has few caches, and holds up nothing.
func TestHostileImports(t *testing.T) {
	t.Parallel()
	m, s := registrytest.New(t), start(t)
	dir := filepath.Join(t.TempDir(), "cache")
	o := client.SolveOpt{CacheExports: []client.CacheOptionsEntry{{Type: "local", Attrs: map[string]string{"dest": dir, "mode": "max"}}}}
	if _, _, err := s.solve(t, made(t.Context(), t, "x"), o); err != nil {
		t.Fatal(err)
	}
	local := gwclient.CacheOptionsEntry{Type: "local", Attrs: map[string]string{"src": dir, "digest": "sha256:" + strings.Repeat("0", 64)}}
	steps, err := start(t).importing(t.Context(), t, "x", local, gwclient.CacheOptionsEntry{Type: "s3"})
	if err != nil || steps["top"].Cached {
		t.Errorf("%v, %v", steps, err)
	}
	shown := map[string]bool{}
	for name, v := range steps {
		if v.Error != "" {
			shown[name] = true
		}
	}
	if diff := cmp.Diff(map[string]bool{"importing cache manifest from local cache " + dir: true, "importing cache manifest from S3 cache buildkit": true}, shown); diff != "" {
		t.Error(diff)
	}
	many := make([]gwclient.CacheOptionsEntry, 10_000)
	for i := range many {
		many[i] = gwclient.CacheOptionsEntry{Type: "local", Attrs: map[string]string{"src": fmt.Sprint(i)}}
	}
	if _, err := s.importing(t.Context(), t, "x", many...); err == nil || !strings.Contains(err.Error(), "can import 64 build caches") {
		t.Errorf("%v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	m.Misbehave(registrytest.Always(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		cancel()
		<-r.Context().Done()
	}))
	if _, err := s.importing(ctx, t, "y", entry(m.Name("cache:1"))); !errors.Is(err, context.Canceled) && (err == nil || !strings.Contains(err.Error(), "canceled")) {
		t.Errorf("%v", err)
	}
}
