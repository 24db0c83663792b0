package image

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/store"
)

// hostPlatform is the platform of this host, otherPlatform another one.
const hostPlatform, otherPlatform = "linux/" + runtime.GOARCH, "linux/s390x"

// TestIndexChoice: which image of an index is chosen for a platform, of those in the store.
func TestIndexChoice(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	a, b, c := add(t, s, 1, nil).Target, add(t, s, 2, nil).Target, add(t, s, 3, nil).Target
	chart, _ := artifact(t, s, "chart")
	statement, _ := artifact(t, s, "statement")
	type list = []ocispec.Descriptor
	for name, test := range map[string]struct {
		entries list
		want    string // platform, "" for the default
		chosen  digest.Digest
		err     string
	}{
		"this host's":           {entries: list{forPlatform(a, otherPlatform), forPlatform(b, hostPlatform)}, chosen: b.Digest},
		"first without a match": {entries: list{forPlatform(a, otherPlatform), forPlatform(b, "linux/mips")}, chosen: a.Digest},
		"no platforms":          {entries: list{a, b}, chosen: a.Digest},
		"wanted":                {entries: list{forPlatform(a, hostPlatform), forPlatform(b, otherPlatform)}, want: otherPlatform, chosen: b.Digest},
		"first of two":          {entries: list{forPlatform(a, otherPlatform), forPlatform(b, otherPlatform)}, want: otherPlatform, chosen: a.Digest},
		"best variant":          {entries: list{forPlatform(a, "linux/arm/v5"), forPlatform(b, "linux/arm/v7"), forPlatform(c, "linux/arm/v6")}, want: "linux/arm/v7", chosen: b.Digest},
		"lower variant":         {entries: list{forPlatform(a, "linux/arm/v5"), forPlatform(b, "linux/arm/v7"), forPlatform(c, "linux/arm/v6")}, want: "linux/arm/v6", chosen: c.Digest},
		"variant too high":      {entries: list{forPlatform(a, "linux/arm/v7")}, want: "linux/arm/v6", err: "no image for platform linux/arm/v6 is in the store"},
		"not listed":            {entries: list{forPlatform(a, hostPlatform)}, want: otherPlatform, err: "no image for platform linux/s390x is in the store"},
		"not in the store":      {entries: list{forPlatform(a, hostPlatform), forPlatform(absent("x"), otherPlatform)}, want: otherPlatform, err: "no image for platform linux/s390x"},
		"one is in the store":   {entries: list{forPlatform(absent("x"), hostPlatform), forPlatform(b, otherPlatform)}, chosen: b.Digest},
		"none is in the store":  {entries: list{forPlatform(absent("x"), hostPlatform)}, err: "none of its images is in the store"},
		"empty":                 {err: "none of its images is in the store"},
		"attestation":           {entries: list{attestation(statement), forPlatform(a, otherPlatform)}, chosen: a.Digest},
		"artifact":              {entries: list{forPlatform(chart, hostPlatform), forPlatform(a, otherPlatform)}, chosen: a.Digest},
		"artifacts alone":       {entries: list{chart, attestation(statement)}, err: "none of its images is in the store"},
		"nested":                {entries: list{forPlatform(index(t, s, forPlatform(b, otherPlatform)), ""), forPlatform(a, hostPlatform)}, want: otherPlatform, chosen: b.Digest},
		"nested is absent": {
			entries: list{{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString("x"), Size: 1}, forPlatform(a, hostPlatform)}, chosen: a.Digest,
		},
		"platform of the nested": {entries: list{forPlatform(index(t, s, b), otherPlatform), forPlatform(a, hostPlatform)}, want: otherPlatform, chosen: b.Digest},
	} {
		t.Run(name, func(t *testing.T) {
			root := index(t, s, test.entries...)
			got, err := s.child(root, forPlatform(a, test.want).Platform)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%v, %v; want %s", got, err, test.err)
				}
				return
			}
			if err != nil || got.Digest != test.chosen {
				t.Errorf("%s, %v; want %s", got.Digest, err, test.chosen)
			}
		})
	}
}

