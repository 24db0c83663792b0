package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// shelf holds indexes by their digests, and counts how often one is read.
type shelf struct {
	t     *testing.T
	docs  map[digest.Digest][]byte
	reads int
}

func newShelf(t *testing.T) *shelf { return &shelf{t: t, docs: map[digest.Digest][]byte{}} }

func (s *shelf) read(_ context.Context, d ocispec.Descriptor) ([]byte, error) {
	s.reads++
	raw, ok := s.docs[d.Digest]
	if !ok {
		return nil, ErrAbsent
	}
	return raw, nil
}

func (s *shelf) index(list ...ocispec.Descriptor) ocispec.Descriptor {
	s.t.Helper()
	raw, err := json.Marshal(ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: list})
	if err != nil {
		s.t.Fatal(err)
	}
	d := digest.FromBytes(raw)
	s.docs[d] = raw
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: d, Size: int64(len(raw))}
}

func platform(arch, variant string) *ocispec.Platform {
	return &ocispec.Platform{OS: "linux", Architecture: arch, Variant: variant}
}

func manifest(name string, p *ocispec.Platform) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(name), Size: 1, Platform: p}
}

func of(d ocispec.Descriptor, p *ocispec.Platform) ocispec.Descriptor {
	d.Platform = p
	return d
}

func TestFind(t *testing.T) {
	arm := platform("arm64", "")
	artifact := ocispec.Descriptor{MediaType: "application/vnd.docker.plugin.v1+json", Digest: digest.FromString("plugin"), Platform: arm}
	attestation := manifest("attestation", platform("arm64", ""))
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	for name, c := range map[string]struct {
		craft func(s *shelf) ocispec.Descriptor
		want  *ocispec.Platform
		found string // "" for none
		via   int
		reads int
	}{
		"listed itself": {func(s *shelf) ocispec.Descriptor {
			return s.index(manifest("other", platform("s390x", "")), manifest("it", arm))
		}, arm, "it", 0, 1},
		"listed itself beside an index that is not needed": {func(s *shelf) ocispec.Descriptor {
			return s.index(s.index(manifest("inner", arm)), manifest("it", arm))
		}, arm, "it", 0, 1},
		"in an index": {func(s *shelf) ocispec.Descriptor { return s.index(s.index(manifest("it", arm))) }, arm, "it", 1, 3},
		"in an index that has the platform": {func(s *shelf) ocispec.Descriptor {
			return s.index(of(s.index(manifest("other", nil)), platform("s390x", "")), of(s.index(manifest("it", nil)), arm))
		}, arm, "it", 1, 3},
		"three deep": {func(s *shelf) ocispec.Descriptor {
			return s.index(s.index(s.index(s.index(manifest("it", arm)))))
		}, arm, "it", 3, 5},
		"the best of several": {func(s *shelf) ocispec.Descriptor {
			return s.index(manifest("v6", platform("arm", "v6")), manifest("it", platform("arm", "v7")))
		}, platform("arm", "v7"), "it", 0, 1},
		"unknown type for the platform": {func(s *shelf) ocispec.Descriptor { return s.index(artifact, manifest("it", arm)) }, arm, "it", 0, 1},
		"attestation for the platform":  {func(s *shelf) ocispec.Descriptor { return s.index(attestation, manifest("it", arm)) }, arm, "it", 0, 1},
		"unknown types alone":           {func(s *shelf) ocispec.Descriptor { return s.index(artifact) }, arm, "", 0, 2},
		"the only one, for nothing":     {func(s *shelf) ocispec.Descriptor { return s.index(manifest("it", nil), artifact) }, nil, "it", 0, 2},
		"two for nothing":               {func(s *shelf) ocispec.Descriptor { return s.index(manifest("a", nil), manifest("b", nil)) }, nil, "", 0, 2},
		"an index that is absent": {func(s *shelf) ocispec.Descriptor {
			return s.index(of(manifest("absent", nil), nil), ocispec.Descriptor{MediaType: DockerManifestList, Digest: digest.FromString("?")})
		}, arm, "", 0, 3},
		"the same index twice": {func(s *shelf) ocispec.Descriptor {
			i := s.index(manifest("it", arm))
			return s.index(i, i, i)
		}, arm, "it", 1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			e, err := Find(t.Context(), c.craft(s), s.read, c.want)
			var none *NoPlatformError
			switch {
			case c.found == "" && !errors.As(err, &none):
				t.Errorf("found %v, %v", e, err)
			case c.found != "" && (err != nil || e.Digest != digest.FromString(c.found) || len(e.Via) != c.via):
				t.Errorf("found %v through %d indexes, %v", e.Digest, len(e.Via), err)
			}
			if s.reads != c.reads {
				t.Errorf("%d reads, want %d", s.reads, c.reads)
			}
		})
	}
}

// TestNestingIsBounded: neither deep nor broad nor circular indexes are followed for ever.
func TestNestingIsBounded(t *testing.T) {
	s := newShelf(t)
	deep := s.index(manifest("it", platform("arm64", "")))
	for range MaxDepth + 1 {
		deep = s.index(deep)
	}
	if _, err := Find(t.Context(), deep, s.read, nil); err == nil || !strings.Contains(err.Error(), "nested too deeply") {
		t.Errorf("deep: %v", err)
	}
	var broad []ocispec.Descriptor
	for i := range MaxIndexes {
		broad = append(broad, s.index(manifest(fmt.Sprint(i), platform("s390x", ""))))
	}
	if _, err := Entries(t.Context(), s.index(broad...), s.read, nil); err == nil || !strings.Contains(err.Error(), "too many indexes") {
		t.Errorf("broad: %v", err)
	}
	// No index can have its own digest in it, but one who reads unverified bytes may meet it.
	root := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString("circle")}
	inner := s.index(root)
	s.docs[root.Digest] = []byte(fmt.Sprintf(`{"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q}]}`, root.MediaType, root.MediaType, inner.Digest))
	if list, err := Entries(t.Context(), root, s.read, nil); err != nil || len(list) != 0 {
		t.Errorf("circle: %v, %v", list, err)
	}
}

func TestAmbiguousIndex(t *testing.T) {
	for _, raw := range []string{
		`{"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[]}`,
		`{"manifests":[],"config":{"digest":"x"}}`, `{"manifests":[],"layers":[]}`, `[]`, `"x"`, ``,
	} {
		if index, err := ParseIndex(ocispec.Descriptor{}, []byte(raw)); err == nil {
			t.Errorf("%s is read as %v", raw, index)
		}
	}
}

func FuzzEntries(f *testing.F) {
	inner := digest.FromString("inner")
	f.Add([]byte(`{"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"` + inner.String() + `"}]}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"manifests":[{"platform":{"os":"linux","architecture":"amd64"},"mediaType":"application/vnd.oci.image.manifest.v1+json"},null]}`))
	f.Add([]byte(`{"manifests":[{"platform":{"os":"","architecture":"","variant":"v9"},"size":-1}],"manifests":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		read := func(context.Context, ocispec.Descriptor) ([]byte, error) { return raw, nil }
		root := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString("root")}
		list, err := Entries(t.Context(), root, read, nil)
		if err != nil {
			return
		}
		if e, ok := Choose(list, nil); ok && !IsImage(e.Descriptor) {
			t.Errorf("%v was chosen", e)
		}
		_, _ = Find(t.Context(), root, read, platform("amd64", ""))
	})
}
