package attest

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestSupplement: a list of packages gets the layers of its files, and keeps what it has of its own. What is no such list stays as it is.
func TestSupplement(t *testing.T) {
	t.Parallel()
	layer := func(name string) (digest.Digest, error) {
		if name == "a/b" {
			return "sha256:1", nil
		}
		return "", nil
	}
	for from, want := range map[string]string{
		`{"x":1,"files":[{"fileName":"/a/b","y":2},{"fileName":"./a/b","comment":"own"},{"fileName":"no"},null]}`: `{"creationInfo":{"creators":["Tool: m"]},"files":[{"comment":"layerID: sha256:1","fileName":"/a/b","y":2},{"comment":"own","fileName":"./a/b"},{"fileName":"no"},null],"x":1}`,
		`{"creationInfo":{"created":"t","creators":["Tool: s"]}}`:                                                 `{"creationInfo":{"created":"t","creators":["Tool: s","Tool: m"]}}`,
		`{"files":1}`: `{"files":1}`, `[]`: `[]`, `x`: `x`, `null`: `null`, "": "",
	} {
		a := &Attestation{Predicate: json.RawMessage(from)}
		if err := a.Supplement("m", layer); err != nil || string(a.Predicate) != want {
			t.Errorf("%s: %s, %v, want %s", from, a.Predicate, err, want)
		}
	}
	failed := errors.New("no table")
	a := &Attestation{Predicate: json.RawMessage(`{"files":[{"fileName":"a"}]}`)}
	if err := a.Supplement("m", func(string) (digest.Digest, error) { return "", failed }); !errors.Is(err, failed) {
		t.Errorf("%v, want %v", err, failed)
	}
}

// TestSelfSubjects: a subject that is the image has all of its names.
func TestSelfSubjects(t *testing.T) {
	t.Parallel()
	image := []Subject{{Name: "one", Digest: map[string]string{"sha256": "1"}}, {Name: "two", Digest: map[string]string{"sha256": "1"}}}
	for want, list := range map[string][]Subject{
		"one two":             nil,
		"file":                {{Name: "file"}},
		"one two file":        {{Self: true}, {Name: "file"}},
		"one alias two alias": {{Self: true, Name: "alias"}},
	} {
		data, err := (&Attestation{Subjects: list}).Statement(image)
		if err != nil {
			t.Fatal(err)
		}
		var s statement
		if err := json.Unmarshal(data, &s); err != nil {
			t.Fatal(err)
		}
		got := ""
		for i, subject := range s.Subject {
			if i > 0 {
				got += " "
			}
			got += subject.Name
		}
		if got != want {
			t.Errorf("subjects %q, want %q", got, want)
		}
	}
}