func TestEntriesAndParts(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	a, b := add(t, s, 1, nil), add(t, s, 2, nil)
	chart, _ := artifact(t, s, "chart")
	statement, _ := artifact(t, s, "statement")
	missing := absent("x")
	inner := index(t, s, forPlatform(b.Target, otherPlatform), missing)
	root := index(t, s, forPlatform(a.Target, hostPlatform), chart, attestation(statement), inner)
	entries, err := s.Entries(root)
	if want := []digest.Digest{a.Target.Digest, chart.Digest, statement.Digest, b.Target.Digest, missing.Digest}; err != nil || !slices.Equal(digestsOf(entries), want) {
		t.Errorf("entries %v, %v", digestsOf(entries), err)
	}
	parts, err := s.Parts(root)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range parts {
		id := "missing"
		if p.Image != nil {
			id = p.Image.ShortID()
		}
		got = append(got, id)
	}
	if want := []string{a.ShortID(), b.ShortID(), "missing"}; !slices.Equal(got, want) {
		t.Errorf("parts %v, want %v", got, want)
	}
	if err := s.store.RemoveBlob(b.ID); err != nil {
		t.Fatal(err)
	}
	if parts, err := s.Parts(root); err == nil {
		t.Errorf("with a config missing: %v", parts)
	}
	if _, err := s.Entries(absent("x")); err == nil || !strings.HasPrefix(err.Error(), "index: ") {
		t.Errorf("a missing index: %v", err)
	}
}

// TestFindFor: the platform of an image that is not in an index.
func TestFindFor(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	addImage(t, s, map[string]any{"architecture": "arm", "variant": "v7"}, nil, "arm")
	addImage(t, s, map[string]any{"architecture": ""}, nil, "unknown")
	for _, test := range []struct{ ref, platform, err string }{
		{"arm", "", ""},
		{"arm", "linux/arm/v7", ""},
		{"arm", "linux/arm64", ""}, // which runs programs for 32 bits
		{"arm", "linux/arm/v6", "image arm is for linux/arm/v7: no image for platform linux/arm/v6 is in the store"},
		{"arm", "linux/s390x", "image arm is for linux/arm/v7: no image for platform linux/s390x is in the store"},
		{"unknown", "linux/s390x", ""},
	} {
		img, err := s.FindFor(t.Context(), test.ref, forPlatform(ocispec.Descriptor{}, test.platform).Platform)
		switch {
		case test.err == "" && err != nil, test.err != "" && (err == nil || err.Error() != test.err):
			t.Errorf("%s for %s: %v, want %q", test.ref, test.platform, err, test.err)
		case err != nil && !IsMissing(err):
			t.Errorf("%s for %s: not an error of a missing image: %v", test.ref, test.platform, err)
		case err == nil && img.Root.Digest != img.Target.Digest:
			t.Errorf("%s: root %s", test.ref, img.Root.Digest)
		}
	}
	if IsMissing(errors.New("no image for platform x is in the store")) || IsMissing(nil) {
		t.Error("the text of an error decides")
	}
}

