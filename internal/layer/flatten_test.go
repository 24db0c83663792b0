package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/view"
)

// The members of odd layers.
func dirMember(name string, mode int64) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode, Uid: 7}
}

func fileMember(name string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(name))}
}

func linkMember(name, to string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeLink, Mode: 0o644, Linkname: to}
}

func symlinkMember(name, to string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
}

func with(h tar.Header, change func(*tar.Header)) tar.Header {
	change(&h)
	return h
}

// ingestChain makes layers of members.
func ingestChain(t testing.TB, l *Layers, layers ...[]tar.Header) (chain []digest.Digest) {
	t.Helper()
	for _, members := range layers {
		got, _, err := l.Ingest(t.Context(), bytes.NewReader(tarOf(t, members...)), "", "")
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, got.DiffID)
	}
	return chain
}

// shown lists a View: directories with mode and owner, what others have that is not a plain file's.
func shown(t *testing.T, v view.View) string {
	t.Helper()
	var words []string
	var walk func(dir string)
	walk = func(dir string) {
		entries, err := v.ReadDir(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			word := e.Path
			switch {
			case e.IsDir():
				word = fmt.Sprintf("%s/%o:%d", e.Path, e.Mode, e.UID)
			case e.Hardlink != "":
				word += "=" + e.Hardlink
			case e.Type == view.TypeSymlink:
				word += ">" + e.Linkname
			case e.Mode != 0o644 || e.UID != 0:
				word = fmt.Sprintf("%s:%o:%d", e.Path, e.Mode, e.UID)
			}
			if len(e.Xattrs) > 0 {
				word += fmt.Sprint(e.Xattrs)
			}
			if e.Opaque || e.Type == view.TypeWhiteout {
				t.Errorf("%+v is in a merged view", e)
			}
			if words = append(words, word); e.IsDir() {
				walk(e.Path)
			}
		}
	}
	walk(".")
	return strings.Join(words, " ")
}

