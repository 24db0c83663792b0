package remotecache

import (
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/view"
)

func TestHeaderText(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		entry view.Entry
		local bool
		want  string
	}{
		"file": {view.Entry{Type: view.TypeRegular, Mode: 0o644, UID: 1, GID: 2, Size: 7}, false,
			"namemode420uid1gid2size7typeflag0linknameunamegnamedevmajor0devminor0"},
		"setuid": {view.Entry{Type: view.TypeRegular, Mode: 0o4755}, false,
			"namemode2541uid0gid0size0typeflag0linknameunamegnamedevmajor0devminor0"},
		"directory": {view.Entry{Type: view.TypeDir, Mode: 0o755, Size: 4096}, false,
			"namemode493uid0gid0size0typeflag5linknameunamegnamedevmajor0devminor0"},
		"symlink": {view.Entry{Type: view.TypeSymlink, Mode: 0o644, Linkname: "to"}, false,
			"namemode511uid0gid0size0typeflag2linknametounamegnamedevmajor0devminor0"},
		"device of a snapshot": {view.Entry{Type: view.TypeChar, Mode: 0o600, Major: 1, Minor: 3}, false,
			"namemode384uid0gid0size0typeflag3linknameunamegnamedevmajor0devminor0"},
		"device of a context": {view.Entry{Type: view.TypeBlock, Mode: 0o600, Major: 1, Minor: 3}, true,
			"namemode384uid0gid0size0typeflag4linknameunamegnamedevmajor1devminor3"},
		"fifo": {view.Entry{Type: view.TypeFifo, Mode: 0o600}, false,
			"namemode384uid0gid0size0typeflag6linknameunamegnamedevmajor0devminor0"},
		"attributes": {view.Entry{Type: view.TypeRegular, Xattrs: map[string]string{
			"user.b": "2", "user.a": "1", "security.capability": "c", "security.selinux": "s", "system.posix_acl_access": "p", "trusted.x": "t",
		}}, false, "namemode0uid0gid0size0typeflag0linknameunamegnamedevmajor0devminor0security.capabilityctrusted.xtuser.a1user.b2"},
	} {
		if got := header(&test.entry, test.local); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

func TestWildcards(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string][3]string{
		"/a/b":     {"no", "/a/b", ""},
		"/a/*":     {"yes", "/a", "*"},
		"/a*/b":    {"yes", "/", "a*/b"},
		`/a\*/b`:   {"no", `/a\*/b`, ""},
		`/a\\?/b`:  {"yes", "/", `a\\?/b`},
		"/x/[ab]c": {"yes", "/x", "[ab]c"},
		"/":        {"no", "/", ""},
	} {
		if got := hasWildcard(pattern); got != (want[0] == "yes") {
			t.Errorf("%s has a wildcard: %v", pattern, got)
		}
		if base, rest := splitWildcards(pattern); base != want[1] || rest != want[2] {
			t.Errorf("%s is split into %q and %q", pattern, base, rest)
		}
	}
}

func TestDropNested(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{
		"":               "",
		"/a":             "/a",
		"/a /a":          "/a",
		"/a/b /a":        "/a",
		"/ab /a":         "/a /ab",
		"/b /a/c /a/b/c": "/a/b/c /a/c /b",
		"/x /":           "/",
	} {
		if got := strings.Join(dropNested(strings.Fields(list)), " "); got != want {
			t.Errorf("%q: %q, want %q", list, got, want)
		}
	}
}

func TestMergeSelections(t *testing.T) {
	t.Parallel()
	filtered := selection{path: "/a/b", include: []string{"*.go"}}
	got := mergeSelections([]selection{{path: "/c/d"}, {path: "/c"}, filtered, {path: "/c/e", follow: true}, {path: "/a", follow: true}, {path: "/a/x", follow: true}})
	var paths []string
	for _, s := range got {
		text := s.path
		if s.follow {
			text += " followed"
		}
		if s.filtered() {
			text += " filtered"
		}
		paths = append(paths, text)
	}
	if want := "/a followed, /a/b filtered, /c, /c/e followed"; strings.Join(paths, ", ") != want {
		t.Errorf("%q, want %q", paths, want)
	}
}

func TestDefaultIndexes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		list [][]int
		want bool
	}{
		"none":             {nil, false},
		"one":              {[][]int{{0, 1, 0}}, true},
		"one, no source":   {[][]int{{0, -1, 0}}, true},
		"two":              {[][]int{{0, 1, -1}, {2, 1, 0}}, true},
		"another start":    {[][]int{{1, 0, 0}}, false},
		"another source":   {[][]int{{0, 2, 0}}, false},
		"another output":   {[][]int{{0, 1, 1}}, false},
		"output between":   {[][]int{{0, 1, 0}, {2, 1, 1}}, false},
		"another sequence": {[][]int{{0, 1, -1}, {1, 1, 0}}, false},
	} {
		if got := defaultIndexes(test.list); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