// TestFindByDigest of a repository: manifests and indexes that its names point at, and those in them.
func TestFindByDigest(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	a, b, alone := add(t, s, 1, nil), add(t, s, 2, nil), add(t, s, 3, nil, "alone")
	inner := index(t, s, forPlatform(b.Target, otherPlatform))
	root := index(t, s, forPlatform(a.Target, hostPlatform), inner)
	if _, err := s.Keep(t.Context(), root, "docker.io/library/multi:1"); err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]digest.Digest{
		"multi@" + root.Digest.String():         a.ID,
		"multi:2@" + root.Digest.String():       a.ID,
		"multi@" + a.Target.Digest.String():     a.ID,
		"multi@" + b.Target.Digest.String():     b.ID,
		"multi@" + inner.Digest.String():        b.ID,
		"alone@" + alone.Target.Digest.String(): alone.ID,
		a.Target.Digest.String():                a.ID,
		root.Digest.String():                    a.ID,
		"alone@" + a.Target.Digest.String():     "",
		"multi@" + alone.Target.Digest.String(): "",
		"multi@" + a.ID.String():                "",
		"other@" + root.Digest.String():         "",
	} {
		img, err := s.Find(t.Context(), ref)
		if want == "" {
			if !IsMissing(err) {
				t.Errorf("%s: %v, %v", ref, img, err)
			}
			continue
		}
		if err != nil || img.ID != want {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	a, b := add(t, s, 1, nil), add(t, s, 2, nil)
	for _, img := range []*Image{a, b} {
		if _, err := s.Remove(t.Context(), img.ID.String(), false); err != nil {
			t.Fatal(err)
		}
	}
	// A prune that was killed has left the manifest of the third image.
	torn := add(t, s, 3, nil)
	if err := s.store.RemoveBlob(torn.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.store.Records().Remove(torn.ID.String()); err != nil {
		t.Fatal(err)
	}
	root := index(t, s, forPlatform(b.Target, otherPlatform), forPlatform(torn.Target, "linux/mips"), forPlatform(a.Target, hostPlatform), forPlatform(absent("x"), "linux/arm"))
	byDigest := "docker.io/library/multi@" + root.Digest.String()
	img, err := s.Keep(t.Context(), root, "docker.io/library/multi:1", byDigest)
	if err != nil || img.ID != a.ID || img.Root.Digest != root.Digest {
		t.Fatalf("%+v, %v", img, err)
	}
	if got := ids(t, s); !sameSet(got, []digest.Digest{a.ID, b.ID}) {
		t.Errorf("records %v", got)
	}
	for _, name := range []string{"docker.io/library/multi:1", byDigest} {
		n, err := s.store.Names().Get(name)
		if err != nil || n.Target.Digest != root.Digest || !slices.Equal(n.Images, []digest.Digest{a.ID, b.ID}) {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
	}
	if !s.HasDigestName(root.Digest) || s.HasDigestName(a.Target.Digest) {
		t.Error("only the index has a name by digest")
	}
	for name, bad := range map[string]struct {
		root  ocispec.Descriptor
		names []string
		want  string
	}{
		"name":            {root, []string{"docker.io/library/ok:1", "sha256:x"}, "ambiguous"},
		"missing index":   {ocispec.Descriptor{MediaType: oci.DockerManifestList, Digest: digest.FromString("x")}, nil, "not found"},
		"missing image":   {absent("x"), nil, "not found"},
		"torn image":      {torn.Target, nil, "not found"},
		"index of absent": {index(t, s, absent("x")), nil, "none of its images is in the store"},
		"index of torn":   {index(t, s, torn.Target), nil, "none of its images is in the store"},
	} {
		if _, err := s.Keep(t.Context(), bad.root, bad.names...); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.store.Names().Get("docker.io/library/ok:1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("one of two names was given: %v", err)
	}
}

func TestWriteIndex(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	for docker, mediaType := range map[bool]string{false: ocispec.MediaTypeImageIndex, true: oci.DockerManifestList} {
		d, err := s.WriteIndex([]ocispec.Descriptor{absent("x")}, map[string]string{"k": "v"}, docker)
		if err != nil {
			t.Fatal(err)
		}
		index, err := s.Index(d)
		if err != nil || d.MediaType != mediaType || index.MediaType != mediaType || index.SchemaVersion != 2 || len(index.Manifests) != 1 || index.Annotations["k"] != "v" {
			t.Errorf("Docker's types %t: %+v, %+v, %v", docker, d, index, err)
		}
	}
	img := add(t, s, 1, nil)
	if _, err := s.Index(img.Target); err == nil {
		t.Error("the manifest of an image is an index")
	}
}
