package builder

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/internal/solver"
)

// newClient is a builder that reads no configuration of the host, and retries at once.
func newClient(t *testing.T) *Builder {
	t.Helper()
	b := newBuilder(t)
	b.Registry = registry.New(registry.Options{
		Docker: configfile.New(""), RegistriesConf: os.DevNull, UserAgent: "test", FirstWait: time.Millisecond,
	})
	b.Layers.SetFetch(b.Registry.OpenBlob)
	return b
}

// putBase adds an image with one file to a registry.
func putBase(t *testing.T, m *registrytest.Server, tag, content string) registrytest.Descriptor {
	t.Helper()
	return m.PutImage("base", tag, amd64.Architecture, nil, registrytest.Layer(t, "f", []byte(content)))
}

// layers counts the layers that were downloaded.
func layers(m *registrytest.Server) int { return len(m.SeenBy(http.MethodGet, registrytest.Blob)) }

func TestBaseImages(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	putBase(t, m, "1", "one")
	b := newClient(t)
	spec := buildspec.Spec{Platforms: []ocispec.Platform{amd64}}
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM " + m.Name("base:1") + "\nCOPY a /\n", "a": "a"})
	_, archives := mustBuild(t, b, dir, spec, "type=tar,dest=x")
	if diff := cmp.Diff(map[string]string{"f": "one", "a": "a"}, members(t, archives["x"])); diff != "" {
		t.Error(diff)
	}

	// The image of the store is used until --pull asks for that of the registry.
	putBase(t, m, "1", "two")
	for _, want := range []string{"one", "two"} {
		spec.Pull = want == "two"
		_, archives = mustBuild(t, b, dir, spec, "type=tar,dest=x")
		if got := members(t, archives["x"])["f"]; got != want {
			t.Errorf("pull %t: %q, want %q", spec.Pull, got, want)
		}
	}
	spec.Pull = false
	// The only image of a name is used whatever its platform is; the compiler warns.
	dir = writeFiles(t, map[string]string{"Dockerfile": "FROM --platform=linux/s390x " + m.Name("base:1") + "\n"})
	_, archives = mustBuild(t, b, dir, spec, "type=tar,dest=x")
	if diff := cmp.Diff(map[string]string{"f": "two"}, members(t, archives["x"])); diff != "" {
		t.Error(diff)
	}
	for dockerfile, want := range map[string]string{
		"FROM " + m.Name("base:no"): "failed to resolve source metadata for " + m.Name("base:no") + ": manifest for " + m.Name("base:no") + " not found",
		"FROM " + m.Name("BASE"):    "failed to solve: ",
	} {
		dir := writeFiles(t, map[string]string{"Dockerfile": dockerfile + "\n"})
		if _, _, err := build(t, b, dir, spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", dockerfile, err, want)
		}
	}
}

// TestBaseImageOnce: a tag that moves during a build keeps its first meaning, also where each stage is to ask the registry. The stages are
// not built here: BuildKit's compiler resolves those of one Dockerfile at once, with a data race of its own (resolvecache.go).
func TestBaseImageOnce(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	putBase(t, m, "1", "one")
	b := newClient(t)
	bases := &baseImages{images: b.Images, pull: b.pull, found: map[string]*baseImage{}}
	opt := &sourceresolver.ResolveImageOpt{Platform: &amd64, ResolveMode: llb.ResolveModeForcePull.String()}
	first, err := bases.resolve(t.Context(), m.Name("base:1"), opt)
	if err != nil {
		t.Fatal(err)
	}
	putBase(t, m, "1", "two")
	second, err := bases.resolve(t.Context(), m.Name("base:1"), opt)
	if err != nil || second.ID != first.ID {
		t.Errorf("the second stage has %v (%v), the first %s", second, err, first.ID)
	}
	other := &baseImages{images: b.Images, pull: b.pull, found: map[string]*baseImage{}}
	if moved, err := other.resolve(t.Context(), m.Name("base:1"), opt); err != nil || moved.ID == first.ID {
		t.Errorf("another build has %v, %v: the tag has not moved", moved, err)
	}
}

