package builder

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/content/memory"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/internal/solver"
)

// registryCache is a cache that a front end names.
func registryCache(ref string, attrs ...string) client.CacheOptionsEntry {
	e := client.CacheOptionsEntry{Type: "registry", Attrs: map[string]string{"ref": ref}}
	for _, a := range attrs {
		k, v, _ := strings.Cut(a, "=")
		e.Attrs[k] = v
	}
	return e
}

// mkfiles solves a graph that makes files, one on top of the other.
func mkfiles(ctx context.Context, c client.Client, names []string, imports ...client.CacheOptionsEntry) (*client.Result, error) {
	st := llb.Scratch()
	for _, name := range names {
		st = st.File(llb.Mkfile("/"+name, 0o644, []byte(name)), llb.WithCustomName(name))
	}
	def, err := st.Marshal(ctx, llb.LinuxAmd64)
	if err != nil {
		return nil, err
	}
	return c.Solve(ctx, client.SolveRequest{Definition: def.ToPB(), CacheImports: imports, Evaluate: true})
}

// stepsByName are the steps of a build.
type stepsByName map[string]*bkclient.Vertex

// events returns what collects the steps while the build runs.
func (s stepsByName) events() solver.Events {
	var mu sync.Mutex
	return func(st *solver.Status) {
		mu.Lock()
		defer mu.Unlock()
		for _, v := range st.Vertexes {
			if old := s[v.Name]; old == nil || v.Completed != nil {
				s[v.Name] = v
			}
		}
	}
}

// frontBuild runs a build with a front end, and returns its steps by their names.
func frontBuild(
	ctx context.Context, t *testing.T, b *Builder, spec buildspec.Spec, attrs map[string]string, front func(context.Context, client.Client) (*client.Result, error),
) (map[string]*bkclient.Vertex, error) {
	t.Helper()
	steps := stepsByName{}
	if spec.Outputs == nil {
		spec.Outputs = []buildspec.Output{{Type: buildspec.OutputNone}}
	}
	_, err := b.Build(ctx, Options{Spec: spec, Context: ClientContext{}, Attrs: attrs, Frontend: front, Events: steps.events()})
	return steps, err
}

// ranSteps are those of names that ran.
func ranSteps(steps map[string]*bkclient.Vertex, names ...string) map[string]bool {
	ran := map[string]bool{}
	for _, name := range names {
		if v := steps[name]; v != nil && v.Completed != nil && !v.Cached {
			ran[name] = true
		}
	}
	return ran
}

