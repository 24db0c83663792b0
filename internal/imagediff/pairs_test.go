package imagediff_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/imagediff"
	. "github.com/micabuild/mica/internal/inspect/inspecttest"
	"github.com/micabuild/mica/internal/transfer"
)

// edit returns an entry with another header.
func edit(e Entry, change func(*tar.Header)) Entry {
	change(&e.Header)
	return e
}

func mode(e Entry, mode int64) Entry { return edit(e, func(h *tar.Header) { h.Mode = mode }) }

func xattr(e Entry, name, value string) Entry {
	return edit(e, func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr." + name: value} })
}

func special(name string, kind byte, major, minor int64) Entry {
	return Entry{Header: tar.Header{Name: name, Typeflag: kind, Mode: 0o600, Devmajor: major, Devminor: minor, ModTime: Time}}
}

// capability is the attribute of a file's capabilities.
const capability = "security.capability"

var (
	large = string(bytes.Repeat([]byte("0123456789abcdef"), 1<<14)) // 256 KiB
	long  = strings.Repeat("long name ", 20)
	zeros = strings.Repeat("\x00", 1<<16)
)

// baseLayers are the layers that all images of a pair begin with.
func baseLayers() [][]Entry {
	one := []Entry{
		Dir("d"), Dir("e"), mode(Dir("e/tight"), 0o700), File("e/tight/f", "f"), File("d/below", "removed by the base itself"),
		File("d/same", "same"), File("d/content", "old"), File("d/size", "short"), File("d/mode", "m"), File("d/setuid", "m"), File("d/uid", "m"), File("d/gid", "m"),
		File("d/time", "m"), File("d/subsecond", "m"), xattr(File("d/xattr", "m"), "user.a", "1"), xattr(File("d/xattr-gone", "m"), "user.a", "1"), File("d/xattr-new", "m"),
		Symlink("d/target", "old"), special("d/device", tar.TypeChar, 1, 3), special("d/device-type", tar.TypeChar, 1, 3), special("d/fifo", tar.TypeFifo, 0, 0),
		File("d/gone", "x"), Dir("d/gone-dir"), File("d/gone-dir/a", "x"), Dir("d/gone-dir/b"), File("d/gone-dir/b/c", "x"),
		Dir("d/opaque"), File("d/opaque/1", "x"), File("d/opaque/2", "x"), Dir("d/again"), File("d/again/1", "x"),
		File("d/to-dir", "x"), Dir("d/to-file"), File("d/to-file/x", "x"), File("d/to-link", "x"), Symlink("d/link-to-file", "x"), Symlink("d/link-to-dir", "/e"),
		File("d/h1", "linked"), Link("d/h2", "d/h1"), Link("e/h3", "d/h1"), File("d/s1", "twins"), File("d/s2", "twins"),
		File("d/large", large), File("d/large-short", large), File("d/odd \n\xff", "x"), File("d/"+long, "x"), File("d/\u00e9", "x"), File("d/case", "x"),
		File("d/swap1", "one"), File("d/swap2", "two"), Dir("d/dir-mode"), Dir("d/dir-time"), Dir("d/implied"), File("d/implied/f", "x"),
		xattr(File("d/capability", "m"), capability, "\x01\x00\x00\x02\x00\x04\x00\x00"), xattr(Dir("d/dir-xattr"), "user.a", "1"), Dir("d/dir-owner"),
		File("d/old", "m"), Symlink("d/link-owner", "x"), Symlink("d/link-time", "x"), Symlink("d/l1", "x"), Link("d/l2", "d/l1"), special("d/c1", tar.TypeChar, 5, 1), mode(Link("d/c2", "d/c1"), 0o600),
		special("d/block", tar.TypeBlock, 8, 1), Dir("d/to-dead-link"), File("d/to-dead-link/x", "x"), Dir("d/nested"), Dir("d/nested/a"), File("d/nested/a/x", "x"), File("d/nested/y", "x"),
		File("d/zeros", zeros), File("d/zeros-longer", zeros),
	}
	return [][]Entry{one, {Removal("d/below"), File("e/second", "layer")}}
}

// mutation is a change of the base, as layers above it, and what a comparison has to say of it.
type mutation struct {
	name   string
	layers [][]Entry
	want   []string
	group  string // of mutations that change the same files
}

func one(name string, entries []Entry, want ...string) mutation {
	return mutation{name: name, layers: [][]Entry{entries}, want: want}
}

func (m mutation) of(group string) mutation {
	m.group = group
	return m
}

func mutations() []mutation {
	later := func(by time.Duration) func(*tar.Header) { return func(h *tar.Header) { h.ModTime = Time.Add(by) } }
	return []mutation{
		one("content", []Entry{File("d/content", "new")}, "~ /d/content content"),
		one("size", []Entry{File("d/size", "longer")}, "~ /d/size content"),
		one("mode", []Entry{mode(File("d/mode", "m"), 0o755)}, "~ /d/mode mode"),
		one("setuid", []Entry{mode(File("d/setuid", "m"), 0o4644)}, "~ /d/setuid mode"),
		one("uid", []Entry{edit(File("d/uid", "m"), func(h *tar.Header) { h.Uid = 7 })}, "~ /d/uid owner"),
		one("gid", []Entry{edit(File("d/gid", "m"), func(h *tar.Header) { h.Gid = 7 })}, "~ /d/gid owner"),
		one("time", []Entry{edit(File("d/time", "m"), later(time.Hour))}, "~ /d/time time"),
		one("time below a second", []Entry{edit(File("d/subsecond", "m"), later(1))}, "~ /d/subsecond time"),
		one("xattr", []Entry{xattr(File("d/xattr", "m"), "user.a", "2")}, "~ /d/xattr xattrs"),
		one("xattr removed", []Entry{File("d/xattr-gone", "m")}, "~ /d/xattr-gone xattrs"),
		one("xattr added", []Entry{xattr(File("d/xattr-new", "m"), "user.b", "\x00\xff")}, "~ /d/xattr-new xattrs"),
		one("capability", []Entry{xattr(File("d/capability", "m"), capability, "\x01\x00\x00\x02\x20\x04\x00\x00")}, "~ /d/capability xattrs").of("capability"),
		one("capability lost", []Entry{File("d/capability", "m")}, "~ /d/capability xattrs").of("capability"),
		one("xattr of a directory", []Entry{xattr(Dir("d/dir-xattr"), "user.a", "2")}, "~ /d/dir-xattr xattrs"),
		one("owner of a directory", []Entry{edit(Dir("d/dir-owner"), func(h *tar.Header) { h.Uid, h.Gid = 3_000_000_000, 65534 })}, "~ /d/dir-owner owner"),
		one("time before 1970", []Entry{edit(File("d/old", "m"), func(h *tar.Header) { h.ModTime = time.Unix(-1, 0) })}, "~ /d/old time"),
		one("owner of a symlink", []Entry{edit(Symlink("d/link-owner", "x"), func(h *tar.Header) { h.Uid = 1 })}, "~ /d/link-owner owner"),
		one("time of a symlink", []Entry{edit(Symlink("d/link-time", "x"), later(1))}, "~ /d/link-time time").of("link-time"),
		one("mode of a symlink", []Entry{mode(Symlink("d/link-time", "x"), 0o644)}).of("link-time"),
		one("linked symlink broken", []Entry{Symlink("d/l2", "x")}, "~ /d/l2 hardlink"),
		one("linked device broken", []Entry{special("d/c2", tar.TypeChar, 5, 1)}, "~ /d/c2 hardlink"),
		one("major number", []Entry{special("d/block", tar.TypeBlock, 7, 1)}, "~ /d/block device"),
		one("directory to dead symlink", []Entry{Symlink("d/to-dead-link", "/none")}, "~ /d/to-dead-link type", "- /d/to-dead-link/x"),
		one("opaque, and its parent", []Entry{Dir("d/nested"), Opaque("d/nested"), Dir("d/nested/a"), Opaque("d/nested/a"), File("d/nested/a/z", "")},
			"- /d/nested/a/x", "+ /d/nested/a/z", "- /d/nested/y").of("nested"),
		one("opaque in a new directory", []Entry{Dir("d/new-opaque"), Opaque("d/new-opaque"), File("d/new-opaque/x", "")}, "+ /d/new-opaque", "+ /d/new-opaque/x"),
		one("removal beside the file", []Entry{Removal("d/nested/y"), File("d/nested/y", "x")}).of("nested"),
		one("empty directory added", []Entry{Dir("d/added-dir")}, "+ /d/added-dir"),
		one("zeros", []Entry{File("d/zeros", zeros[1:]+"x")}, "~ /d/zeros content"),
		one("more zeros", []Entry{File("d/zeros-longer", zeros+"\x00")}, "~ /d/zeros-longer content"),
		one("fifo added", []Entry{special("d/added-fifo", tar.TypeFifo, 0, 0)}, "+ /d/added-fifo"),
		one("several", []Entry{edit(mode(File("d/same", "changed"), 0o600), func(h *tar.Header) { h.Uid, h.ModTime = 1, Time.Add(time.Minute) })},
			"~ /d/same content mode owner time").of("same"),
		one("target", []Entry{Symlink("d/target", "new")}, "~ /d/target target"),
		one("device numbers", []Entry{special("d/device", tar.TypeChar, 1, 5)}, "~ /d/device device"),
		one("device type", []Entry{special("d/device-type", tar.TypeBlock, 1, 3)}, "~ /d/device-type type"),
		one("fifo to file", []Entry{mode(File("d/fifo", ""), 0o600)}, "~ /d/fifo type"),
		one("removed", []Entry{Removal("d/gone")}, "- /d/gone"),
		one("directory removed", []Entry{Removal("d/gone-dir")}, "- /d/gone-dir", "- /d/gone-dir/a", "- /d/gone-dir/b", "- /d/gone-dir/b/c").of("gone-dir"),
		one("directory made anew", []Entry{Removal("d/gone-dir"), Dir("d/gone-dir")}, "- /d/gone-dir/a", "- /d/gone-dir/b", "- /d/gone-dir/b/c").of("gone-dir"),
		one("opaque", []Entry{Dir("d/opaque"), Opaque("d/opaque"), File("d/opaque/3", "x")}, "- /d/opaque/1", "- /d/opaque/2", "+ /d/opaque/3").of("opaque"),
		one("opaque with a file again", []Entry{Dir("d/opaque"), Opaque("d/opaque"), File("d/opaque/1", "x")}, "- /d/opaque/2").of("opaque"),
		one("opaque with a file changed", []Entry{Opaque("d/opaque"), File("d/opaque/1", "y")}, "~ /d/opaque/1 content", "- /d/opaque/2").of("opaque"),
		one("opaque with all again", []Entry{Dir("d/again"), Opaque("d/again"), File("d/again/1", "x")}),
		one("file to directory", []Entry{Dir("d/to-dir"), File("d/to-dir/x", "x")}, "~ /d/to-dir type mode", "+ /d/to-dir/x"),
		one("directory to file", []Entry{File("d/to-file", "x")}, "~ /d/to-file type mode", "- /d/to-file/x"),
		one("file to symlink", []Entry{Symlink("d/to-link", "x")}, "~ /d/to-link type"),
		one("symlink to file", []Entry{File("d/link-to-file", "x")}, "~ /d/link-to-file type"),
		one("symlink to directory", []Entry{Dir("d/link-to-dir"), File("d/link-to-dir/x", "x")}, "~ /d/link-to-dir type", "+ /d/link-to-dir/x"),
		one("link broken", []Entry{File("d/h2", "linked")}, "~ /d/h2 hardlink").of("links"),
		one("first link broken", []Entry{File("d/h1", "linked")}, "~ /d/h2 hardlink", "~ /e/h3 hardlink").of("links"),
		one("last link broken and changed", []Entry{File("e/h3", "changed")}, "~ /e/h3 content hardlink").of("links"),
		one("linked content", []Entry{File("d/h1", "changed"), Link("d/h2", "d/h1"), Link("e/h3", "d/h1")}, "~ /d/h1 content", "~ /d/h2 content", "~ /e/h3 content").of("links"),
		one("link added to a file below", []Entry{File("d/h1", "linked"), Link("d/h4", "d/h1")}, "+ /d/h4", "~ /d/h2 hardlink", "~ /e/h3 hardlink").of("links"),
		one("all links again", []Entry{File("e/h3", "linked"), Link("d/h1", "e/h3"), Link("d/h2", "e/h3")}).of("links"),
		one("link removed", []Entry{Removal("d/h1")}, "- /d/h1").of("links"),
		one("linked", []Entry{File("d/s1", "twins"), Link("d/s2", "d/s1")}, "~ /d/s2 hardlink"),
		one("linked files added", []Entry{File("d/n1", "x"), Link("d/n2", "d/n1")}, "+ /d/n1", "+ /d/n2"),
		one("added", []Entry{File("d/added", "x")}, "+ /d/added"),
		one("empty file added", []Entry{File("d/added-empty", "")}, "+ /d/added-empty"),
		one("directories implied", []Entry{File("n/m/f", "x")}, "+ /n", "+ /n/m", "+ /n/m/f"),
		one("directory implied over one of the base", []Entry{File("e/tight/g", "x")}, "+ /e/tight/g"),
		one("symlink added", []Entry{Symlink("d/added-link", "\xfe")}, "+ /d/added-link"),
		one("device added", []Entry{special("d/added-device", tar.TypeBlock, 7, 0)}, "+ /d/added-device"),
		one("odd name", []Entry{File("d/odd \n\xff", "y")}, "~ /d/odd \n\xff content").of("odd"),
		one("odd name removed", []Entry{Removal("d/odd \n\xff")}, "- /d/odd \n\xff").of("odd"),
		one("odd names added", []Entry{File("d/ \x1b[31m", ""), File("d/..x", ""), File("d/\\", "")}, "+ /d/ \x1b[31m", "+ /d/..x", "+ /d/\\"),
		one("long name", []Entry{Removal("d/" + long), File("d/"+long+"r", "x")}, "- /d/"+long, "+ /d/"+long+"r"),
		one("other form of a letter", []Entry{Removal("d/\u00e9"), File("d/e\u0301", "x")}, "- /d/\u00e9", "+ /d/e\u0301"),
		one("other case", []Entry{Removal("d/case"), File("d/Case", "x")}, "- /d/case", "+ /d/Case"),
		one("large file, last byte", []Entry{File("d/large", large[:len(large)-1]+"!")}, "~ /d/large content"),
		one("large file, shorter", []Entry{File("d/large-short", large[1:])}, "~ /d/large-short content"),
		one("names swapped", []Entry{File("d/swap1", "two"), File("d/swap2", "one")}, "~ /d/swap1 content", "~ /d/swap2 content"),
		one("mode of a directory", []Entry{mode(Dir("d/dir-mode"), 0o1777)}, "~ /d/dir-mode mode"),
		one("time of a directory", []Entry{edit(Dir("d/dir-time"), later(time.Hour))}, "~ /d/dir-time time"),
		one("directory as it is", []Entry{Dir("d/implied"), File("d/implied/f", "x")}),
		one("file as it is", []Entry{File("d/same", "same")}).of("same"),
		one("missing name removed", []Entry{Removal("d/never")}),
		one("whole directory in another layer", []Entry{Dir("e"), mode(Dir("e/tight"), 0o700), File("e/second", "layer")}),
		{name: "removed, and made again", layers: [][]Entry{{Removal("d/same")}, {File("d/same", "same")}}, group: "same"},
		{name: "changed, and changed back", layers: [][]Entry{{File("d/same", "changed")}, {File("d/same", "same")}}, group: "same"},
		{name: "added, and removed", layers: [][]Entry{{File("x", "x")}, {Removal("x")}}},
		{name: "in three layers", layers: [][]Entry{{File("y/1", "x")}, {File("y/2", "x")}, {Removal("y/1")}}, want: []string{"+ /y", "+ /y/2"}},
		{name: "directory, file, directory", layers: [][]Entry{{Removal("d/same"), Dir("z"), File("z/x", "")}, {File("z", "")}, {Dir("z"), File("z/y", "")}},
			want: []string{"- /d/same", "+ /z", "+ /z/y"}, group: "same"},
	}
}

// pair is two images, by name, and their differences.
type pair struct {
	name, a, b string
	want       []string
}

// reversed are the differences of the images of a pair the other way around.
func reversed(want []string) []string {
	return mapped(want, func(line string) string {
		return strings.NewReplacer("+", "-", "-", "+").Replace(line[:1]) + line[1:]
	})
}

func mapped(list []string, f func(string) string) (out []string) {
	for _, s := range list {
		out = append(out, f(s))
	}
	return out
}

// maker makes the images of pairs.
type maker struct {
	*Store
	t     *testing.T
	count int
	pairs []pair
}

func (m *maker) image(layers [][]Entry) string {
	m.count++
	name := fmt.Sprintf("image:%d", m.count)
	m.Image(nil, layers, name)
	return name
}

// flat makes an image of one layer with the files of another image.
func (m *maker) flat(name string) string {
	m.t.Helper()
	v, err := m.Open(name).View(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	var out bytes.Buffer
	if err := transfer.Export(m.t.Context(), &out, v); err != nil {
		m.t.Fatal(err)
	}
	m.count++
	flat := fmt.Sprintf("image:%d", m.count)
	m.ImageOf(flat, out.Bytes())
	return flat
}

func (m *maker) add(name, a, b string, want []string) {
	m.pairs = append(m.pairs, pair{name, a, b, want})
}

// singles adds pairs of the base and the base with one mutation, both ways, and of one image in several forms.
func (m *maker) singles(all []mutation) {
	base := m.image(baseLayers())
	flat := m.flat(base)
	m.add("base, flat", base, flat, nil)
	for i, mu := range all {
		b := m.image(append(baseLayers(), mu.layers...))
		m.add(mu.name, base, b, mu.want)
		m.add(mu.name+", reversed", b, base, reversed(mu.want))
		if i%3 == 0 { // others are flat as parts of several
			bFlat := m.flat(b)
			m.add(mu.name+", against itself, flat", b, bFlat, nil)
			m.add(mu.name+", both flat", flat, bFlat, mu.want)
		}
	}
}

// several adds pairs of images with several mutations each: those of both are no difference.
func (m *maker) several(all []mutation, count int) {
	random := rand.New(rand.NewPCG(1, 2))
	for n := range count {
		groups, images := map[string]bool{}, [2][][]Entry{baseLayers(), baseLayers()}
		var names, want []string
		for _, i := range random.Perm(len(all))[:2+n%6] {
			mu := all[i]
			if mu.group != "" && groups[mu.group] {
				continue
			}
			groups[mu.group] = true
			names = append(names, mu.name)
			switch random.IntN(3) {
			case 0:
				images[1] = append(images[1], mu.layers...)
				want = append(want, mu.want...)
			case 1:
				images[0] = append(images[0], mu.layers...)
				want = append(want, reversed(mu.want)...)
			default:
				images[0], images[1] = append(images[0], mu.layers...), append(images[1], mu.layers...)
			}
		}
		a, b := m.image(images[0]), m.image(images[1])
		if n%4 == 3 {
			b = m.flat(b)
		}
		m.add(strings.Join(names, " and "), a, b, want)
	}
}

// lines are the differences of files as lines, sorted.
func lines(r *imagediff.Report) (list []string) {
	for _, c := range r.Files.Changes {
		line := map[imagediff.Change]string{imagediff.Added: "+ ", imagediff.Removed: "- ", imagediff.Changed: "~ "}[c.Change] + c.Path
		for _, a := range c.Aspects {
			line += " " + string(a)
		}
		list = append(list, line)
	}
	slices.Sort(list)
	return list
}

// TestPairs compares many pairs of images: no difference is missed, and none invented.
func TestPairs(t *testing.T) {
	t.Parallel()
	m := &maker{Store: NewStore(t), t: t}
	all := mutations()
	m.singles(all)
	m.several(all, 60)
	if len(m.pairs) < 200 {
		t.Fatalf("%d pairs", len(m.pairs))
	}
	for _, p := range m.pairs {
		r, err := imagediff.Compare(t.Context(), m.Open(p.a), m.Open(p.b), imagediff.Options{Only: []string{"files"}})
		if err != nil {
			t.Errorf("%s: %v", p.name, err)
			continue
		}
		want := slices.Sorted(slices.Values(p.want))
		if diff := cmp.Diff(want, lines(r)); diff != "" {
			t.Errorf("%s:\n%s", p.name, diff)
		}
		if r.Same != (len(want) == 0) {
			t.Errorf("%s: same is %t", p.name, r.Same)
		}
	}
	t.Logf("%d pairs", len(m.pairs))
}

// TestOldAndNew: a change says what was and what is.
func TestOldAndNew(t *testing.T) {
	t.Parallel()
	m := &maker{Store: NewStore(t), t: t}
	a := m.image([][]Entry{{xattr(File("f", "old"), "user.a", "\x01"), Symlink("l", "x"), special("c", tar.TypeChar, 1, 3)}})
	b := m.image([][]Entry{{mode(File("f", "newer"), 0o4755), Symlink("l", "y"), special("c", tar.TypeChar, 1, 5), File("g", ""), Link("h", "g")}})
	r, err := imagediff.Compare(t.Context(), m.Open(a), m.Open(b), imagediff.Options{})
	if err != nil {
		t.Fatal(err)
	}
	when := Time.UTC()
	want := []imagediff.FileChange{
		{Path: "/c", Change: imagediff.Changed, Aspects: []imagediff.Aspect{imagediff.Device},
			Old: &imagediff.File{Type: "char", Mode: "0600", ModTime: &when, Device: "1:3"}, New: &imagediff.File{Type: "char", Mode: "0600", ModTime: &when, Device: "1:5"}},
		{Path: "/f", Change: imagediff.Changed, Aspects: []imagediff.Aspect{imagediff.Content, imagediff.Mode, imagediff.Xattrs},
			Old: &imagediff.File{Type: "file", Mode: "0644", Size: 3, ModTime: &when, Digest: digest.FromString("old"), Xattrs: map[string]string{"user.a": "01"}},
			New: &imagediff.File{Type: "file", Mode: "4755", Size: 5, ModTime: &when, Digest: digest.FromString("newer")}},
		{Path: "/g", Change: imagediff.Added, New: &imagediff.File{Type: "file", Mode: "0644", ModTime: &when, Digest: digest.FromString("")}},
		{Path: "/h", Change: imagediff.Added, New: &imagediff.File{Type: "file", Mode: "0644", ModTime: &when, Digest: digest.FromString(""), First: "/g"}},
		{Path: "/l", Change: imagediff.Changed, Aspects: []imagediff.Aspect{imagediff.Target},
			Old: &imagediff.File{Type: "symlink", Mode: "0777", ModTime: &when, Target: "x"}, New: &imagediff.File{Type: "symlink", Mode: "0777", ModTime: &when, Target: "y"}},
	}
	if diff := cmp.Diff(want, r.Files.Changes); diff != "" {
		t.Error(diff)
	}
	if f := r.Files; f.Added != (imagediff.FileSum{Count: 2}) || f.Changed != (imagediff.FileSum{Count: 3, Size: 2}) {
		t.Errorf("%+v", f)
	}
	if l := r.Layers; l.Shared.Count != 0 || l.Removed.Count != 1 || l.Added.Count != 1 || l.Added.Size != 6 {
		t.Errorf("%+v", l)
	}
}