func TestBuildAndPush(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "a"})
	for name, c := range map[string]struct {
		output string
		tags   []string
		ref    string // at the registry, "" for the digest
		layer  string // the media type of the layer
		err    string
	}{
		"registry":    {output: "type=registry", tags: []string{m.Name("app:1")}, ref: "1", layer: ocispec.MediaTypeImageLayerGzip},
		"by its name": {output: "type=image,push=true,name=" + m.Name("app:2"), ref: "2", layer: ocispec.MediaTypeImageLayerGzip},
		"zstd":        {output: "type=registry,compression=zstd", tags: []string{m.Name("app:3")}, ref: "3", layer: ocispec.MediaTypeImageLayerZstd},
		"Docker's types": {
			output: "type=image,push=true,oci-mediatypes=false", tags: []string{m.Name("app:4")}, ref: "4", layer: oci.DockerLayerGzip,
		},
		"Docker's types, zstd": {
			output: "type=registry,oci-mediatypes=false,compression=zstd", tags: []string{m.Name("app:5")}, ref: "5", layer: oci.DockerLayerZstd,
		},
		"by digest":     {output: "type=image,push-by-digest=true,name=" + m.Name("app"), layer: ocispec.MediaTypeImageLayerGzip},
		"without a tag": {output: "type=registry", err: "tag is needed when pushing to registry"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res, _, err := build(t, newClient(t), dir, buildspec.Spec{Tags: c.tags}, c.output)
			if text(err) != c.err {
				t.Fatalf("%v, want %q", err, c.err)
			}
			if err != nil {
				return
			}
			ref := c.ref
			if ref == "" {
				ref = res.Root.Digest.String()
			}
			got := m.Manifest("app", ref)
			mixed := strings.Contains(string(got.Data), "vnd.docker.") && strings.Contains(string(got.Data), "vnd.oci.")
			if registrytest.Digest(got.Data) != res.Root.Digest.String() || !strings.Contains(string(got.Data), c.layer) || mixed {
				t.Errorf("%s: the registry has %s, the result is %s", ref, got.Data, res.Root.Digest)
			}
		})
	}
}

// TestFailedExports: names move together when all outputs are written, and before anything is pushed.
func TestFailedExports(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "a"})
	push, nowhere := "type=image,push=true,name="+m.Name("app:1"), "type=image,push=true,name=127.0.0.1:1/app:1"
	for name, c := range map[string]struct {
		outputs []string
		names   []string // of all outputs
		named   bool     // the images have them
		pushed  bool     // the first output
	}{
		"a push fails":             {[]string{nowhere, "type=image,name=other"}, []string{"127.0.0.1:1/app:1", "other"}, true, false},
		"the second push fails":    {[]string{push, nowhere}, []string{m.Name("app:1"), "127.0.0.1:1/app:1"}, true, true},
		"an image cannot be made":  {[]string{"type=image,name=one", "type=image,push=true"}, []string{"one"}, false, false},
		"a file cannot be written": {[]string{"type=image,name=one", "type=local,dest=" + filepath.Join(dir, "a")}, []string{"one"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newClient(t)
			if _, _, err := build(t, b, dir, buildspec.Spec{}, c.outputs...); err == nil {
				t.Fatal("no error")
			}
			for _, name := range c.names {
				if _, err := b.Images.Find(t.Context(), name); (err == nil) != c.named {
					t.Errorf("%s: %v", name, err)
				}
			}
			if c.pushed {
				m.Manifest("app", "1")
			}
		})
	}
}