// exportMade exports the cache of files to cache:1 of a registry.
func exportMade(t *testing.T, m *registrytest.Server, tag string, names ...string) {
	t.Helper()
	to, err := buildspec.ParseCaches([]string{"type=registry,mode=max,ref=" + m.Name("cache:"+tag)}, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := frontBuild(t.Context(), t, newClient(t), buildspec.Spec{CacheTo: to}, nil, func(ctx context.Context, c client.Client) (*client.Result, error) {
		return mkfiles(ctx, c, names)
	}); err != nil {
		t.Fatal(err)
	}
}

// TestFrontendImports: a front end names caches with a graph, also one whose steps it has solved in part before. Each is read once.
func TestFrontendImports(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	exportMade(t, m, "1", "a", "b", "c")
	exportMade(t, m, "2", "x", "y")
	before := len(m.SeenBy(http.MethodGet, registrytest.Manifest, registrytest.Blob))
	steps, err := frontBuild(t.Context(), t, newClient(t), buildspec.Spec{}, nil, func(ctx context.Context, c client.Client) (*client.Result, error) {
		if _, err := mkfiles(ctx, c, []string{"a"}); err != nil {
			return nil, err
		}
		eg := errgroup.Group{}
		for range 4 {
			eg.Go(func() error {
				_, err := mkfiles(ctx, c, []string{"a", "b", "c"}, registryCache(m.Name("cache:1")))
				return err
			})
			eg.Go(func() error {
				_, err := mkfiles(ctx, c, []string{"x", "y"}, registryCache(m.Name("cache:2")))
				return err
			})
		}
		if err := eg.Wait(); err != nil {
			return nil, err
		}
		return mkfiles(ctx, c, []string{"a"})
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]bool{"a": true}, ranSteps(steps, "a", "b", "c", "y")); diff != "" {
		t.Error(diff)
	}
	read := map[string]int{}
	for _, r := range m.SeenBy(http.MethodGet, registrytest.Manifest, registrytest.Blob)[before:] {
		read[r.Ref]++
	}
	for ref, n := range read {
		if n != 1 {
			t.Errorf("%s was read %d times", ref, n)
		}
	}
}

// TestFrontendImportsThatFail: what is wrong with a cache is shown, and the build goes on, unless the front end asks for what it may not have.
func TestFrontendImportsThatFail(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	many := make([]client.CacheOptionsEntry, 10_000)
	for i := range many {
		many[i] = client.CacheOptionsEntry{Type: fmt.Sprint(i)}
	}
	for name, c := range map[string]struct {
		imports    []client.CacheOptionsEntry
		shown, err string
	}{
		"missing":       {imports: []client.CacheOptionsEntry{registryCache(m.Name("no:1"))}, shown: "manifest for " + m.Name("no:1") + " not found"},
		"unknown":       {imports: []client.CacheOptionsEntry{{Type: "other", Attrs: map[string]string{"token": "hidden"}}}, shown: `unknown cache type "other"`},
		"no type":       {imports: []client.CacheOptionsEntry{{}}, shown: `unknown cache type ""`},
		"no name":       {imports: []client.CacheOptionsEntry{{Type: "registry"}}, shown: "cache type registry needs ref"},
		"invalid name":  {imports: []client.CacheOptionsEntry{registryCache("../x")}, shown: "invalid cache reference"},
		"too many":      {imports: many, err: "can import 64 build caches"},
		"too large":     {imports: []client.CacheOptionsEntry{{Type: strings.Repeat("x", maxImportSize)}}, err: "more than 65536 bytes of attributes"},
		"of the host":   {imports: []client.CacheOptionsEntry{{Type: "local", Attrs: map[string]string{"src": "/"}}}, err: "cannot import the build cache /"},
		"without a dir": {imports: []client.CacheOptionsEntry{{Type: "local"}}, err: "cannot import the build cache "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			steps, err := frontBuild(t.Context(), t, newClient(t), buildspec.Spec{}, nil, func(ctx context.Context, cl client.Client) (*client.Result, error) {
				return mkfiles(ctx, cl, []string{"a"}, c.imports...)
			})
			if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v, want %q", err, c.err)
			}
			shown := ""
			for name, v := range steps {
				if strings.HasPrefix(name, importing) && c.err == "" {
					shown += v.Error
				}
			}
			if !strings.Contains(shown, c.shown) || strings.Contains(shown, "hidden") {
				t.Errorf("shown: %q, want %q", shown, c.shown)
			}
		})
	}
}

