package remotecache

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/view"
)

// tree makes a view of lines "path", "path content" and "path -> target", a path that ends in a slash being a directory.
func tree(t testing.TB, lines ...string) view.View {
	t.Helper()
	o := view.NewOverlay(view.Empty())
	ctx := context.Background()
	for _, line := range lines {
		name, content, _ := strings.Cut(line, " ")
		var err error
		switch target, link := strings.CutPrefix(content, "-> "); {
		case link:
			err = o.Symlink(ctx, target, name, nil, nil)
		case strings.HasSuffix(name, "/"):
			err = o.Mkdir(ctx, name, 0o755, false, nil, nil)
		default:
			err = o.Mkfile(ctx, name, 0o644, []byte(content), nil, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// The digests are those of BuildKit's own tests (cache/contenthash/checksum_test.go).
const (
	data0Digest = "sha256:cd8e75bca50f2d695f220d0cb0997d8ead387e4f926e8669a92d7f104cc9885b"
	d0Digest    = "sha256:d47454417d2c554067fbefe5f5719edc49f3cfe969c36b62e34a187a4da0cc9a"
	linkDigest  = "sha256:a2ba571981f48ec34eb79c9a3ab091b6491e825c2f7e9914ea86e8e958be7fae"
	fooDigest   = "sha256:9b761577efcb1239cf4be971914c5d7404914dd32ff436401af1764dc5446b83"
	starsDigest = "sha256:aa7448215bbf5b837b35ce64467857d8b9747965573d14d4b31b370586370971"
)

func TestSelection(t *testing.T) {
	basic := []string{"foo data0", "bar data1", "d0/", "d0/abc data0", "d0/def -> abc", "d0/ghi -> nosuchfile"}
	wild := []string{
		"bar data1", "foo data0", "fox data2", "x/", "x/d0/", "x/d0/abc data0", "x/d0/def -> abc", "x/d0/ghi -> nosuchfile",
		"y1 -> foo", "y2 -> fox",
	}
	links := []string{"target data0", "sym -> target", "sym2 -> target2", "foo/", "foo/ghi -> target", "y1 -> foo/ghi"}
	deep := []string{"prefix/", "prefix/a/", "prefix/a/b/", "prefix/a/b/c/", "prefix/a/b/c/foo/", "prefix/a/b/c/foo/bar abc"}
	for _, c := range []struct {
		name  string
		files []string
		selection
		want digest.Digest // "" for a file that is not found
	}{
		{"file", basic, selection{path: "/foo", follow: true}, data0Digest},
		{"other file", basic, selection{path: "/bar"}, "sha256:c2b5e234f5f38fc5864da7def04782f82501a40d46192e4207d5b3f0c3c4732b"},
		{"file in directory", basic, selection{path: "/d0/abc", follow: true}, data0Digest},
		{"link", basic, selection{path: "/d0/def", follow: true}, data0Digest},
		{"broken link", basic, selection{path: "/d0/ghi", follow: true}, ""},
		{"directory", basic, selection{path: "/d0", follow: true}, d0Digest},
		{"all", basic, selection{path: "/"}, "sha256:427c9cf9ae98c0f81fb57a3076b965c7c149b6b0a85625ad4e884236649a42c6"},
		{"all of the directory", []string{"abc data0", "def -> abc", "ghi -> nosuchfile"}, selection{path: "/"}, d0Digest},
		{"missing", basic, selection{path: "/nosuch", follow: true}, ""},
		{"one match", wild, selection{path: "/f*o", wildcard: true}, digest.FromString("\x00foo" + data0Digest)},
		{"two matches", wild, selection{path: "/f*", wildcard: true}, "sha256:0b6731924f0a32a812bf8a729202e55e54ded331f9e4ff2397f681e43694e086"},
		{"directory by wildcard", wild, selection{path: "/x/d?", wildcard: true}, "sha256:6b612ad5c13159112ae26357ef7bd34df29916941ba40ec2ce38dfb70c6c60c3"},
		{"link below wildcard", wild, selection{path: "/x/d?/def", wildcard: true, follow: true}, data0Digest},
		{"links by wildcard", wild, selection{path: "/y*", wildcard: true, follow: true}, "sha256:982153600b9653a1decb0f961e09e2bc1be335cfcaac9b39dbd1120b65fdf92c"},
		{"no match", wild, selection{path: "/z*", wildcard: true}, digest.FromBytes(nil)},
		{"link itself", links, selection{path: "/sym", wildcard: true}, linkDigest},
		{"broken link by wildcard", links, selection{path: "/foo/ghi", wildcard: true, follow: true}, ""},
		{"link to a broken link", links, selection{path: "/y1", wildcard: true, follow: true}, ""},
		{"link in directory", links, selection{path: "/foo/ghi"}, linkDigest},
		{"directory with a broken link", links, selection{path: "/foo", follow: true}, fooDigest},
		{"the same by wildcard", links, selection{path: "/fo?", wildcard: true, follow: true}, "sha256:2797e710c6d1a89ff2d91c834b828b1dc500f2982430a58241df8e146f4c4bb4"},
		{"the same with an exclude", links, selection{path: "/foo", follow: true, exclude: []string{"*.git"}}, fooDigest},
		{"stars", deep, selection{path: "/prefix/a", include: []string{"**/foo/**", "**/report"}}, starsDigest},
		{"stars by wildcard", deep, selection{path: "/prefix/a", include: []string{"**/foo", "**/report"}, wildcard: true}, starsDigest},
		{"nothing included", deep, selection{path: "/prefix/a", include: []string{"**/none/**"}}, digest.FromBytes(nil)},
		{"required", deep, selection{path: "/prefix/a", include: []string{"**/none/**"}, required: []string{"/x"}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			sums := &checksums{view: tree(t, c.files...), known: map[string]digest.Digest{}}
			got, err := sums.selection(context.Background(), c.selection)
			if c.want == "" {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Fatalf("got %s, %v", got, err)
				}
				return
			}
			if err != nil || got != c.want {
				t.Fatalf("got %s, %v, want %s", got, err, c.want)
			}
		})
	}
}

func TestHeader(t *testing.T) {
	for _, c := range []struct {
		name  string
		entry view.Entry
		local bool
		want  string
	}{
		{"file", view.Entry{Type: view.TypeRegular, Mode: 0o4755, UID: 1, GID: 2, Size: 3}, false, "mode2541uid1gid2size3typeflag0linkname"},
		{"directory", view.Entry{Type: view.TypeDir, Mode: 0o1777, Size: 4096}, false, "mode1023uid0gid0size0typeflag5linkname"},
		{"link", view.Entry{Type: view.TypeSymlink, Mode: 0o755, Linkname: "to"}, false, "mode511uid0gid0size0typeflag2linknameto"},
		{"device of an image", view.Entry{Type: view.TypeChar, Mode: 0o600, Major: 5, Minor: 1}, false, "mode384uid0gid0size0typeflag3linkname"},
		{"pipe", view.Entry{Type: view.TypeFifo, Mode: 0o600}, true, "mode384uid0gid0size0typeflag6linkname"},
	} {
		if got, want := header(&c.entry, c.local), "name"+c.want+"unamegnamedevmajor0devminor0"; got != want {
			t.Errorf("%s: %q, want %q", c.name, got, want)
		}
	}
	e := &view.Entry{Type: view.TypeBlock, Major: 7, Minor: 8, Xattrs: map[string]string{
		"user.b": "2", "security.capability": "1", "security.selinux": "x", "system.posix_acl_access": "y",
	}}
	if got, want := header(e, true), "namemode0uid0gid0size0typeflag4linknameunamegnamedevmajor7devminor8security.capability1user.b2"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// countingView counts the files that are opened.
type countingView struct {
	view.View
	opened atomic.Int64
}

func (v *countingView) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	v.opened.Add(1)
	return v.View.Open(ctx, name)
}

func TestSums(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sums")
	var first digest.Digest
	for i := range 3 {
		sums := OpenSums(path)
		v := &countingView{View: tree(t, "d/", "d/a one", "d/b two")}
		d, err := contentDigest(context.Background(), v, false, []selection{{path: "/d"}}, sums)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = d
		}
		if d != first || (i > 0) != (v.opened.Load() == 0) {
			t.Errorf("build %d: %s, %d files read", i, d, v.opened.Load())
		}
		if err := errors.Join(sums.Save(t.Context()), sums.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSumsOfTwoBuilds: of two builds that save, neither loses what the other has computed.
func TestSumsOfTwoBuilds(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sums")
	content := digest.FromString("content")
	compute := func() (digest.Digest, error) { return digest.FromString("sum"), nil }
	one, two := OpenSums(path), OpenSums(path)
	for head, s := range map[string]*Sums{"one": one, "two": two} {
		if _, err := s.get(head, content, compute); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(one.Save(t.Context()), two.Save(t.Context())); err != nil {
		t.Fatal(err)
	}
	s := OpenSums(path)
	for _, head := range []string{"one", "two"} {
		if _, err := s.get(head, content, func() (digest.Digest, error) { return "", errors.New("computed again") }); err != nil {
			t.Errorf("%s: %v", head, err)
		}
	}
	if err := errors.Join(one.Close(), two.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestSumsRefusesOtherDigests(t *testing.T) {
	t.Parallel()
	s := OpenSums(filepath.Join(t.TempDir(), "sums"))
	if _, err := s.get("head", digest.FromString("content"), func() (digest.Digest, error) { return "sha256:00", nil }); err == nil {
		t.Error("a digest of one byte is accepted")
	}
	if err := (*Sums)(nil).Close(); err != nil {
		t.Error(err)
	}
}
