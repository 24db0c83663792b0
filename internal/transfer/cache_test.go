package transfer

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/registry/registrytest"
)

func describe(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

func reopen(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

func TestCacheRepository(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	c := newClient(t)
	img := c.build("one", "app:1")
	cache, err := OpenCache(t.Context(), c.client, c.Local, parseName(t, m.Name("cache:1")), PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if cache.Name() != m.Name("cache") {
		t.Errorf("name %s", cache.Name())
	}
	if _, err := cache.Root(t.Context()); !isNotFound(err) {
		t.Errorf("root of a cache that is missing: %v", err)
	}
	layer, err := cache.Layer(t.Context(), img.Chain()[0])
	if err != nil || layer.MediaType != ocispec.MediaTypeImageLayerGzip {
		t.Fatalf("layer %v, %v", layer, err)
	}
	copied := registrytest.Noise(1000)
	d := describe(ocispec.MediaTypeImageLayerGzip, copied)
	for range 2 {
		if err := cache.Copy(t.Context(), d, nil, reopen(copied)); err != nil {
			t.Fatal(err)
		}
	}
	config := []byte(`{"records":[]}`)
	configDesc := describe("application/vnd.buildkit.cacheconfig.v0", config)
	manifest := mustJSON(t, ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: configDesc, Layers: []ocispec.Descriptor{layer, d}})
	root := describe(ocispec.MediaTypeImageManifest, manifest)
	for range 2 {
		if err := cache.Blob(t.Context(), configDesc, config); err != nil {
			t.Fatal(err)
		}
	}
	if err := cache.Put(t.Context(), root, manifest); err != nil {
		t.Fatal(err)
	}
	got, err := cache.Root(t.Context())
	if err != nil || got.Digest != root.Digest {
		t.Errorf("root %v, %v", got, err)
	}
	for _, want := range []ocispec.Descriptor{root, configDesc, layer, d} {
		r, err := cache.Fetch(t.Context(), want)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil || digest.FromBytes(data) != want.Digest {
			t.Errorf("%s: %d bytes, %v", want.Digest, len(data), err)
		}
	}
	m.Misbehave(registrytest.On("PUT", registrytest.Manifest, 1, 0, registrytest.Status(403)))
	c.refuses(`denied`, func() error { return cache.Put(t.Context(), root, manifest) })
}

// TestCacheCopyMounts: a blob of another repository of the registry is not read, unless the registry refuses to mount it.
func TestCacheCopyMounts(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	c := newClient(t)
	data := registrytest.Noise(1000)
	d := describe(ocispec.MediaTypeImageLayerGzip, data)
	m.AddBlob("base", data)
	for repo, from := range map[string][]string{
		"mounted": {"other.example.com/base", m.Name("missing"), m.Name("base")}, "pushed": {"other.example.com/base", m.Name("missing")},
	} {
		cache, err := OpenCache(t.Context(), c.client, c.Local, parseName(t, m.Name(repo)), PushOptions{})
		if err != nil {
			t.Fatal(err)
		}
		read := false
		err = cache.Copy(t.Context(), d, from, func() (io.ReadCloser, error) {
			read = true
			return reopen(data)()
		})
		if err != nil || read != (repo == "pushed") || m.Blob(repo, d.Digest.String()) == nil {
			t.Errorf("%s: read %v, %v", repo, read, err)
		}
	}
}

// A registry that is not there gives the same words for a layer of a cache as for other requests.
func TestCacheRepositoryUnreachable(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	img := c.build("one", "app:1")
	cache, err := OpenCache(t.Context(), c.client, c.Local, parseName(t, "localhost:1/cache:1"), PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.refuses("registry localhost:1 cannot be reached", func() error {
		_, err := cache.Layer(t.Context(), img.Chain()[0])
		return err
	})
}

func isNotFound(err error) bool {
	var missing *registry.NotFoundError
	return errors.As(err, &missing)
}
