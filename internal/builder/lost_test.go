package builder

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/solver"
)

// cacheLayers returns the layers that the manifest of a cache names.
func cacheLayers(t *testing.T, m *registrytest.Server, repo, tag string) (list []ocispec.Descriptor) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m.Addr+"/v2/"+repo+"/manifests/"+tag, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", ocispec.MediaTypeImageManifest)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var manifest ocispec.Manifest
	if err := json.NewDecoder(resp.Body).Decode(&manifest); err != nil {
		t.Fatal(err)
	}
	for _, l := range manifest.Layers {
		if l.Annotations[remotecache.AnnotationDiffID] != "" {
			list = append(list, l)
		}
	}
	return list
}

// TestLostLayers: a registry has removed blobs of a cache, and kept its manifest. The steps whose results need them run, and say why. The
// other results are used, also those built on one that a step gives again.
func TestLostLayers(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	dir := writeFiles(t, map[string]string{
		"Dockerfile": "FROM scratch AS a\nCOPY one /\nFROM scratch\nCOPY two /\nCOPY --from=a /one /copy\n", "one": "1", "two": "2",
	})
	const one, two, copied = "[a 1/1] COPY one /", "[stage-1 1/2] COPY two /", "[stage-1 2/2] COPY --from=a /one /copy"
	const because = "because its result came from a cache that no longer has its layers"
	missed := "not in cache " + m.Name("cache:1") + ": it names the result of the step, but layers of that are gone"
	to, err := buildspec.ParseCaches([]string{"type=registry,mode=max,ref=" + m.Name("cache:1")}, true)
	if err != nil {
		t.Fatal(err)
	}
	mustBuild(t, newClient(t), dir, buildspec.Spec{CacheTo: to})
	from, err := buildspec.ParseCaches([]string{m.Name("cache:1")}, false)
	if err != nil {
		t.Fatal(err)
	}
	layers := cacheLayers(t, m, "cache", "1")
	for name, tt := range map[string]struct {
		lost   []string
		status int
		output string
		want   map[string][]string // the notes of the steps that ran
		err    string
	}{
		"none":                {nil, 404, "type=tar,dest=x", map[string][]string{}, ""},
		"all":                 {[]string{one, two, copied}, 404, "type=tar,dest=x", map[string][]string{one: {because, missed}, two: {because, missed}, copied: {because, missed}}, ""},
		"all of a push":       {[]string{one, two, copied}, 404, "type=registry", map[string][]string{one: {because, missed}, two: {because, missed}, copied: {because, missed}}, ""},
		"one that is beneath": {[]string{two}, 404, "type=tar,dest=x", map[string][]string{two: {because, missed}}, ""},
		"the last":            {[]string{copied}, 404, "type=tar,dest=x", map[string][]string{copied: {because, missed}}, ""},
		"one that none needs": {[]string{one}, 404, "type=tar,dest=x", map[string][]string{}, ""},
		"not known":           {[]string{two}, 403, "type=tar,dest=x", nil, "(build without --cache-from, or export the cache again)"},
	} {
		t.Run(name, func(t *testing.T) {
			m.Misbehave(func(registrytest.Request) registrytest.Fault {
				return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					for _, l := range layers {
						if r.URL.Path == "/v2/cache/blobs/"+l.Digest.String() && slices.Contains(tt.lost, l.Annotations["buildkit/description"]) {
							registrytest.Refuse(w, tt.status, "BLOB_UNKNOWN")
							return
						}
					}
					next.ServeHTTP(w, r)
				}
			})
			spec := buildspec.Spec{CacheFrom: from, Tags: []string{m.Name("app:1")}}
			var err error
			if spec.Outputs, err = buildspec.ParseOutputs([]string{tt.output}); err != nil {
				t.Fatal(err)
			}
			seen := ran{steps: map[digest.Digest]*client.Vertex{}, notes: map[digest.Digest][]string{}}
			out := &memorySink{}
			_, err = newClient(t).Build(t.Context(), Options{
				Spec: spec, Context: DirContext{Dir: dir}, Create: func(string) (Sink, error) { return out, nil }, Events: seen.add,
			})
			if tt.err != "" {
				if err == nil || !strings.HasSuffix(err.Error(), tt.err) {
					t.Errorf("%v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, seen.copies(t)); diff != "" {
				t.Error(diff)
			}
			if tt.output != "type=registry" {
				if diff := cmp.Diff(map[string]string{"copy": "1", "two": "2"}, members(t, out)); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// TestExportOfLostLayers: an export leaves out results whose layers nobody has any more, since no step has needed them.
func TestExportOfLostLayers(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM scratch AS a\nCOPY one /\nFROM scratch\nCOPY --from=a /one /copy\n", "one": "1"})
	caches := func(text string, to bool) []buildspec.Cache {
		list, err := buildspec.ParseCaches([]string{text}, to)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	mustBuild(t, newClient(t), dir, buildspec.Spec{CacheTo: caches("type=registry,mode=max,ref="+m.Name("cache:1"), true)})
	layers := cacheLayers(t, m, "cache", "1")
	lost := slices.IndexFunc(layers, func(d ocispec.Descriptor) bool { return d.Annotations["buildkit/description"] == "[a 1/1] COPY one /" })
	blob := "/v2/cache/blobs/" + layers[lost].Digest.String()
	status := http.StatusNotFound
	m.Misbehave(func(registrytest.Request) registrytest.Fault {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.URL.Path == blob {
				registrytest.Refuse(w, status, "BLOB_UNKNOWN")
				return
			}
			if r.URL.Query().Get("mount") == layers[lost].Digest.String() {
				r.URL.RawQuery = "" // it cannot be mounted either: an upload begins
			}
			next.ServeHTTP(w, r)
		}
	})
	spec := buildspec.Spec{CacheFrom: caches(m.Name("cache:1"), false)}
	spec.CacheTo = append(caches("type=registry,mode=max,ref="+m.Name("again:1"), true), caches("type=local,mode=max,dest="+filepath.Join(t.TempDir(), "c"), true)...)
	mustBuild(t, newClient(t), dir, spec)
	if again := cacheLayers(t, m, "again", "1"); len(layers) != 2 || len(again) != 1 || again[0].Digest != layers[1-lost].Digest {
		t.Errorf("%v was exported of %v", again, layers)
	}
	status = http.StatusForbidden
	for _, to := range spec.CacheTo {
		one := spec
		one.CacheTo = []buildspec.Cache{to}
		if to.Type == buildspec.CacheRegistry {
			one.CacheTo[0].Ref = m.Name("third:1")
		} else {
			one.CacheTo[0].Dir = filepath.Join(t.TempDir(), "third")
		}
		if _, _, err := build(t, newClient(t), dir, one); err == nil || !strings.HasPrefix(err.Error(), "export build cache: ") {
			t.Errorf("%s: %v", to.Type, err)
		}
	}
}

// ran has the last event of each step, and its notes.
type ran struct {
	mu    sync.Mutex
	steps map[digest.Digest]*client.Vertex
	notes map[digest.Digest][]string
}

func (r *ran) add(st *solver.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range st.Vertexes {
		r.steps[v.Digest] = v
	}
	for _, s := range st.Statuses {
		if solver.IsNote(s) {
			r.notes[s.Vertex] = append(r.notes[s.Vertex], s.Name)
		}
	}
}

// copies returns the COPY steps that ran, with their notes.
func (r *ran) copies(t *testing.T) map[string][]string {
	t.Helper()
	list := map[string][]string{}
	for d, v := range r.steps {
		if v.Completed == nil || v.Error != "" {
			t.Errorf("%s has not ended well: %+v", v.Name, v)
		}
		if strings.Contains(v.Name, "COPY") && !v.Cached {
			list[v.Name] = r.notes[d]
		}
	}
	return list
}