// TestFrontendImportCanceled: a registry that does not answer holds up no canceled graph, and the next one reads the cache.
func TestFrontendImportCanceled(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	exportMade(t, m, "1", "a", "b")
	asked, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	m.Misbehave(registrytest.Always(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		once.Do(func() { close(asked) })
		select {
		case <-release:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	}))
	defer close(release)
	steps, err := frontBuild(t.Context(), t, newClient(t), buildspec.Spec{}, nil, func(ctx context.Context, c client.Client) (*client.Result, error) {
		hung, cancel := context.WithCancel(ctx)
		ended := make(chan error)
		for range 2 {
			go func() {
				_, err := mkfiles(hung, c, []string{"a"}, registryCache(m.Name("cache:1")))
				ended <- err
			}()
		}
		<-asked
		cancel()
		for range 2 {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		}
		m.Behave()
		return mkfiles(ctx, c, []string{"a", "b"}, registryCache(m.Name("cache:1")))
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(ranSteps(steps, "b")) > 0 {
		t.Errorf("the cache was not used: %v", steps)
	}
}

// TestUntrustedFrontendImports: what a front end in an image finds in a cache that the user has not named is no result of other builds, and it
// cannot have a registry spoken to without TLS.
func TestUntrustedFrontendImports(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	exportMade(t, m, "1", "a", "b")
	for name, c := range map[string]struct {
		attrs     map[string]string
		untrusted bool
		want      map[string]bool // what the next build runs
	}{
		"trusted":             {want: map[string]bool{}},
		"untrusted":           {untrusted: true, want: map[string]bool{"b": true}},
		"named":               {map[string]string{"cache-from": m.Name("cache:1")}, true, map[string]bool{}},
		"named with its type": {map[string]string{"cache-imports": `[{"Type":"registry","Attrs":{"ref":"` + m.Name("cache:1") + `"}}]`}, true, map[string]bool{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newClient(t)
			steps, err := frontBuild(t.Context(), t, b, buildspec.Spec{}, c.attrs, func(ctx context.Context, cl client.Client) (*client.Result, error) {
				cl.(*frontend).untrusted = c.untrusted //nolint:forcetypeassert // it is one
				if _, err := mkfiles(ctx, cl, []string{"a"}); err != nil {
					return nil, err
				}
				return mkfiles(ctx, cl, []string{"a", "b"}, registryCache(m.Name("cache:1")))
			})
			if err != nil || len(ranSteps(steps, "b")) > 0 {
				t.Fatalf("the cache was not used, %v", err)
			}
			steps, err = frontBuild(t.Context(), t, b, buildspec.Spec{}, nil, func(ctx context.Context, cl client.Client) (*client.Result, error) {
				return mkfiles(ctx, cl, []string{"a", "b"})
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, ranSteps(steps, "a", "b")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestGatewayImports: a front end in an image is an untrusted one.
func TestGatewayImports(t *testing.T) {
	t.Parallel()
	f := newGateway(t, "", nil)
	errs := map[string]string{}
	f.imports.o.Events = func(st *solver.Status) {
		for _, v := range st.Vertexes {
			errs[v.Name] = v.Error
		}
	}
	if _, err := f.runImage(t.Context(), map[string]string{"do": "import"}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := f.runImage(t.Context(), map[string]string{"do": "import", "type": "gha"}, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{importing + "localhost/x": errInsecure.Error(), importing + "type gha": errElsewhere.Error()}, errs); diff != "" {
		t.Error(diff)
	}
}

// TestImportBudget: caches that front ends name cannot take any amount of memory, however small they are as text.
func TestImportBudget(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		records string
		ok      bool
	}{
		"few":  {strings.Repeat("{},", 1000) + "{}", true},
		"many": {strings.Repeat("{},", maxImported/valueSize) + "{}", false},
	} {
		from := memory.New()
		put := func(mediaType, text string) ocispec.Descriptor {
			d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(text), Size: int64(len(text))}
			if err := from.Push(t.Context(), d, strings.NewReader(text)); err != nil {
				t.Fatal(err)
			}
			return d
		}
		config := put("application/vnd.buildkit.cacheconfig.v0", `{"records":[`+c.records+`]}`)
		root := put(ocispec.MediaTypeImageManifest, fmt.Sprintf(`{"config":{"mediaType":%q,"digest":%q,"size":%d}}`, config.MediaType, config.Digest, config.Size))
		b := &budget{}
		b.left.Store(maxImported)
		list, err := b.read(t.Context(), from, root)
		if (err == nil) != c.ok || c.ok && (len(list) != 1 || list[0].From != from) {
			t.Errorf("%s: %d caches, %v", name, len(list), err)
		}
	}
}
