package remotecache

import (
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
)

func TestImageKeys(t *testing.T) {
	t.Parallel()
	root, a, b := digest.FromString("root"), digest.FromString("a"), digest.FromString("b")
	doc := func(more string) string {
		return digest.FromString(`{"Digest":"` + root.String() + `","OS":"linux","Arch":"amd64"` + more + `}`).String()
	}
	for name, test := range map[string]struct {
		limit string
		chain []digest.Digest
		want  []string
		err   string
	}{
		"image":     {"", []digest.Digest{a, b}, []string{doc(""), identity.ChainID([]digest.Digest{a, b}).String()}, ""},
		"no layers": {"", nil, []string{doc("")}, ""},
		"limit":     {"1", []digest.Digest{a, b}, []string{doc(`,"Limit":1`), a.String()}, ""},
		"too many":  {"3", []digest.Digest{a, b}, nil, "invalid layer limit"},
		"zero":      {"0", []digest.Digest{a, b}, nil, "invalid layer limit"},
		"not one":   {"x", []digest.Digest{a, b}, nil, "invalid layer limit"},
	} {
		source := &pb.SourceOp{Attrs: map[string]string{}}
		if test.limit != "" {
			source.Attrs[pb.AttrImageLayerLimit] = test.limit
		}
		op := &pb.Op{Platform: &pb.Platform{OS: "linux", Architecture: "amd64"}, Op: &pb.Op_Source{Source: source}}
		got, err := ImageKeys(op, Image{Roots: []digest.Digest{root}, Chain: test.chain})
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v, want %q", name, err, test.err)
			}
			continue
		}
		if err != nil || strings.Join(got, " ") != strings.Join(test.want, " ") {
			t.Errorf("%s: %q, want %q: %v", name, got, test.want, err)
		}
	}
}

func TestGitKey(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		url   string
		attrs map[string]string
		want  string
	}{
		"plain":         {"git://example.com/x.git", nil, "c0ffee"},
		"no scheme":     {"git://git.example.com/team/x.git#main", nil, "c0ffee"},
		"ssh":           {"git://git@example.com:team/x.git#main:sub", nil, "c0ffee:sub"},
		"https":         {"git://https://example.com/x.git#:sub/dir", nil, "c0ffee:sub/dir"},
		"git directory": {"git://example.com/x.git", map[string]string{pb.AttrKeepGitDir: "true"}, "c0ffee.git#refs/heads/main"},
		"submodules":    {"git://example.com/x.git", map[string]string{pb.AttrGitSkipSubmodules: "true"}, "c0ffee(skip-submodules)"},
		"checkout time": {"git://example.com/x.git", map[string]string{pb.AttrGitMTime: "checkout"}, "c0ffee"},
		"commit time":   {"git://example.com/x.git", map[string]string{pb.AttrGitMTime: "commit"}, "c0ffee(mtime=commit)"},
		"bundle":        {"git://example.com/x.git", map[string]string{pb.AttrGitCheckoutBundle: "true"}, "c0ffee(bundle)"},
	} {
		got, err := GitKey(&pb.SourceOp{Identifier: test.url, Attrs: test.attrs}, "c0ffee", "refs/heads/main")
		if err != nil || got != test.want {
			t.Errorf("%s: %q, want %q: %v", name, got, test.want, err)
		}
	}
	if got, err := GitKey(&pb.SourceOp{Identifier: "git://https://exa mple.com/x.git"}, "c0ffee", ""); err == nil {
		t.Errorf("an invalid URL gives %q", got)
	}
}

func TestHTTPKey(t *testing.T) {
	t.Parallel()
	sum := digest.FromString("content")
	at := time.Date(2024, 5, 6, 7, 8, 9, 0, time.FixedZone("GMT", 0))
	doc := func(name, numbers, more string) string {
		return digest.FromString(`{"Filename":"` + name + `",` + numbers + `,"Checksum":"` + sum.String() + `"` + more + `}`).String()
	}
	const none = `"Perm":0,"UID":0,"GID":0`
	for name, test := range map[string]struct {
		attrs map[string]string
		d     Download
		want  string // "" for an error
	}{
		"plain":    {nil, Download{Filename: "f", Digest: sum}, doc("f", none, "")},
		"modified": {nil, Download{Filename: "f", Digest: sum, Modified: &at}, doc("f", none, `,"LastModTime":"Mon, 06 May 2024 07:08:09 GMT"`)},
		"owner": {map[string]string{pb.AttrHTTPPerm: "0600", pb.AttrHTTPUID: "7", pb.AttrHTTPGID: "8"}, Download{Filename: "f", Digest: sum},
			doc("f", `"Perm":384,"UID":7,"GID":8`, "")},
		"secret": {map[string]string{pb.AttrHTTPAuthHeaderSecret: "token"}, Download{Filename: "f", Digest: sum}, doc("f", none, `,"AuthHeaderSecret":"token"`)},
		"header": {map[string]string{pb.AttrHTTPHeaderPrefix + "user-agent": "x", pb.AttrHTTPHeaderPrefix + "accept": "y", pb.AttrHTTPHeaderPrefix + "cookie": "z"},
			Download{Filename: "f", Digest: sum}, doc("f", none, `,"Header":[{"Name":"Accept","Value":"y"},{"Name":"User-Agent","Value":"x"}]`)},
		"not a number": {map[string]string{pb.AttrHTTPPerm: "rwx"}, Download{Filename: "f", Digest: sum}, ""},
	} {
		got, err := HTTPKey(&pb.SourceOp{Attrs: test.attrs}, test.d)
		if got != test.want && test.want != "" || (err == nil) != (test.want != "") {
			t.Errorf("%s: %s, want %s: %v", name, got, test.want, err)
		}
	}
}

func TestBlobKey(t *testing.T) {
	t.Parallel()
	sum := digest.FromString("content")
	want := digest.FromString(`{"Digest":"` + sum.String() + `","Filename":"f","Perm":493,"UID":1,"GID":0}`).String()
	attrs := map[string]string{pb.AttrHTTPFilename: "f", pb.AttrHTTPPerm: "0755", pb.AttrHTTPUID: "1"}
	if got, err := BlobKey(&pb.SourceOp{Attrs: attrs}, sum); got != want || err != nil {
		t.Errorf("%s, want %s: %v", got, want, err)
	}
	if _, err := BlobKey(&pb.SourceOp{Attrs: map[string]string{pb.AttrHTTPGID: "x"}}, sum); err == nil {
		t.Error("a group that is not a number has a key")
	}
}
