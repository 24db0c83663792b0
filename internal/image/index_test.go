package image

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// twoPlatforms names an index of two images for platforms that are probably not this host's. here is the first.
func twoPlatforms(t *testing.T, s *Images, names ...string) (root ocispec.Descriptor, here, other *Image) {
	t.Helper()
	here, other = add(t, s, 1, map[string]string{"for": "here"}), add(t, s, 2, map[string]string{"for": "other"})
	root = index(t, s, forPlatform(here.Target, "linux/s390x"), forPlatform(other.Target, "linux/riscv64"))
	if _, err := s.Keep(t.Context(), root, append(names, "docker.io/library/multi@"+root.Digest.String())...); err != nil {
		t.Fatal(err)
	}
	return root, here, other
}

func ids(t *testing.T, s *Images) []digest.Digest {
	t.Helper()
	records, err := s.store.Records().List()
	if err != nil {
		t.Fatal(err)
	}
	var list []digest.Digest
	for _, r := range records {
		list = append(list, digest.Digest(r.Ref))
	}
	return list
}

func TestIndexIsOneImageInTheList(t *testing.T) {
	s := newImages(t)
	root, here, other := twoPlatforms(t, s, "docker.io/library/multi:1")
	list, err := s.List(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != here.ID || list[0].Root.Digest != root.Digest {
		t.Fatalf("listed: %v, %v", list, err)
	}
	img, err := s.FindFor(t.Context(), "multi:1", &ocispec.Platform{OS: "linux", Architecture: "riscv64"})
	if err != nil || img.ID != other.ID {
		t.Errorf("the other platform: %v, %v", img, err)
	}
	_, err = s.FindFor(t.Context(), "multi:1", &ocispec.Platform{OS: "linux", Architecture: "ppc64le"})
	if !IsMissing(err) {
		t.Errorf("a platform that is not there: %v", err)
	}
}

func TestOnePlatformGoesWithItsNameAlone(t *testing.T) {
	s := newImages(t)
	_, _, other := twoPlatforms(t, s, "docker.io/library/multi:1")
	var conflict *ConflictError
	if _, err := s.Remove(t.Context(), other.ID.String(), true); !errors.As(err, &conflict) {
		t.Errorf("one platform by its ID: %v", err)
	}
	// While one platform runs, the name stays.
	hold, err := s.Hold(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), "multi:1", true); !errors.As(err, &conflict) {
		t.Errorf("the name while the other platform runs: %v", err)
	}
	if _, err := s.Find(t.Context(), "multi:1"); err != nil {
		t.Errorf("the name is gone: %v", err)
	}
	if err := hold.Unlock(); err != nil {
		t.Fatal(err)
	}
	lines, err := s.Remove(t.Context(), "multi:1", false)
	if err != nil || len(ids(t, s)) != 0 {
		t.Errorf("removed %v, %v; left %v", lines, err, ids(t, s))
	}
}

// TestTwoManifestsOfOneImage: a name of another manifest of the same image keeps the image alive, and is one of its names.
func TestTwoManifestsOfOneImage(t *testing.T) {
	s := newImages(t)
	img := add(t, s, 1, nil, "app:dev", "reg.example/app:1")
	m := img.Manifest
	m.Annotations = map[string]string{"pushed": "with other bytes"}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.store.WriteBlob(raw)
	if err != nil {
		t.Fatal(err)
	}
	second := ocispec.Descriptor{MediaType: img.Target.MediaType, Digest: d, Size: int64(len(raw))}
	if _, err := s.Keep(t.Context(), second, "reg.example/app@"+d.String()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), "reg.example/app@"+d.String(), false); err != nil {
		t.Fatal(err)
	}
	got, err := s.FindNamed(t.Context(), "app:dev", nil)
	if err != nil || !slices.Equal(got.Names, []string{"app:dev", "reg.example/app:1"}) || len(got.Digests) != 0 {
		t.Errorf("after the name by digest is gone: %v, %v", got, err)
	}
	if got := ids(t, s); len(got) != 1 {
		t.Errorf("records: %v", got)
	}
}

// TestManifestDigestsAreIDs: Docker's newer image store shows the digest of a manifest or index as the ID of an image.
func TestManifestDigestsAreIDs(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	root, here, other := twoPlatforms(t, s, "docker.io/library/multi:1", "docker.io/library/multi:2")
	whole, err := s.Find(t.Context(), "multi:1")
	if err != nil {
		t.Fatal(err)
	}
	for d, want := range map[digest.Digest]digest.Digest{root.Digest: whole.ID, here.Target.Digest: here.ID, other.Target.Digest: other.ID} {
		for _, ref := range []string{d.String(), d.Encoded(), d.Encoded()[:12], d.String()[:20]} {
			if got, err := s.Find(t.Context(), ref); err != nil || got.ID != want {
				t.Errorf("%s: %v, %v, want %s", ref, got, err, want)
			}
		}
	}
	short := root.Digest.Encoded()[:12]
	var conflict *ConflictError
	if _, err := s.Remove(t.Context(), short, false); !errors.As(err, &conflict) {
		t.Errorf("an index with two names: %v", err)
	}
	if removed, err := s.Remove(t.Context(), short, true); err != nil || !strings.HasPrefix(strings.Join(lines(removed), " "), "multi:1 multi:2 multi@"+root.Digest.String()) {
		t.Errorf("%v, %v", lines(removed), err)
	}
	if left := ids(t, s); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}
