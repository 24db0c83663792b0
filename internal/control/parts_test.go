package control

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/store"
)

// shelf is a store with documents.
type shelf struct {
	t     *testing.T
	store *store.Store
}

func (s *shelf) put(mediaType string, doc any) ocispec.Descriptor {
	s.t.Helper()
	data, err := json.Marshal(doc)
	if err != nil {
		s.t.Fatal(err)
	}
	d, err := s.store.WriteBlob(data)
	if err != nil {
		s.t.Fatal(err)
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

func (s *shelf) manifest(config ocispec.Descriptor, layers ...ocispec.Descriptor) ocispec.Descriptor {
	s.t.Helper()
	return s.put(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: layers,
	})
}

// TestShownBlobs: clients read what records name, and what that lists, and no other blob of the store.
func TestShownBlobs(t *testing.T) {
	t.Parallel()
	st, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	s := &shelf{t, st}
	other := s.put(ocispec.MediaTypeImageConfig, "of an image of another client")
	hidden := s.manifest(other)
	// What a client writes looks like a manifest, and is not one.
	config := s.put(ocispec.MediaTypeImageConfig, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{hidden},
	})
	attestation := s.put("application/vnd.in-toto+json", "provenance")
	manifest := s.manifest(config, attestation)
	index := s.put(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{manifest},
	})
	c := New(Options{Store: st})
	read := func(d ocispec.Descriptor, want bool) {
		t.Helper()
		_, err := c.parts.Info(t.Context(), &contentapi.InfoRequest{Digest: d.Digest.String()})
		if (err == nil) != want || !want && status.Code(err) != codes.NotFound {
			t.Errorf("%s: %v", d.MediaType, err)
		}
	}
	for _, d := range []ocispec.Descriptor{index, manifest, config} {
		read(d, false)
	}
	result := history.Exported{MediaType: index.MediaType, Digest: index.Digest, Size: index.Size}
	c.historyRecord(&history.Build{Ref: "a", Status: history.Completed, Results: []history.Exported{result}})
	for _, d := range []ocispec.Descriptor{index, manifest, config, attestation} {
		read(d, true)
	}
	for _, d := range []ocispec.Descriptor{hidden, other} {
		read(d, false)
	}
}

// TestShownLimit: the oldest goes first.
func TestShownLimit(t *testing.T) {
	t.Parallel()
	var s shown
	name := func(i int) digest.Digest { return digest.FromString(fmt.Sprint(i)) }
	for i := range maxShown + 1 {
		s.add(ocispec.Descriptor{Digest: name(i)}, ocispec.Descriptor{Digest: name(i)})
	}
	_, oldest := s.find(name(0))
	_, newest := s.find(name(maxShown))
	if oldest || !newest || len(s.types) != maxShown || len(s.order) != maxShown {
		t.Errorf("%t, %t, %d, %d", oldest, newest, len(s.types), len(s.order))
	}
}
