package builder

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestParseAnnotations(t *testing.T) {
	t.Parallel()
	arm := ocispec.Platform{OS: "linux", Architecture: "arm64"}
	one := &response{platforms: []*built{{platform: amd64}}}
	two := &response{platforms: []*built{{platform: amd64}, {platform: arm}}, several: true}
	type notes = map[string]string
	for name, c := range map[string]struct {
		all        notes
		out        *response
		attested   bool
		index      notes
		root       notes
		manifest   notes // for amd64
		descriptor notes // for amd64
		err        string
	}{
		"none":                  {out: one},
		"of the manifest":       {out: one, all: notes{"annotation.a": "1"}, manifest: notes{"a": "1"}},
		"explicitly":            {out: one, all: notes{"annotation-manifest.a": "1"}, manifest: notes{"a": "1"}},
		"of its descriptor":     {out: one, all: notes{"annotation-manifest-descriptor.a": "1"}, descriptor: notes{"a": "1"}},
		"of a platform":         {out: two, all: notes{"annotation-manifest[linux/amd64].a": "1", "annotation.b": "2"}, manifest: notes{"a": "1", "b": "2"}},
		"a platform wins":       {out: two, all: notes{"annotation-manifest[linux/amd64].a": "1", "annotation.a": "2"}, manifest: notes{"a": "1"}},
		"of the other platform": {out: two, all: notes{"annotation-manifest[linux/arm64].a": "1"}},
		"of the index":          {out: two, all: notes{"annotation-index.a": "1"}, index: notes{"a": "1"}},
		"of its own descriptor": {out: two, all: notes{"annotation-index-descriptor.a": "1"}, root: notes{"a": "1"}},
		"of an index that attestations make": {
			out: one, attested: true, all: notes{"annotation-index.a": "1"}, index: notes{"a": "1"},
		},
		"no index":         {out: one, all: notes{"annotation-index.a": "1"}, err: "index annotations not supported for single platform export"},
		"no such platform": {out: one, all: notes{"annotation-manifest[linux/s390x].a": "1"}, err: "invalid annotation: no platform linux/s390x found in source"},
		"not a key":        {out: one, all: notes{"annotate.a": "1"}, err: `invalid annotation "annotate.a"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parseAnnotations(c.all, c.out, c.attested)
			if text(err) != c.err {
				t.Fatalf("%v, want %q", err, c.err)
			}
			if err != nil {
				return
			}
			for _, d := range []struct{ want, got notes }{
				{c.index, got.index}, {c.root, got.root}, {c.manifest, got.manifest(amd64)}, {c.descriptor, got.descriptor(amd64)},
			} {
				if len(d.want)+len(d.got) > 0 && !cmp.Equal(d.want, d.got) {
					t.Errorf("%v, want %v", d.got, d.want)
				}
			}
		})
	}
}
