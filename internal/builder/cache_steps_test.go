package builder

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/registry/registrytest"
)

// stepsFiles is a context with stages, of which one is only copied from.
func stepsFiles(m *registrytest.Server) map[string]string {
	return map[string]string{
		"a": "a", "b": "b",
		"Dockerfile": "FROM " + m.Name("base:1") + " AS one\nCOPY a /x/a\nWORKDIR /x/w\nFROM scratch\nCOPY --from=one /x/a /a\nCOPY --from=one /f /f\nCOPY b /b\n",
	}
}

// buildSteps builds with a cache of single steps, and returns the steps by their names.
func buildSteps(t *testing.T, b *Builder, dir string, spec buildspec.Spec, from, to string) (map[string]*bkclient.Vertex, error) {
	t.Helper()
	var err error
	if spec.CacheFrom, err = buildspec.ParseCaches([]string{from}, false); err != nil {
		t.Fatal(err)
	}
	if spec.CacheTo, err = buildspec.ParseCaches([]string{to}, true); err != nil {
		t.Fatal(err)
	}
	if spec.Outputs == nil {
		spec.Outputs = []buildspec.Output{{Type: buildspec.OutputNone, Lazy: true}}
	}
	steps := stepsByName{}
	_, err = b.Build(t.Context(), Options{Spec: spec, Context: DirContext{Dir: dir}, Events: steps.events()})
	return steps, err
}

// ranCommands lists the steps of stepsFiles that ran.
func ranCommands(steps map[string]*bkclient.Vertex) (list []string) {
	for name, v := range steps {
		if strings.HasPrefix(name, "[") && !strings.Contains(name, "internal") && !strings.Contains(name, " FROM ") && v.Completed != nil && !v.Cached {
			_, command, _ := strings.Cut(name, "] ")
			list = append(list, command)
		}
	}
	slices.Sort(list)
	return list
}

func wantRan(t *testing.T, what string, steps map[string]*bkclient.Vertex, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := ranCommands(steps); !slices.Equal(got, want) {
		t.Errorf("%s: ran %q, want %q", what, got, want)
	}
}

// TestStepCache: another store finds all steps, by one request for the last; what depends on a changed file runs, and no layer is fetched that
// no step reads.
func TestStepCache(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	putBase(t, m, "1", "base")
	files := stepsFiles(m)
	cache := "type=registry,mode=steps,ref=" + m.Name("cache")
	spec := buildspec.Spec{Platforms: []ocispec.Platform{amd64}}
	steps, err := buildSteps(t, newClient(t), writeFiles(t, files), spec, cache, cache)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"COPY a /x/a", "WORKDIR /x/w", "COPY --from=one /x/a /a", "COPY --from=one /f /f", "COPY b /b"}
	wantRan(t, "an empty cache", steps, all...)

	m.Behave()
	if steps, err = buildSteps(t, newClient(t), writeFiles(t, files), spec, cache, cache); err != nil {
		t.Fatal(err)
	}
	wantRan(t, "the same", steps)
	if n := len(m.SeenBy(http.MethodGet, registrytest.Blob)); n > 1 { // the config of the base image
		t.Errorf("%d blobs were fetched", n)
	}
	asked := 0
	for _, r := range m.SeenBy(http.MethodGet, registrytest.Manifest) {
		if strings.HasPrefix(r.Ref, "step-") {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("%d records were read, want one", asked)
	}
	if sent := m.SeenBy(http.MethodPut, registrytest.Manifest, registrytest.Upload); len(sent) > 0 {
		t.Errorf("sent again: %v", sent)
	}

	m.Behave()
	files["b"] = "other"
	if steps, err = buildSteps(t, newClient(t), writeFiles(t, files), spec, cache, cache); err != nil {
		t.Fatal(err)
	}
	wantRan(t, "another b", steps, "COPY b /b")
	if n := len(m.SeenBy(http.MethodGet, registrytest.Blob)); n > 3 { // and the layers that b is copied onto, not those of the other stage
		t.Errorf("another b: %d blobs were fetched", n)
	}
	files["Dockerfile"] = strings.Replace(files["Dockerfile"], "WORKDIR /x/w", "WORKDIR /x/w2", 1)
	if steps, err = buildSteps(t, newClient(t), writeFiles(t, files), spec, cache, cache); err != nil {
		t.Fatal(err)
	}
	wantRan(t, "another stage, of which the files that are copied are the same", steps, "WORKDIR /x/w2")
	spec.NoCache = true
	if steps, err = buildSteps(t, newClient(t), writeFiles(t, files), spec, cache, cache); err != nil {
		t.Fatal(err)
	}
	if len(ranCommands(steps)) != len(all) {
		t.Errorf("--no-cache: ran %q", ranCommands(steps))
	}
}