// odd are layers of which readers could think differently, and what they are in a chain.
var odd = []struct {
	name   string
	layers [][]tar.Header
	want   string
}{
	{"a directory without an entry is as below", [][]tar.Header{{dirMember("tmp", 0o1777)}, {fileMember("tmp/data")}}, "tmp/1777:7 tmp/data"},
	{"and below that", [][]tar.Header{{dirMember("tmp", 0o1777)}, {fileMember("tmp/a/b")}, {fileMember("tmp/a/c")}}, "tmp/1777:7 tmp/a/755:0 tmp/a/b tmp/a/c"},
	{"one that is nowhere", [][]tar.Header{{fileMember("f")}, {fileMember("d/g")}}, "d/755:0 d/g f"},
	{"an entry behind what it holds", [][]tar.Header{{dirMember("d", 0o1777)}, {fileMember("d/g"), dirMember("d", 0o700)}}, "d/700:7 d/g"},
	{"opaque, without an entry", [][]tar.Header{{dirMember("d", 0o1777), fileMember("d/f")}, {fileMember("d/.wh..wh..opq"), fileMember("d/g")}}, "d/1777:7 d/g"},
	{"opaque, the marker last", [][]tar.Header{{fileMember("d/f")}, {fileMember("d/g"), dirMember("d", 0o700), fileMember("d/.wh..wh..opq")}}, "d/700:7 d/g"},
	{"an opaque root", [][]tar.Header{{fileMember("f")}, {fileMember("g"), fileMember(".wh..wh..opq")}, {fileMember("h")}}, "g h"},
	{"removed and made again", [][]tar.Header{{dirMember("d", 0o1777), fileMember("d/f")}, {fileMember(".wh.d"), fileMember("d/g")}}, "d/755:0 d/g"},
	{"made and removed from below", [][]tar.Header{{dirMember("d", 0o1777), fileMember("d/f")}, {dirMember("d", 0o700), fileMember("d/g"), fileMember(".wh.d")}}, "d/700:7 d/g"},
	{"removed in its own layer", [][]tar.Header{{fileMember("f")}, {fileMember("f"), fileMember(".wh.f")}}, "f"},
	{"removed twice in one layer", [][]tar.Header{{fileMember("f")}, {fileMember(".wh.f"), fileMember(".wh.f")}}, ""},
	{"a removal of what is not there", [][]tar.Header{{fileMember("f")}, {fileMember("d/.wh.g")}}, "d/755:0 f"},
	{"such a removal where all is hidden", [][]tar.Header{{fileMember("d/f")}, {fileMember("d/.wh..wh..opq"), fileMember("d/e/.wh.g")}}, "d/755:0 d/e/755:0"},
	{"a file, then a directory", [][]tar.Header{{fileMember("a"), dirMember("a", 0o700), fileMember("a/b")}}, "a/700:7 a/b"},
	{"a directory, then a file", [][]tar.Header{{fileMember("a/b"), fileMember("a")}}, "a"},
	{"over a symlink of a layer below", [][]tar.Header{{dirMember("b", 0o700), symlinkMember("a", "b")}, {fileMember("a/f")}}, "a/700:7 a/f b/700:7"},
	{"and once more", [][]tar.Header{{dirMember("b", 0o700), symlinkMember("a", "b")}, {fileMember("a/f")}, {fileMember("a/g")}}, "a/700:7 a/f a/g b/700:7"},
	{"over several symlinks", [][]tar.Header{{dirMember("v/t", 0o1777), symlinkMember("a", "/b"), symlinkMember("b", "v/t")}, {fileMember("a/f")}}, "a/1777:7 a/f b>v/t v/755:0 v/t/1777:7"},
	{"below a symlink", [][]tar.Header{{dirMember("b", 0o700), dirMember("b/s", 0o711), symlinkMember("a", "b")}, {fileMember("a/s/f"), fileMember("a/n/f")}}, "a/700:7 a/n/755:0 a/n/f a/s/711:7 a/s/f b/700:7 b/s/711:7"},
	{"below a symlink, with an entry", [][]tar.Header{{dirMember("b/s/u", 0o711), symlinkMember("a", "b")}, {dirMember("a/s", 0o700), fileMember("a/s/u/f")}}, "a/755:0 a/s/700:7 a/s/u/711:7 a/s/u/f b/755:0 b/s/755:0 b/s/u/711:7"},
	{"over a symlink with an entry", [][]tar.Header{{dirMember("b", 0o700), symlinkMember("a", "b")}, {dirMember("a", 0o711), fileMember("a/f")}}, "a/711:7 a/f b/700:7"},
	{"over a symlink, opaque", [][]tar.Header{{dirMember("b", 0o700), symlinkMember("a", "b")}, {fileMember("a/.wh..wh..opq"), fileMember("a/f")}}, "a/700:7 a/f b/700:7"},
	{"over a symlink to nothing", [][]tar.Header{{symlinkMember("a", "b")}, {fileMember("a/f")}}, "a/755:0 a/f"},
	{"over a symlink to a file", [][]tar.Header{{fileMember("b"), symlinkMember("a", "b")}, {fileMember("a/f")}}, "a/755:0 a/f b"},
	{"over a symlink in a circle", [][]tar.Header{{symlinkMember("b", "a"), symlinkMember("a", "b")}, {fileMember("a/f")}}, "a/755:0 a/f b>a"},
	{"over a symlink to another layer", [][]tar.Header{{dirMember("b", 0o700)}, {symlinkMember("a", "b")}, {fileMember("a/f")}}, "a/755:0 a/f b/700:7"},
	{"through a symlink of its own layer", [][]tar.Header{{symlinkMember("a", "b"), fileMember("a/f"), fileMember("a/.wh.g")}}, "a>b b/755:0 b/f"},
	{"names in many forms", [][]tar.Header{{dirMember("./", 0o700), dirMember("/", 0o700), fileMember("a/../b"), fileMember("//c"), fileMember("./d/./e"), fileMember("/../f"), linkMember("g", "x/../b"), dirMember("h//", 0o700)}}, "b c d/755:0 d/e f g=b h/700:7"},
	{"the root as what it is not", [][]tar.Header{{fileMember("."), linkMember("/", "nothing"), symlinkMember("a/..", "x"), fileMember("f")}}, "f"},
	{"hard links in a chain", [][]tar.Header{{fileMember("a"), linkMember("b", "a"), linkMember("c", "b"), fileMember("a")}}, "a b c=b"},
	{"a hard link says more", [][]tar.Header{{fileMember("a"), with(linkMember("b", "a"), func(h *tar.Header) {
		h.Mode, h.Uid, h.PAXRecords = 0o4755, 9, map[string]string{"SCHILY.xattr.user.k": "v"}
	})}}, "a:4755:9map[user.k:v] b=amap[user.k:v]"},
	{"a hard link takes capabilities", [][]tar.Header{{with(fileMember("a"), func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "v"} }), linkMember("b", "a")}}, "a b=a"},
	{"a hard link to a symlink", [][]tar.Header{{symlinkMember("a", "x"), linkMember("b", "a")}}, "a>x b=a"},
	{"a hard link through a symlink", [][]tar.Header{{fileMember("d/f"), symlinkMember("l", "d"), linkMember("g", "l/f")}}, "d/755:0 d/f g=d/f l>d"},
	{"AUFS's files", [][]tar.Header{{dirMember(".wh..wh.plnk", 0o700), fileMember(".wh..wh.plnk/1.2"), fileMember(".wh..wh.plnk/3.4"), dirMember(".wh..wh.orph", 0o700), fileMember(".wh..wh.aufs"), linkMember("a", ".wh..wh.plnk/1.2"), linkMember("b", ".wh..wh.plnk/1.2")}}, "a b=a"},
	{"a device that is a whiteout", [][]tar.Header{{fileMember("a"), fileMember("b")}, {fileMember("a"), {Name: "a", Typeflag: tar.TypeChar}, {Name: "b", Typeflag: tar.TypeChar}}}, ""},
	{"attributes of overlayfs", [][]tar.Header{{fileMember("d/a")}, {with(dirMember("d", 0o700), func(h *tar.Header) {
		h.PAXRecords = map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.overlay.redirect": "/x"}
	})}}, "d/700:7 d/a"},
	{"attributes that a symlink cannot have", [][]tar.Header{{with(symlinkMember("a", "b"), func(h *tar.Header) {
		h.PAXRecords = map[string]string{"SCHILY.xattr.user.k": "v", "SCHILY.xattr.odd": "v"}
	})}}, "a>b"},
}

