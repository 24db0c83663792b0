//go:build e2e

package flatten

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"time"
)

// chain is an image of odd layers.
type chain struct {
	layers [][]byte
	// unlike says that containerd makes something else of it than the specification: in a layer that removes a directory and makes
	// it again, or hides all that is below it, files of lower layers show through; a hard link to what the layer removes is
	// another removal; and what takes the place of a directory in its own layer gets its time.
	unlike bool
	large  bool // there are owners that an ordinary user has none of
}

// generator makes odd layers, always the same.
type generator struct {
	*rand.Rand
	t     *testing.T
	tar   *tar.Writer
	seen  []string        // names of the layer's members
	gone  map[string]bool // what it removes
	dirs  map[string]bool // directories that it has had
	links map[string]bool // symlinks of the chain
	chain
}

// pick returns one of the values.
func pick[T any](g *generator, values ...T) T { return values[g.IntN(len(values))] }

func newChain(t *testing.T, seed uint64) *chain {
	t.Helper()
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 7)), t: t, links: map[string]bool{}}
	for range 2 + g.IntN(3) {
		var buf bytes.Buffer
		g.tar, g.seen, g.gone, g.dirs = tar.NewWriter(&buf), nil, map[string]bool{}, map[string]bool{}
		for range 1 + g.IntN(7) {
			g.member()
		}
		if err := g.tar.Close(); err != nil {
			t.Fatal(err)
		}
		g.layers = append(g.layers, buf.Bytes())
	}
	return &g.chain
}

// path is a name, of so few that they meet.
func (g *generator) path() string {
	name := pick(g, "a", "b", "c", "tmp")
	for range pick(g, 0, 0, 1, 1, 2) {
		name += "/" + pick(g, "a", "b", "x")
	}
	return name
}

// spell writes a name in one of the ways that mean the same.
func (g *generator) spell(name string) string {
	dir, base := path.Split(name)
	switch g.IntN(12) {
	case 0:
		return "/" + name
	case 1:
		return "./" + name
	case 2:
		return "//" + dir + "/" + base
	case 3:
		return dir + "./" + base
	case 4:
		return "x/../" + name
	case 5:
		return "/../" + name
	}
	return name
}

// write adds a member with metadata of any kind.
func (g *generator) write(h tar.Header, content string) {
	g.t.Helper()
	h.Mode = pick[int64](g, 0o644, 0o755, 0o600, 0o1777, 0o4755, 0o2750, 0)
	if h.Typeflag == tar.TypeDir {
		h.Mode &^= 0o2000 // what is implied in it would get its group
	}
	h.Uid, h.Gid = pick(g, 0, 0, 33, 1000), pick(g, 0, 0, 50)
	if g.IntN(30) == 0 {
		h.Uid, g.large = 3_000_000, true
	}
	h.ModTime = time.Unix(pick[int64](g, 1_600_000_000, 1_500_000_000, 1, 0), 0)
	if g.IntN(8) == 0 {
		h.ModTime = time.Unix(1_400_000_000, 123_456_789)
		h.Format = tar.FormatPAX
	}
	if g.IntN(20) == 0 {
		h.ModTime = time.Unix(1<<36, 0) // Docker and mica say 1970
	}
	h.Size = int64(len(content))
	if err := g.tar.WriteHeader(&h); err != nil {
		g.t.Fatal(err)
	}
	if _, err := g.tar.Write([]byte(content)); err != nil {
		g.t.Fatal(err)
	}
}

func (g *generator) member() {
	name := g.path()
	h := tar.Header{Name: g.spell(name), Typeflag: tar.TypeReg}
	if g.IntN(6) == 0 {
		key := pick(g, "user.k", "user.overlay.opaque", "trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.metacopy", "trusted.overlay.whiteout")
		h.PAXRecords = map[string]string{"SCHILY.xattr." + key: pick(g, "y", "x", "/b")}
	}
	content := ""
	switch kind := g.IntN(100); {
	case kind < 30:
		content = strings.Repeat(fmt.Sprintln(name, g.Uint32()), g.IntN(3))
	case kind < 45:
		h.Name, h.Typeflag = h.Name+pick(g, "", "/", "//", "/."), tar.TypeDir
		g.unlike = g.unlike || g.gone[name]
		g.dirs[name] = true
	case kind < 55:
		h.Typeflag, h.Linkname = tar.TypeSymlink, pick(g, "a", "b", "/b", "../a", "../../..", "nowhere", "/", ".", "c/x")
	case kind < 65:
		h.Typeflag, h.Linkname = tar.TypeLink, g.spell(g.path())
		if len(g.seen) > 0 {
			h.Linkname = g.spell(pick(g, g.seen...))
		}
		g.unlike = g.unlike || g.gone[path.Clean("/" + h.Linkname)[1:]]
	case kind < 76:
		h.Name = g.spell(path.Join(path.Dir(name), ".wh."+path.Base(name)))
		g.gone[name] = true
	case kind < 82:
		h.Name = g.spell(path.Join(pick(g, name, path.Dir(name)), ".wh..wh..opq"))
		g.unlike = g.unlike || path.Clean("/"+h.Name) == "/.wh..wh..opq"
	case kind < 85:
		h.Typeflag = tar.TypeFifo
	case kind < 88:
		h.Typeflag, h.Devmajor, h.Devminor = pick[byte](g, tar.TypeChar, tar.TypeBlock), 1, 3
	case kind < 90:
		h.Typeflag, g.gone[name] = tar.TypeChar, true // 0:0
	case kind < 93:
		h.Name, h.Typeflag = pick(g, ".", "./", "/", "a/.."), tar.TypeDir
	case kind < 96:
		h.Name, h.Typeflag = pick(g, ".wh..wh.aufs", ".wh..wh.orph/", ".wh..wh.plnk/", ".wh..wh.orph/x"), tar.TypeReg
		if strings.HasSuffix(h.Name, "/") {
			h.Typeflag = tar.TypeDir
		}
	default:
		h.Name, content = ".wh..wh.plnk/12.3", "linked"
		g.seen = append(g.seen, h.Name, h.Name)
		g.write(h, content)
		h = tar.Header{Name: h.Name, Typeflag: tar.TypeLink, Linkname: h.Name}
		h.Name, content = name, ""
	}
	if h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeSymlink || h.Typeflag == tar.TypeLink {
		g.seen = append(g.seen, name)
	}
	g.unlike = g.unlike || h.Typeflag != tar.TypeDir && g.dirs[name]
	// An opaque marker may lead through a symlink to the root.
	for dir := path.Dir(path.Clean("/" + h.Name))[1:]; dir != "" && path.Base(h.Name) == ".wh..wh..opq"; dir = path.Dir("/" + dir)[1:] {
		g.unlike = g.unlike || g.links[dir]
	}
	g.links[name] = g.links[name] || h.Typeflag == tar.TypeSymlink
	g.write(h, content)
}
