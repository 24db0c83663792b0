package remotecache

import (
	"errors"
	"io/fs"
	"runtime"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// TestMatchingSets: selections of the same files have the same digest, and those of other files have another one.
func TestMatchingSets(t *testing.T) {
	t.Parallel()
	files := []string{"a/", "a/keep 1", "a/drop.tmp 2", "a/sub/", "a/sub/keep 3", "a/sub/drop.tmp 4", "link -> a", "file x"}
	for name, test := range map[string]struct {
		one, two selection
		same     bool
	}{
		"a slash at the end":          {selection{path: "/a/", wildcard: true}, selection{path: "/a", wildcard: true}, false},
		"all by pattern":              {selection{path: "/a", include: []string{"**"}}, selection{path: "/a", exclude: []string{"nothing"}}, true},
		"include, exclude":            {selection{path: "/a", include: []string{"**/keep"}}, selection{path: "/a", exclude: []string{"**/*.tmp"}}, true},
		"exclude of a directory":      {selection{path: "/a", exclude: []string{"sub"}}, selection{path: "/a", exclude: []string{"sub/**", "sub"}}, true},
		"exclude of less":             {selection{path: "/a", exclude: []string{"sub"}}, selection{path: "/a", exclude: []string{"sub/keep"}}, false},
		"exception":                   {selection{path: "/a", exclude: []string{"**/*.tmp", "!sub/drop.tmp"}}, selection{path: "/a", exclude: []string{"drop.tmp"}}, true},
		"below a file is nothing":     {selection{path: "/file/x", wildcard: true}, selection{path: "/none/x", wildcard: true}, true},
		"symlink on the way":          {selection{path: "/link/sub", exclude: []string{"*.tmp"}}, selection{path: "/a/sub", exclude: []string{"*.tmp"}}, true},
		"symlink before a wildcard":   {selection{path: "/link/s*", wildcard: true}, selection{path: "/a/s*", wildcard: true}, true},
		"patterns are relative to it": {selection{path: "/a/sub", include: []string{"keep"}}, selection{path: "/a/sub", exclude: []string{"drop.tmp"}}, true},
		"relative to what is matched": {selection{path: "/?/sub", wildcard: true, include: []string{"keep"}}, selection{path: "/?/sub", wildcard: true, exclude: []string{"drop.tmp"}}, true},
		"required is there":           {selection{path: "/a", include: []string{"keep"}, required: []string{"/a/keep"}}, selection{path: "/a", include: []string{"keep"}}, true},
		"a file, and its directory":   {selection{path: "/a/sub/keep", wildcard: true}, selection{path: "/a/sub", include: []string{"keep"}}, false},
		"a pattern that is one file":  {selection{path: "/a/kee?", wildcard: true}, selection{path: "/a/k*", wildcard: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var digests []digest.Digest
			for _, s := range []selection{test.one, test.two} {
				sums := &checksums{view: tree(t, files...), known: map[string]digest.Digest{}}
				d, err := sums.selection(t.Context(), s)
				if err != nil {
					t.Fatal(err)
				}
				digests = append(digests, d)
			}
			if (digests[0] == digests[1]) != test.same {
				t.Errorf("%s and %s", digests[0], digests[1])
			}
		})
	}
}

func TestSelectionErrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		selection
		want string
	}{
		"include":  {selection{path: "/", include: []string{"[a"}}, "invalid include patterns"},
		"exclude":  {selection{path: "/", exclude: []string{"[a"}}, "invalid exclude patterns"},
		"pattern":  {selection{path: "/d/[", wildcard: true}, "syntax error in pattern"},
		"required": {selection{path: "/", include: []string{"f"}, required: []string{"/d"}}, "/d"},
	} {
		sums := &checksums{view: tree(t, "d/", "d/a 1", "f 2"), known: map[string]digest.Digest{}}
		d, err := sums.selection(t.Context(), test.selection)
		if err == nil || !strings.Contains(err.Error(), test.want) || errors.Is(err, fs.ErrNotExist) != (name == "required") {
			t.Errorf("%s: %s, %v, want %s", name, d, err, test.want)
		}
	}
}

func TestNormalPlatform(t *testing.T) {
	t.Parallel()
	if p := normalPlatform(nil); p.OS != runtime.GOOS || p.Architecture != runtime.GOARCH {
		t.Errorf("without a platform: %+v", p)
	}
	for _, test := range []struct{ os, arch, variant, want string }{
		{"Linux", "x86_64", "", "linux/amd64/"}, {"linux", "aarch64", "v8", "linux/arm64/"}, {"linux", "arm", "", "linux/arm/v7"}, {"linux", "arm", "6", "linux/arm/v6"},
	} {
		p := normalPlatform(&pb.Platform{OS: test.os, Architecture: test.arch, Variant: test.variant})
		if got := p.OS + "/" + p.Architecture + "/" + p.Variant; got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}
}
