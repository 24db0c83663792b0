package ocilayout

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestEntryName: what an image is called in a layout or an archive.
func TestEntryName(t *testing.T) {
	t.Parallel()
	id := digest.FromString("").String()
	for _, test := range []struct {
		kind, ref, name string
		want            entryName
		err             string
	}{
		{OCI, "", "", entryName{}, ""},
		{OCI, "", "docker.io/library/a:1", entryName{full: "docker.io/library/a:1"}, ""},
		{OCI, "", "a", entryName{full: "docker.io/library/a:latest"}, ""},
		{OCI, "v1", "registry.example/a:1", entryName{ref: "v1", full: "registry.example/a:1"}, ""},
		{OCI, "a/b:c_d@e+f.g--h", "", entryName{ref: "a/b:c_d@e+f.g--h"}, ""},
		{OCI, "_tag.-", "", entryName{ref: "_tag.-"}, ""},
		{OCI, strings.Repeat("t", 200), "", entryName{ref: strings.Repeat("t", 200)}, ""},
		{OCI, "_" + strings.Repeat("t", 128), "", entryName{}, "a layout's names are"},
		{OCI, "a//b", "", entryName{}, "a layout's names are"},
		{OCI, "a b", "", entryName{}, "a layout's names are"},
		{OCI, "-a", "", entryName{}, "a layout's names are"},
		{OCI, "v1", "UPPER", entryName{}, "invalid name"},
		{OCIArchive, "", "a:1", entryName{ref: "1", full: "docker.io/library/a:1"}, ""},
		{OCIArchive, "", "a@" + id, entryName{full: "docker.io/library/a@" + id}, ""},
		{OCIArchive, "v1", "a:1", entryName{ref: "v1", full: "docker.io/library/a:1"}, ""},
		{DockerArchive, "", "a:1", entryName{ref: "1", full: "docker.io/library/a:1"}, ""},
		{DockerArchive, "b", "a:1", entryName{ref: "latest", full: "docker.io/library/b:latest"}, ""},
		{DockerArchive, "", "a@" + id, entryName{full: "docker.io/library/a@" + id}, ""},
		{DockerArchive, "b@" + id, "", entryName{}, "named by a tag, not a digest"},
		{DockerArchive, "B", "", entryName{}, "invalid name"},
	} {
		got, err := (&Location{Kind: test.kind, Ref: test.ref}).entryName(test.name)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s:%s of %s: %v, want %s", test.kind, test.ref, test.name, err, test.err)
			}
			continue
		}
		if err != nil || got != test.want {
			t.Errorf("%s:%s of %s: %+v, %v", test.kind, test.ref, test.name, got, err)
		}
	}
}

// TestNames in the forms of indexes and of manifest.json.
func TestNames(t *testing.T) {
	t.Parallel()
	id := digest.FromString("").String()
	for name, want := range map[string]struct {
		full, tag, annotated string
		repoTags             []string
	}{
		"a":                     {"docker.io/library/a:latest", "", "", nil},
		"a:1":                   {"docker.io/library/a:1", "1", "docker.io/library/a:1", []string{"a:1"}},
		"docker.io/library/a:1": {"docker.io/library/a:1", "1", "docker.io/library/a:1", []string{"a:1"}},
		"x/a":                   {"docker.io/x/a:latest", "", "docker.io/x/a:latest", nil},
		"localhost:5000/a:1":    {"localhost:5000/a:1", "1", "localhost:5000/a:1", []string{"localhost:5000/a:1"}},
		"a:1@" + id:             {"docker.io/library/a:1@" + id, "1", "", []string{"a:1"}},
		"a@" + id:               {"docker.io/library/a@" + id, "", "", nil},
		"Not A Name":            {"Not A Name", "", "", nil},
		"UPPER:1":               {"UPPER:1", "", "", nil},
	} {
		annotated, ok := annotatedName(name)
		if fullName(name) != want.full || tagOf(name) != want.tag || annotated != want.annotated || ok != (want.annotated != "") || !slices.Equal(repoTags(name), want.repoTags) {
			t.Errorf("%s: full %s, tag %s, annotated %s %t, tags %v", name, fullName(name), tagOf(name), annotated, ok, repoTags(name))
		}
	}
}