// TestBaseImageCompression: a layer keeps the compression with which it was pushed as a base image, unless the output forces another.
func TestBaseImageCompression(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	b := newClient(t)
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "a"})
	mustBuild(t, b, dir, buildspec.Spec{Tags: []string{m.Name("base:1")}}, "type=image,push=true,compression=zstd")
	dir = writeFiles(t, map[string]string{"Dockerfile": "FROM " + m.Name("base:1") + "\nCOPY a /b\n", "a": "a"})
	const gzip, zstd = ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd
	for output, want := range map[string][]string{
		"compression=gzip": {zstd, gzip}, "compression=zstd": {zstd, zstd}, "compression=gzip,force-compression=true": {gzip, gzip},
		"compression=uncompressed": {zstd, ocispec.MediaTypeImageLayer},
	} {
		res, archives := mustBuild(t, b, dir, buildspec.Spec{}, "type=oci,dest=x,"+output)
		var manifest ocispec.Manifest
		if err := json.Unmarshal([]byte(members(t, archives["x"])["blobs/sha256/"+res.Root.Digest.Encoded()]), &manifest); err != nil {
			t.Fatal(err)
		}
		for i, l := range manifest.Layers {
			if l.MediaType != want[i] {
				t.Errorf("%s: layer %d is %s, want %s", output, i, l.MediaType, want[i])
			}
		}
	}
}

// TestRemoteCaches: what one builder exports, another takes without making it: results at a registry, in a directory and in the
// image itself.
func TestRemoteCaches(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ to, from string }{ // NAME is a name at the registry, DIR a directory
		"registry":     {"type=registry,ref=NAME,mode=max", "type=registry,ref=NAME"},
		"by its name":  {"type=registry,ref=NAME", "NAME"},
		"directory":    {"type=local,dest=DIR,mode=max", "type=local,src=DIR"},
		"zstd":         {"type=local,dest=DIR,compression=zstd", "type=local,src=DIR"},
		"uncompressed": {"type=local,dest=DIR,compression=uncompressed", "type=local,src=DIR"},
		"estargz":      {"type=registry,ref=NAME,compression=estargz,force-compression=true", "type=registry,ref=NAME"},
		"tag":          {"type=local,dest=DIR,tag=t", "type=local,src=DIR,tag=t"},
		"inline":       {"type=inline", "APP"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := registrytest.New(t)
			fill := strings.NewReplacer("NAME", m.Name("cache:1"), "DIR", filepath.Join(t.TempDir(), "cache"), "APP", m.Name("app:1"))
			dir := writeFiles(t, map[string]string{"Dockerfile": "FROM scratch AS a\nCOPY a /\nFROM scratch\nCOPY --from=a /a /b\n", "a": "a"})
			to, err := buildspec.ParseCaches([]string{fill.Replace(c.to)}, true)
			if err != nil {
				t.Fatal(err)
			}
			first, _ := mustBuild(t, newClient(t), dir, buildspec.Spec{Tags: []string{m.Name("app:1")}, CacheTo: to}, "type=registry")

			second, cached := buildFrom(t, fill.Replace(c.from), dir, buildspec.Spec{})
			if step := "[stage-1 1/1] COPY --from=a /a /b"; !cached[step] {
				t.Errorf("%s was made again: %v", step, cached)
			}
			if name != "estargz" && second.Image.ID != first.Image.ID && name != "inline" {
				t.Errorf("image %s, want %s", second.Image.ID, first.Image.ID)
			}
		})
	}
}