// recordTags lists the tags of the records in a cache.
func recordTags(m *registrytest.Server, repo string) (tags []string) {
	for _, tag := range m.Refs(repo) {
		if strings.HasPrefix(tag, "step-") {
			tags = append(tags, tag)
		}
	}
	return tags
}

// TestStepCacheOfManyBuilds: builds that write one cache at the same time keep each other's records.
func TestStepCacheOfManyBuilds(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	putBase(t, m, "1", "base")
	cache := "type=registry,mode=steps,ref=" + m.Name("cache")
	spec := buildspec.Spec{Platforms: []ocispec.Platform{amd64}}
	var dirs []string
	var builders []*Builder
	for i := range 8 {
		files := stepsFiles(m)
		files["b"] = fmt.Sprint("b of ", i)
		dirs, builders = append(dirs, writeFiles(t, files)), append(builders, newClient(t))
	}
	eg := errgroup.Group{}
	for i, dir := range dirs {
		eg.Go(func() error {
			_, err := buildSteps(t, builders[i], dir, spec, cache, cache)
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		t.Fatal(err)
	}
	for i, dir := range dirs {
		steps, err := buildSteps(t, newClient(t), dir, spec, cache, cache)
		if err != nil {
			t.Fatal(err)
		}
		wantRan(t, fmt.Sprint("build ", i), steps)
	}
}

// TestStepCacheOfHostileRegistry: what a registry says of a step is no result unless it is whole and true. Otherwise the step runs.
func TestStepCacheOfHostileRegistry(t *testing.T) {
	t.Parallel()
	const marker = `"artifactType":"application/vnd.mica.step.v1"`
	edit := func(old, now string) func([]byte) []byte {
		return func(raw []byte) []byte { return []byte(strings.ReplaceAll(string(raw), old, now)) }
	}
	for name, c := range map[string]struct {
		edit  func([]byte) []byte
		fault registrytest.Fault // for each request for a record
		drop  bool               // the layers are gone
		shown string
	}{
		"huge":                {edit: func([]byte) []byte { return []byte(`{"x":"` + strings.Repeat("x", 5<<20) + `"}`) }, shown: "more than the 4194304 that one may have"},
		"no JSON":             {edit: func([]byte) []byte { return []byte("[") }, shown: "unexpected end of JSON input"},
		"an image":            {edit: edit(marker, `"artifactType":""`), shown: "not a step record"},
		"of another step":     {edit: edit("step.keys", "step.other"), shown: "it is the record of another step"},
		"without layers":      {edit: edit("step.chain", "step.other"), shown: "it has no layers"},
		"of a path":           {edit: edit(`step.chain":"sha256:`, `step.chain":"sha256:../../`), shown: "invalid"},
		"unknown layers":      {edit: edit("application/vnd.oci.image.layer.v1.tar+gzip", "text/html"), shown: `unknown media type "text/html"`},
		"layers without size": {edit: edit(`"size":`, `"size":-`), shown: "size"},
		"without DiffIDs":     {edit: edit("containerd.io/uncompressed", "x"), shown: "has no DiffID"},
		"lost layers":         {drop: true},
		"of no use":           {fault: registrytest.Status(500), shown: "500"},
		"closed":              {fault: registrytest.Status(403), shown: "denied"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := registrytest.New(t)
			putBase(t, m, "1", "base")
			cache := "type=registry,mode=steps,ref=" + m.Name("cache")
			dir := writeFiles(t, stepsFiles(m))
			spec := buildspec.Spec{Platforms: []ocispec.Platform{amd64}}
			if _, err := buildSteps(t, newClient(t), dir, spec, cache, cache); err != nil {
				t.Fatal(err)
			}
			for _, tag := range recordTags(m, "cache") {
				if c.edit != nil {
					m.AddManifest("cache", registrytest.Document{Type: ocispec.MediaTypeImageManifest, Data: c.edit(m.Manifest("cache", tag).Data)}, tag)
				}
			}
			if c.fault != nil {
				m.Misbehave(func(r registrytest.Request) registrytest.Fault {
					if strings.HasPrefix(r.Ref, "step-") {
						return c.fault
					}
					return nil
				})
			}
			if c.drop {
				for _, l := range m.Blobs("cache") {
					m.DropBlob("cache", l)
				}
			}
			b := newClient(t)
			var err error
			if spec.CacheFrom, err = buildspec.ParseCaches([]string{cache}, false); err != nil {
				t.Fatal(err)
			}
			_, archives := mustBuild(t, b, dir, spec, "type=tar,dest=x")
			if diff := cmp.Diff(map[string]string{"a": "a", "b": "b", "f": "base"}, members(t, archives["x"])); diff != "" {
				t.Error(diff)
			}
			steps, err := buildSteps(t, newClient(t), dir, spec, cache, "")
			if err != nil {
				t.Fatal(err)
			}
			shown := steps["importing steps from "+m.Name("cache")]
			if c.shown != "" && (shown == nil || !strings.Contains(shown.Error, c.shown)) {
				t.Errorf("shown: %v, want %q", shown, c.shown)
			}
			// The next build that writes the cache replaces what is of no use.
			m.Behave()
			spec.Outputs = []buildspec.Output{{Type: buildspec.OutputNone}}
			if _, err := buildSteps(t, newClient(t), dir, spec, cache, cache); err != nil {
				t.Fatal(err)
			}
			if steps, err = buildSteps(t, newClient(t), dir, spec, cache, ""); err != nil {
				t.Fatal(err)
			}
			wantRan(t, "after that", steps)
		})
	}
}

// TestStepCacheOfFalseLayers: a layer that is not what its record says ends the build, and no store has it.
func TestStepCacheOfFalseLayers(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	putBase(t, m, "1", "base")
	cache := "type=registry,mode=steps,ref=" + m.Name("cache")
	dir := writeFiles(t, stepsFiles(m))
	spec := buildspec.Spec{Platforms: []ocispec.Platform{amd64}}
	if _, err := buildSteps(t, newClient(t), dir, spec, cache, cache); err != nil {
		t.Fatal(err)
	}
	evil := registrytest.Layer(t, "evil", []byte("evil"))
	other := m.PutBlob("cache", ocispec.MediaTypeImageLayerGzip, registrytest.Gzip(t, evil))
	for _, tag := range recordTags(m, "cache") {
		var doc ocispec.Manifest
		if err := json.Unmarshal(m.Manifest("cache", tag).Data, &doc); err != nil {
			t.Fatal(err)
		}
		for i := range doc.Layers {
			doc.Layers[i].Digest, doc.Layers[i].Size = digest.Digest(other.Digest), int64(other.Size)
		}
		m.PutDocument("cache", tag, ocispec.MediaTypeImageManifest, doc)
	}
	b := newClient(t)
	var err error
	if spec.CacheFrom, err = buildspec.ParseCaches([]string{cache}, false); err != nil {
		t.Fatal(err)
	}
	if _, _, err = build(t, b, dir, spec, "type=tar,dest=x"); err == nil || !strings.Contains(err.Error(), "from the build cache") {
		t.Errorf("%v", err)
	}
	if l, err := b.Layers.Get(digest.FromBytes(evil)); err == nil && l.Present() {
		t.Error("the store has the layer")
	}
}
