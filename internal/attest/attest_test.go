package attest

import (
	"encoding/json"
	"strings"
	"testing"

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