// buildFrom builds with a remote cache in an empty store, and returns whether each step was cached.
func buildFrom(t *testing.T, cache, dir string, spec buildspec.Spec) (*Result, map[string]bool) {
	t.Helper()
	var err error
	if spec.CacheFrom, err = buildspec.ParseCaches([]string{cache}, false); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	cached := map[string]bool{}
	res, err := newClient(t).Build(t.Context(), Options{Spec: spec, Context: DirContext{Dir: dir}, Events: func(st *solver.Status) {
		mu.Lock()
		defer mu.Unlock()
		for _, v := range st.Vertexes {
			cached[v.Name] = cached[v.Name] || v.Cached
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return res, cached
}

// TestRemoteCacheOnLayout: the steps on a base image in an OCI layout are exported, too.
func TestRemoteCacheOnLayout(t *testing.T) {
	t.Parallel()
	layout, cache := filepath.Join(t.TempDir(), "layout"), filepath.Join(t.TempDir(), "cache")
	base := writeFiles(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "a"})
	mustBuild(t, newClient(t), base, buildspec.Spec{}, "type=oci,tar=false,dest="+layout)
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM base\nCOPY b /\n", "b": "b"})
	spec := buildspec.Spec{Contexts: map[string]string{"base": "oci-layout://" + layout}}
	to, err := buildspec.ParseCaches([]string{"type=local,mode=max,dest=" + cache}, true)
	if err != nil {
		t.Fatal(err)
	}
	writing := spec
	writing.CacheTo = to
	first, _ := mustBuild(t, newClient(t), dir, writing)
	second, cached := buildFrom(t, "type=local,src="+cache, dir, spec)
	if step := "[1/2] COPY b /"; !cached[step] || second.Image.ID != first.Image.ID {
		t.Errorf("image %s, want %s; %s was made again: %v", second.Image.ID, first.Image.ID, step, cached)
	}
}

// TestRemoteCacheErrors: a cache that cannot be read is no error, one that cannot be written is, unless the user ignores it.
func TestRemoteCacheErrors(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	m.Misbehave(registrytest.Always(registrytest.Status(403)))
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "a"})
	for name, c := range map[string]struct {
		from, to string
		err      string
	}{
		"read":             {from: m.Name("cache")},
		"read a directory": {from: "type=local,src=/no/such"},
		"written":          {to: m.Name("cache"), err: "export build cache: "},
		"ignored":          {to: "type=registry,ignore-error=true,ref=" + m.Name("cache")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, err := buildspec.ParseCaches([]string{c.from}, false)
			if err != nil {
				t.Fatal(err)
			}
			to, err := buildspec.ParseCaches([]string{c.to}, true)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = build(t, newClient(t), dir, buildspec.Spec{CacheFrom: from, CacheTo: to})
			if (err != nil) != (c.err != "") || err != nil && !strings.HasPrefix(err.Error(), c.err) {
				t.Errorf("%v, want %q", err, c.err)
			}
		})
	}
}

// TestCachedBuildDownloadsNothing: a push of a result that a cache and the registry have leaves the layers where they are.
func TestCachedBuildDownloadsNothing(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	putBase(t, m, "1", "one")
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM " + m.Name("base:1") + "\nCOPY a /\n", "a": "a"})
	spec := buildspec.Spec{Tags: []string{m.Name("app:1")}, Platforms: []ocispec.Platform{amd64}}
	to, err := buildspec.ParseCaches([]string{"type=registry,mode=max,ref=" + m.Name("cache:1")}, true)
	if err != nil {
		t.Fatal(err)
	}
	spec.CacheTo = to
	first, _ := mustBuild(t, newClient(t), dir, spec, "type=registry")

	spec.CacheTo, spec.Tags = nil, []string{m.Name("app:2")}
	if spec.CacheFrom, err = buildspec.ParseCaches([]string{m.Name("cache:1")}, false); err != nil {
		t.Fatal(err)
	}
	b := newClient(t)
	before := layers(m)
	second, _ := mustBuild(t, b, dir, spec, "type=registry")
	// The configs of the base image and of the cache are blobs, too.
	if n := layers(m) - before; n > 2 {
		t.Errorf("%d blobs were downloaded", n)
	}
	if second.Root.Digest != first.Root.Digest {
		t.Errorf("pushed %s, want %s", second.Root.Digest, first.Root.Digest)
	}
	// A step that needs the base image gets it.
	more := writeFiles(t, map[string]string{"Dockerfile": "FROM " + m.Name("base:1") + "\nCOPY a /\nFROM scratch\nCOPY --from=0 /f /\n", "a": "a"})
	_, archives := mustBuild(t, b, more, spec, "type=tar,dest=x")
	if diff := cmp.Diff(map[string]string{"f": "one"}, members(t, archives["x"])); diff != "" {
		t.Error(diff)
	}
}
