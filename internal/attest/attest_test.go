package attest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/view"
)

func TestReadBundle(t *testing.T) {
	good := `{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","subject":[{"name":"x","digest":{"sha256":"00"}}],"predicate":{"a":1}}`
	files := map[string][]byte{"sbom.json": []byte(good)}
	list, err := ReadBundle(t.Context(), view.Files(files), "/", "https://spdx.dev/Document")
	if err != nil || len(list) != 1 {
		t.Fatalf("%v %v", list, err)
	}
	data, err := list[0].Statement([]Subject{{Name: "image"}})
	if err != nil {
		t.Fatal(err)
	}
	var s statement
	if err := json.Unmarshal(data, &s); err != nil || s.Type != statementType || s.Subject[0].Name != "x" || string(s.Predicate) != `{"a":1}` {
		t.Errorf("%s %v", data, err)
	}
	for name, c := range map[string][2]string{
		"no JSON":    {"{", "unexpected end"},
		"other type": {strings.ReplaceAll(good, "spdx.dev", "other.dev"), "is of type https://other.dev/Document"},
		"provenance": {strings.ReplaceAll(good, "https://spdx.dev/Document", ProvenanceV1), "not https://spdx.dev"},
	} {
		_, err := ReadBundle(t.Context(), view.Files(map[string][]byte{"x.json": []byte(c[0])}), "/", "https://spdx.dev/Document")
		if err == nil || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	forged := strings.ReplaceAll(good, "https://spdx.dev/Document", ProvenanceV1)
	if _, err := ReadBundle(t.Context(), view.Files(map[string][]byte{"x.json": []byte(forged)}), "/", ""); err == nil {
		t.Error("a scanner could make provenance")
	}
}

func TestManifest(t *testing.T) {
	image := ocispec.Descriptor{Digest: "sha256:0000000000000000000000000000000000000000000000000000000000000000"}
	subjects, err := Subjects([]string{"docker.io/library/app:1"}, ocispec.Platform{OS: "linux", Architecture: "amd64"}, image.Digest)
	if err != nil || len(subjects) != 1 || subjects[0].Name != "pkg:docker/app@1?platform=linux%2Famd64" {
		t.Fatalf("%v %v", subjects, err)
	}
	m, err := NewManifest(image, []*Attestation{{PredicateType: "t", Predicate: json.RawMessage(`{}`)}}, subjects, false)
	if err != nil {
		t.Fatal(err)
	}
	var got ocispec.Manifest
	if err := json.Unmarshal(m.Blobs[len(m.Blobs)-1], &got); err != nil || len(got.Layers) != 1 || got.Layers[0].Annotations[predicateNote] != "t" {
		t.Errorf("%+v %v", got, err)
	}
	artifact, err := NewManifest(image, nil, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	got = ocispec.Manifest{}
	if err := json.Unmarshal(artifact.Blobs[len(artifact.Blobs)-1], &got); err != nil || got.Subject.Digest != image.Digest || got.ArtifactType != artifactType {
		t.Errorf("%+v %v", got, err)
	}
	if m.Descriptor.Annotations["vnd.docker.reference.digest"] != image.Digest.String() || m.Descriptor.Platform.OS != "unknown" {
		t.Errorf("%+v", m.Descriptor)
	}
}

func TestSubjects(t *testing.T) {
	t.Parallel()
	platform := ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	id := digest.FromString("manifest")
	for name, test := range map[string]struct{ names, want []string }{
		"no name":  {nil, []string{}},
		"names":    {[]string{"docker.io/library/a:1", "registry.example:5000/x/b:2"}, []string{"pkg:docker/a@1?platform=linux%2Farm%2Fv7", "pkg:docker/registry.example%3A5000/x/b@2?platform=linux%2Farm%2Fv7"}},
		"bad name": {[]string{"UPPER"}, nil},
	} {
		got, err := Subjects(test.names, platform, id)
		if (err != nil) != (test.want == nil) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		names := []string{}
		for _, s := range got {
			names = append(names, s.Name)
			if s.Digest["sha256"] != id.Encoded() {
				t.Errorf("%s: digest %v", name, s.Digest)
			}
		}
		if test.want != nil && !slices.Equal(names, test.want) {
			t.Errorf("%s: %v, want %v", name, names, test.want)
		}
	}
}

// newDirectory makes a view of a directory with files and a symlink.
func newDirectory(t *testing.T, files map[string]string, link string) view.View {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if link != "" {
		if err := os.Symlink("elsewhere", filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	v, err := view.Dir(dir, view.DirOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestFiles(t *testing.T) {
	t.Parallel()
	got, err := Files(t.Context(), newDirectory(t, map[string]string{"b": "2", "a/x": "1", "a/y/z": ""}, "link"))
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, s := range got {
		files = append(files, s.Name+" "+s.Digest["sha256"])
	}
	want := []string{
		"a/x " + digest.FromString("1").Encoded(), "a/y/z " + digest.FromString("").Encoded(), "b " + digest.FromString("2").Encoded(),
	}
	if !slices.Equal(files, want) {
		t.Errorf("%v, want %v", files, want)
	}
	if got, err := Files(t.Context(), view.Files(nil)); err != nil || got == nil || len(got) > 0 {
		t.Errorf("an empty filesystem: %v, %v", got, err)
	}
}

func TestReadBundleRefuses(t *testing.T) {
	t.Parallel()
	statement := `{"predicateType":"https://spdx.dev/Document","predicate":{}}`
	for name, test := range map[string]struct {
		files     map[string]string
		link, dir string
		want      string
	}{
		"missing":   {map[string]string{"a.json": statement}, "", "other", "other"},
		"file":      {map[string]string{"a.json": statement}, "", "a.json", "a.json"},
		"directory": {map[string]string{"d/e/a.json": statement}, "", "d", "attestation e: not a regular file"},
		"symlink":   {map[string]string{"d/a.json": statement}, "d/link", "d", "attestation link: not a regular file"},
		"too large": {map[string]string{"a.json": statement + strings.Repeat(" ", maxStatement)}, "", ".", "the limit is 41943040"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list, err := ReadBundle(t.Context(), newDirectory(t, test.files, test.link), test.dir, "")
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, %v, want %s", list, err, test.want)
			}
		})
	}
}

// TestReadBundles in a directory below the root, in the order of their names, of any type.
func TestReadBundles(t *testing.T) {
	t.Parallel()
	v := newDirectory(t, map[string]string{
		"out/b.json": `{"predicateType":"t2","predicate":2}`, "out/a.json": `{"predicateType":"t1","predicate":[1]}`, "c.json": "{",
	}, "")
	list, err := ReadBundle(t.Context(), v, "out", "")
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	for i, want := range []Attestation{{Name: "a.json", PredicateType: "t1", Predicate: []byte("[1]")}, {Name: "b.json", PredicateType: "t2", Predicate: []byte("2")}} {
		if got := list[i]; got.Name != want.Name || got.PredicateType != want.PredicateType || string(got.Predicate) != string(want.Predicate) || got.Subjects != nil {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

// TestStatementSubjects: a statement has its own subjects, or else those of the image.
func TestStatementSubjects(t *testing.T) {
	t.Parallel()
	image := []Subject{{Name: "image", Digest: map[string]string{"sha256": "00"}}}
	for own, want := range map[string]string{"": "image", "file": "file"} {
		a := &Attestation{PredicateType: "t", Predicate: []byte("{}")}
		if own != "" {
			a.Subjects = []Subject{{Name: own}}
		}
		raw, err := a.Statement(image)
		if err != nil {
			t.Fatal(err)
		}
		var s statement
		if err := json.Unmarshal(raw, &s); err != nil || s.Type != "https://in-toto.io/Statement/v1" || len(s.Subject) != 1 || s.Subject[0].Name != want {
			t.Errorf("%s, %v", raw, err)
		}
	}
	if _, err := (&Attestation{Predicate: []byte("{")}).Statement(image); err == nil {
		t.Error("a damaged predicate is written")
	}
}

// TestManifestForms: every blob of a manifest is there, and the descriptors are those of the blobs.
func TestManifestForms(t *testing.T) {
	t.Parallel()
	image := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("image"), Size: 7, Annotations: map[string]string{"a": "b"}}
	list := []*Attestation{{PredicateType: "t1", Predicate: []byte("1")}, {PredicateType: "t2", Predicate: []byte("2")}}
	for artifact, config := range map[bool]string{false: ocispec.MediaTypeImageConfig, true: ocispec.MediaTypeEmptyJSON} {
		m, err := NewManifest(image, list, []Subject{{Name: "image"}}, artifact)
		if err != nil {
			t.Fatal(err)
		}
		blobs := map[digest.Digest][]byte{}
		for _, b := range m.Blobs {
			blobs[digest.FromBytes(b)] = b
		}
		var got ocispec.Manifest
		if err := json.Unmarshal(blobs[m.Descriptor.Digest], &got); err != nil {
			t.Fatal(err)
		}
		for _, d := range append([]ocispec.Descriptor{m.Descriptor, got.Config}, got.Layers...) {
			if b, ok := blobs[d.Digest]; !ok || int64(len(b)) != d.Size {
				t.Errorf("artifact %t: blob %s %s: %t, %d bytes", artifact, d.MediaType, d.Digest, ok, len(b))
			}
		}
		if got.Config.MediaType != config || len(got.Layers) != 2 || got.Layers[1].MediaType != payloadType || got.Layers[1].Annotations[predicateNote] != "t2" {
			t.Errorf("artifact %t: %+v", artifact, got)
		}
		if (got.Subject != nil) != artifact {
			t.Errorf("artifact %t: subject %v", artifact, got.Subject)
		}
		if artifact {
			if d := *got.Subject; d.Digest != image.Digest || d.Size != 7 || d.Annotations != nil {
				t.Errorf("subject %+v", d)
			}
			continue
		}
		var c ocispec.Image
		if err := json.Unmarshal(blobs[got.Config.Digest], &c); err != nil || !slices.Equal(c.RootFS.DiffIDs, []digest.Digest{got.Layers[0].Digest, got.Layers[1].Digest}) || c.OS != "unknown" {
			t.Errorf("config %+v, %v", c, err)
		}
	}
}