func TestOddLayers(t *testing.T) {
	for _, tt := range odd {
		l := newLayers(t)
		v, err := l.View(t.Context(), ingestChain(t, l, tt.layers...))
		if err != nil {
			t.Fatal(err)
		}
		if got := shown(t, v); got != tt.want {
			t.Errorf("%s: %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// TestRootOddTrees: a tree that is made while its layer arrives is the same as one that is made later.
func TestRootOddTrees(t *testing.T) {
	for _, tt := range odd {
		for _, form := range []func(testing.TB) *Layers{
			func(t testing.TB) *Layers { return inDirectories(newLayers(t)) }, func(t testing.TB) *Layers { return asErofs(newLayers(t)) },
		} {
			l := form(t)
			for _, members := range tt.layers {
				got, _, err := l.IngestFrom(t.Context(), Incoming{Reader: bytes.NewReader(tarOf(t, members...)), Unpack: true})
				if err != nil {
					t.Fatalf("%s: %v", tt.name, err)
				}
				if _, err := l.Tree(t.Context(), got.DiffID); err != nil {
					t.Fatal(err)
				}
				if err := l.Verify(t.Context(), got.DiffID); err != nil {
					t.Errorf("%s: %v", tt.name, err)
				}
			}
		}
	}
}

// TestTimes: what no filesystem holds is 1970 in every form of a layer.
func TestTimes(t *testing.T) {
	l := newLayers(t)
	var members []tar.Header
	times := map[string]int64{"huge": 1 << 40, "tiny": -1 << 40, "old": -5, "now": 1_700_000_000}
	for name, seconds := range times {
		members = append(members, with(fileMember(name), func(h *tar.Header) { h.ModTime, h.Format = time.Unix(seconds, 0), tar.FormatGNU }))
	}
	times["huge"], times["tiny"] = 0, 0
	v, err := l.View(t.Context(), ingestChain(t, l, members))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for name := range times {
		e, err := v.Lstat(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		got[name] = e.ModTime.Unix()
	}
	if diff := cmp.Diff(times, got); diff != "" {
		t.Error(diff)
	}
}

// TestLinkedContent: what AUFS had several names for is read under each.
func TestLinkedContent(t *testing.T) {
	l := newLayers(t)
	v, err := l.View(t.Context(), ingestChain(t, l, []tar.Header{fileMember("a"), fileMember(".wh..wh.plnk/12.345"), linkMember("b", ".wh..wh.plnk/12.345"), linkMember("0", "b")}))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"b", "0"} {
		f, err := v.Open(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(f)
		if err != nil || len(data) != len(".wh..wh.plnk/12.345") {
			t.Errorf("%s is %q, %v", name, data, err)
		}
		_ = f.Close()
	}
}
