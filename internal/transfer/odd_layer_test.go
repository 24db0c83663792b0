package transfer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/ocilayout"
)

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zstandard(t *testing.T, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

type part struct {
	name string
	data []byte
}

func archiveOf(t testing.TB, parts ...part) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, p := range parts {
		if err := w.WriteHeader(&tar.Header{Name: p.name, Size: int64(len(p.data)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(p.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func asJSON(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// dockerArchive and layout have one image of these layers.
func dockerArchive(t *testing.T, config []byte, layers [][]byte) []byte {
	t.Helper()
	m := struct {
		Config           string
		RepoTags, Layers []string
	}{Config: "config.json", RepoTags: []string{"odd:1"}}
	parts := []part{{"config.json", config}}
	for i, l := range layers {
		m.Layers = append(m.Layers, string(rune('a'+i))+"/layer.tar")
		parts = append(parts, part{m.Layers[i], l})
	}
	return archiveOf(t, append(parts, part{"manifest.json", asJSON(t, []any{m})})...)
}

func layout(t *testing.T, config []byte, layers [][]byte) []byte {
	t.Helper()
	var parts []part
	describe := func(mediaType string, data []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		parts = append(parts, part{ocilayout.BlobName(d.Digest), data})
		return d
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: describe(ocispec.MediaTypeImageConfig, config)}
	m.SchemaVersion = 2
	for _, l := range layers {
		m.Layers = append(m.Layers, describe(ocispec.MediaTypeImageLayer, l))
	}
	var index ocispec.Index
	index.SchemaVersion = 2
	index.Manifests = append(index.Manifests, describe(m.MediaType, asJSON(t, m)))
	index.Manifests[0].Annotations = map[string]string{ocispec.AnnotationRefName: "odd:1"}
	return archiveOf(t, append(parts, part{ocispec.ImageIndexFile, asJSON(t, index)}, part{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)})...)
}

// TestRootLoadOddLayers: a layer of no bytes has no files, whatever it is packed with, as one of empty blocks has none; one whose first
// file has a name that JSON could begin with is a layer. All come out of save as they went in.
func TestRootLoadOddLayers(t *testing.T) {
	zeros := make([]byte, 1024)
	for name, tt := range map[string]struct{ plain, packed []byte }{
		"nothing":          {nil, nil},
		"gzip of nothing":  {nil, gzipped(t, nil)},
		"zstd of nothing":  {nil, zstandard(t, nil)},
		"the empty layer":  {zeros, zeros},
		"gzip of that":     {zeros, gzipped(t, zeros)},
		"a bracket":        {rootfs(t, "["), rootfs(t, "[")},
		"a brace, gzipped": {rootfs(t, "{}"), gzipped(t, rootfs(t, "{}"))},
	} {
		first, last := rootfs(t, "first"), rootfs(t, "last")
		config := asJSON(t, ocispec.Image{
			Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
			RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(first), digest.FromBytes(tt.plain), digest.FromBytes(last)}},
		})
		layers := [][]byte{first, tt.packed, last}
		for form, data := range map[string][]byte{"docker": dockerArchive(t, config, layers), "OCI": layout(t, config, layers)} {
			t.Run(name+", "+form, func(t *testing.T) { loadSaveLoad(t, data, digest.FromBytes(config)) })
		}
	}
}

func loadSaveLoad(t *testing.T, data []byte, want digest.Digest) {
	t.Helper()
	for range 2 {
		a := newLocal(t)
		loaded, err := a.Load(t.Context(), bytes.NewReader(data))
		if err != nil || len(loaded) != 1 || loaded[0].ID != want {
			t.Fatalf("loaded %+v, %v", loaded, err)
		}
		img, err := a.Images.Find(t.Context(), string(loaded[0].ID))
		if err != nil {
			t.Fatal(err)
		}
		v, err := a.Layers.View(t.Context(), img.Chain())
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"first", "last"} {
			if _, err := v.Lstat(t.Context(), name); err != nil {
				t.Error(err)
			}
		}
		for _, id := range img.Chain() {
			if _, err := a.Layers.Tree(t.Context(), id); err != nil {
				t.Error(err)
			}
			if err := a.Layers.Verify(t.Context(), id); err != nil {
				t.Error(err)
			}
		}
		var saved bytes.Buffer
		if err := a.Save(t.Context(), &saved, []Item{{Image: img, Names: []string{"docker.io/library/odd:1"}}}); err != nil {
			t.Fatal(err)
		}
		data = saved.Bytes()
	}
}
