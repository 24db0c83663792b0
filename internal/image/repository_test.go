package image

import (
	"testing"

	"github.com/distribution/reference"
)

func TestRepositoryTags(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	add(t, s, 1, nil, "a:1", "a:2", "h.test/a:3")
	add(t, s, 2, nil, "a:4", "b")
	for ref, want := range map[string]int{"a": 3, "docker.io/library/a": 3, "h.test/a": 1, "b": 1, "c": 0, "a:1": 0, "A": 0} {
		got, err := s.RepositoryTags(t.Context(), ref)
		if len(got) != want || err != nil {
			t.Errorf("%s: %q, %v, want %d", ref, got, err, want)
		}
		for _, name := range got {
			if named, err := reference.ParseNamed(name); err != nil || reference.IsNameOnly(named) {
				t.Errorf("%s: %s is not a full name with a tag", ref, name)
			}
		}
	}
}
