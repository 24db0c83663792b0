package explain

import (
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/view"
)

// TestFileCauses: each thing that changed in a file is a cause of its own, and no other is.
func TestFileCauses(t *testing.T) {
	t.Parallel()
	one, two := digest.FromString("1"), digest.FromString("2")
	file := func(edit func(*view.Entry)) *view.Entry {
		e := &view.Entry{Path: "a", Type: view.TypeRegular, Mode: 0o644, Size: 1, Digest: one}
		edit(e)
		return e
	}
	same := func(*view.Entry) {}
	no := func(string) (bool, bool) { return false, false }
	for name, tt := range map[string]struct {
		old, now *view.Entry
		ignored  func(string) (bool, bool)
		want     []string
	}{
		"nothing":      {file(same), file(same), no, nil},
		"content":      {file(same), file(func(e *view.Entry) { e.Digest = two }), no, []string{"a changed"}},
		"mode":         {file(same), file(func(e *view.Entry) { e.Mode = 0o755 }), no, []string{"mode of a 644 → 755"}},
		"a small mode": {file(same), file(func(e *view.Entry) { e.Mode = 0o7 }), no, []string{"mode of a 644 → 007"}},
		"owner":        {file(same), file(func(e *view.Entry) { e.UID, e.GID = 1, 2 }), no, []string{"owner of a 0:0 → 1:2"}},
		"attributes":   {file(same), file(func(e *view.Entry) { e.Xattrs = map[string]string{"user.x": "1"} }), no, []string{"extended attributes of a changed"}},
		"another type": {
			file(same), file(func(e *view.Entry) { e.Type, e.Linkname, e.Digest = view.TypeSymlink, "b", "" }), no, []string{"type of a file → symbolic link"},
		},
		"a link": {
			file(func(e *view.Entry) { e.Type, e.Linkname = view.TypeSymlink, "b" }), file(func(e *view.Entry) { e.Type, e.Linkname = view.TypeSymlink, "c" }), no,
			[]string{"link of a b → c"},
		},
		"a device": {
			file(func(e *view.Entry) { e.Type, e.Major = view.TypeChar, 1 }), file(func(e *view.Entry) { e.Type, e.Major = view.TypeChar, 5 }), no,
			[]string{"device of a 1:0 → 5:0"},
		},
		"everything": {
			file(same), file(func(e *view.Entry) { e.Digest, e.Mode, e.UID = two, 0o600, 7 }), no,
			[]string{"a changed", "mode of a 644 → 600", "owner of a 0:0 → 7:0"},
		},
		"added":               {nil, file(same), no, []string{"a added"}},
		"removed":             {file(same), nil, no, []string{"a removed"}},
		"no longer left out":  {nil, file(same), func(string) (bool, bool) { return true, false }, []string{"ignore file changed: a is no longer left out"}},
		"left out":            {file(same), nil, func(string) (bool, bool) { return false, true }, []string{"ignore file changed: a is left out"}},
		"left out as before":  {file(same), nil, func(string) (bool, bool) { return true, true }, []string{"a removed"}},
		"named by an ! entry": {nil, file(same), func(string) (bool, bool) { return true, true }, []string{"a added"}},
	} {
		got := fileCauses(view.FileChange{Old: tt.old, New: tt.now}, "", tt.ignored)
		if !slices.Equal(texts(&history.Build{}, got), tt.want) {
			t.Errorf("%s: %q, want %q", name, texts(&history.Build{}, got), tt.want)
		}
	}
	got := fileCauses(view.FileChange{Old: file(same), New: file(func(e *view.Entry) { e.Digest, e.Size = two, 9 })}, "step", no)
	if want := (history.Cause{Kind: history.File, Name: "a", Step: "step", Change: history.Content, Old: one.String(), New: two.String(), OldSize: 1, NewSize: 9}); len(got) != 1 || got[0] != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestTypeNames: every type of a file has a name.
func TestTypeNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, typ := range []view.Type{view.TypeRegular, view.TypeDir, view.TypeSymlink, view.TypeChar, view.TypeBlock, view.TypeFifo, view.TypeSocket} {
		name := typeName(typ)
		if name == "" || seen[name] {
			t.Errorf("%v is %q", typ, name)
		}
		seen[name] = true
	}
}

// TestBaseCauses: what is said of a base image that is not the same.
func TestBaseCauses(t *testing.T) {
	t.Parallel()
	from := func(image string, layers ...digest.Digest) *history.Step {
		return &history.Step{Vertex: digest.FromString(image), Source: &history.Source{Identifier: image, Layers: layers}}
	}
	const debian = "docker-image://docker.io/library/debian:12@sha256:1"
	for name, tt := range map[string]struct {
		old, now    *history.Step
		oldPlatform string
		args        []variable
		want        string
	}{
		"a layer more":   {from(debian, "a"), from(debian, "a", "b"), "linux/amd64", nil, "base image debian:12 changed (1 layer)"},
		"other layers":   {from(debian, "a"), from(debian, "b", "c"), "linux/amd64", nil, "base image debian:12 changed (2 layers)"},
		"a layer less":   {from(debian, "a", "b"), from(debian, "a"), "linux/amd64", nil, "base image debian:12 changed (fewer layers)"},
		"the config":     {from(debian, "a"), from(debian, "a"), "linux/amd64", nil, "base image debian:12 changed"},
		"another image":  {from(debian, "a"), from("docker-image://docker.io/library/alpine:3", "b"), "linux/amd64", nil, "base image debian:12 → alpine:3"},
		"by an argument": {from(debian, "a"), from("docker-image://docker.io/library/debian:13", "b"), "linux/amd64", []variable{{history.Argument, "V", "12", "13"}}, `build argument V: "12" → "13"`},
		"the platform":   {from(debian, "a"), from(debian, "b"), "linux/arm64", nil, "platform: linux/arm64 → linux/amd64"},
		"no name":        {from("oci-layout://UPPER", "a"), from("oci-layout://UPPER", "b"), "linux/amd64", nil, "base image UPPER changed (1 layer)"},
		"another registry": {
			from("docker-image://r.example/a/b:1@sha256:1", "a"), from("docker-image://r.example/a/b:1@sha256:2", "b"), "linux/amd64", nil,
			"base image r.example/a/b:1 changed (1 layer)",
		},
	} {
		c := &comparison{now: &history.Build{Platforms: []string{"linux/amd64"}}, old: &history.Build{Platforms: []string{tt.oldPlatform}}, args: tt.args}
		if got := texts(&history.Build{}, c.base(tt.now, tt.old)); !slices.Equal(got, []string{tt.want}) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
