package image

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

func newImages(t *testing.T) *Images {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return New(s, layer.New(s))
}

// addLayer makes a layer of one file.
func addLayer(t *testing.T, s *Images, content string) digest.Digest {
	t.Helper()
	l, err := s.layers.Write(t.Context(), []view.Change{{
		Entry: &view.Entry{Path: "f", Type: view.TypeRegular, Mode: 0o644, Size: int64(len(content))}, Source: view.Files(map[string][]byte{"f": []byte(content)}), SourcePath: "f",
	}}, layer.AsBlob)
	if err != nil {
		t.Fatal(err)
	}
	return l.DiffID
}

// add makes an image of one file, so many days old, and names it.
func add(t *testing.T, s *Images, age int, labels map[string]string, names ...string) *Image {
	t.Helper()
	return addImage(t, s, map[string]any{"created": time.Now().AddDate(0, 0, -age), "config": map[string]any{"Labels": labels}},
		[]digest.Digest{addLayer(t, s, fmt.Sprint(age, labels))}, names...)
}

// addImage makes an image of layers with fields of the config, and names it.
func addImage(t *testing.T, s *Images, fields map[string]any, chain []digest.Digest, names ...string) *Image {
	t.Helper()
	config := map[string]any{"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": chain}}
	for k, v := range fields {
		config[k] = v
	}
	img, err := s.Create(t.Context(), Draft{Config: toJSON(t, config)})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if err := s.Tag(t.Context(), img, n); err != nil {
			t.Fatal(err)
		}
	}
	return img
}

func toJSON(t *testing.T, doc any) []byte {
	t.Helper()
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// write stores a document as a blob, and describes it.
func write(t *testing.T, s *Images, mediaType string, doc any) ocispec.Descriptor {
	t.Helper()
	raw := toJSON(t, doc)
	d, err := s.store.WriteBlob(raw)
	if err != nil {
		t.Fatal(err)
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw))}
}

// index writes an index.
func index(t *testing.T, s *Images, entries ...ocispec.Descriptor) ocispec.Descriptor {
	t.Helper()
	d, err := s.WriteIndex(entries, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// forPlatform describes a manifest in an index. platform is "" for none.
func forPlatform(d ocispec.Descriptor, platform string) ocispec.Descriptor {
	if platform != "" {
		parts := append(strings.Split(platform, "/"), "")
		d.Platform = &ocispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
	}
	return d
}

// absent describes an image that is not in the store.
func absent(name string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(name), Size: 1}
}

// artifact writes the manifest of something else than an image. Its config and one blob are in the store.
func artifact(t *testing.T, s *Images, name string) (d ocispec.Descriptor, blobs []digest.Digest) {
	t.Helper()
	config := write(t, s, "application/vnd.example.config", map[string]string{"name": name})
	payload := write(t, s, "application/vnd.in-toto+json", map[string]string{"of": name})
	d = write(t, s, ocispec.MediaTypeImageManifest, ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{payload}})
	return d, []digest.Digest{d.Digest, config.Digest, payload.Digest}
}

// attestation describes an artifact as BuildKit lists an attestation in an index.
func attestation(d ocispec.Descriptor) ocispec.Descriptor {
	d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	return forPlatform(d, "unknown/unknown")
}

// hasBlob reports whether the store has a blob.
func hasBlob(s *Images, d digest.Digest) bool {
	_, err := s.store.StatBlob(d)
	return err == nil
}

// lines are the texts of what a removal removed.
func lines(removed []Removed) []string {
	list := make([]string, len(removed))
	for i, r := range removed {
		list[i] = r.Untagged + r.Deleted
	}
	return list
}

// digestsOf are the digests of entries.
func digestsOf(list []oci.Entry) []digest.Digest {
	var digests []digest.Digest
	for _, e := range list {
		digests = append(digests, e.Digest)
	}
	return digests
}

// sameSet reports whether lists have the same elements.
func sameSet[E ~string](a, b []E) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
