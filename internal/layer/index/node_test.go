package index

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/view"
)

// TestChildrenInAnyOrder: a directory finds its files, and sorts them, however many there are and in which order they come.
func TestChildrenInAnyOrder(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 31, 32, 33, 500} {
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("f%03d", i)
		}
		random := rand.New(rand.NewPCG(1, uint64(n)))
		random.Shuffle(n, func(i, j int) { names[i], names[j] = names[j], names[i] })
		x := NewBuilder("", 0)
		for i, name := range names {
			if !x.IsNew(name) {
				t.Errorf("%s is there before it is added", name)
			}
			if err := x.Add(&view.Entry{Path: name, Type: view.TypeRegular, UID: i}, toc.Place{}); err != nil {
				t.Fatal(err)
			}
			if x.IsNew(name) || x.root.child(name) == nil || x.root.child(name+"x") != nil {
				t.Errorf("%s of %d is not found", name, n)
			}
		}
		root := x.Root()
		for i, kid := range root.Children {
			if want := fmt.Sprintf("f%03d", i); kid.name != want || names[kid.Entry.UID] != want || root.Descend(want) != kid {
				t.Errorf("child %d of %d is %s", i, n, kid.name)
			}
		}
		if len(root.Children) != n {
			t.Errorf("%d children of %d", len(root.Children), n)
		}
	}
}

func TestDescend(t *testing.T) {
	t.Parallel()
	root := mustBuild(t, "d/ d/e/ d/e/f s@d")
	for path, want := range map[string]string{
		".": ".", "d": "d", "d/e": "d/e", "d/e/f": "d/e/f", "s": "s", "s/e": "", "x": "", "d/x": "", "d/e/f/g": "", "": "",
	} {
		got := ""
		if n := root.Descend(path); n != nil {
			got = n.Entry.Path
		}
		if got != want {
			t.Errorf("%q leads to %q, want %q", path, got, want)
		}
	}
}

func TestNamesOfFiles(t *testing.T) {
	t.Parallel()
	root := mustBuild(t, "f l>f m>l g h>g alone")
	names := func(path string) (list []string) {
		for _, n := range root.Descend(path).Names() {
			list = append(list, n.Entry.Path)
		}
		return list
	}
	for path, want := range map[string]string{"f": "f l m", "l": "f l m", "g": "g h", "alone": ""} {
		if got := strings.Join(names(path), " "); got != want {
			t.Errorf("%s has the names %q, want %q", path, got, want)
		}
	}
	if !root.Descend("f").SameFile(root.Descend("m")) || root.Descend("f").SameFile(root.Descend("h")) {
		t.Error("files are mixed up")
	}
}

func TestSameMetadata(t *testing.T) {
	t.Parallel()
	base := func() *view.Entry {
		return &view.Entry{Mode: 1, UID: 2, GID: 3, ModTime: time.Unix(4, 0), Linkname: "l", Hardlink: "h", Major: 5, Minor: 6, Xattrs: map[string]string{"a": "b"}}
	}
	for name, c := range map[string]struct {
		change func(e *view.Entry)
		same   bool
	}{
		"nothing":    {func(*view.Entry) {}, true},
		"path":       {func(e *view.Entry) { e.Path = "x" }, true},
		"size":       {func(e *view.Entry) { e.Size = 9 }, true},
		"digest":     {func(e *view.Entry) { e.Digest = "x" }, true},
		"time zone":  {func(e *view.Entry) { e.ModTime = e.ModTime.In(time.FixedZone("x", 60)) }, true},
		"mode":       {func(e *view.Entry) { e.Mode = 9 }, false},
		"user":       {func(e *view.Entry) { e.UID = 9 }, false},
		"group":      {func(e *view.Entry) { e.GID = 9 }, false},
		"time":       {func(e *view.Entry) { e.ModTime = time.Unix(9, 0) }, false},
		"target":     {func(e *view.Entry) { e.Linkname = "x" }, false},
		"hard link":  {func(e *view.Entry) { e.Hardlink = "x" }, false},
		"major":      {func(e *view.Entry) { e.Major = 9 }, false},
		"minor":      {func(e *view.Entry) { e.Minor = 9 }, false},
		"attributes": {func(e *view.Entry) { e.Xattrs = map[string]string{"a": "c"} }, false},
	} {
		other := base()
		c.change(other)
		if SameMetadata(base(), other) != c.same {
			t.Errorf("another %s: %t", name, !c.same)
		}
	}
}

// TestSymlinksInNames: as many are followed as the kernel follows, and names have as many bytes as it allows.
func TestSymlinksInNames(t *testing.T) {
	t.Parallel()
	chain := func(n int) error {
		x := NewBuilder("", 0)
		layer := "d/"
		for i := range n {
			target := "d"
			if i > 0 {
				target = fmt.Sprint("s", i-1)
			}
			layer += fmt.Sprintf(" s%d@%s", i, target)
		}
		for _, e := range entries(fmt.Sprintf("%s s%d/f", layer, n-1)) {
			if err := x.Add(e, toc.Place{}); err != nil {
				return err
			}
		}
		if x.Root().Descend("d/f") == nil {
			t.Errorf("%d links lead elsewhere", n)
		}
		return nil
	}
	if err := chain(maxLinks); err != nil {
		t.Error(err)
	}
	if err := chain(maxLinks + 1); err == nil || !strings.Contains(err.Error(), "too many symbolic links") {
		t.Errorf("%v", err)
	}
	long := strings.Repeat("x", 200)
	_, err := build("d/ s@../" + long + " s/" + strings.Repeat(long+"/", 20) + "f")
	if err == nil || !strings.Contains(err.Error(), "too long a name") {
		t.Errorf("%v", err)
	}
}

// TestReplace: a device 0:0 in a tar takes the place of what the layer has.
func TestReplace(t *testing.T) {
	t.Parallel()
	for layer, want := range map[string]string{
		"":             "(d/) -d/n",
		"d/ d/n":       "d/ -d/n",
		"d/ d/n/ x":    "d/ -d/n x",
		"e/ d@e e/n":   "d@e e/ -e/n",
		"d/ d/n l>d/n": "d/ -d/n l",
	} {
		x, err := build(layer)
		if err != nil {
			t.Fatal(err)
		}
		if err := x.Replace(&view.Entry{Path: "d/n", Type: view.TypeWhiteout}); err != nil {
			t.Errorf("%s: %v", layer, err)
		}
		if got := text(fromTable(t, x)); got != want {
			t.Errorf("%q: %q, want %q", layer, got, want)
		}
	}
}

// TestNamelessFiles: the content of a file that AUFS kept is that of the first link to it.
func TestNamelessFiles(t *testing.T) {
	t.Parallel()
	x := NewBuilder(digest.FromString("x"), 0)
	hidden := &view.Entry{Path: ".wh..wh.plnk/1.2", Type: view.TypeRegular, Mode: 0o600, Size: 5, Digest: digest.FromString("x")}
	if err := x.AddNameless(hidden, toc.Place{Offset: 1024}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"b", "a"} {
		if err := x.Add(&view.Entry{Path: name, Type: view.TypeRegular, Mode: 0o600, Hardlink: hidden.Path}, toc.Place{}); err != nil {
			t.Fatal(err)
		}
	}
	root := fromTable(t, x)
	if got := text(root); got != "a b>a" {
		t.Errorf("%q", got)
	}
	if n := root.Descend("a"); n.Entry.Size != 5 || n.Place.Offset != 1024 {
		t.Errorf("%+v at %+v", n.Entry, n.Place)
	}
	// Without links it is nothing.
	x = NewBuilder(digest.FromString("x"), 0)
	if err := x.AddNameless(hidden, toc.Place{}); err != nil {
		t.Fatal(err)
	}
	if got := text(fromTable(t, x)); got != "" {
		t.Errorf("%q", got)
	}
}

// TestMergeShares: the index of a chain has the nodes of its layers where only one layer has something.
func TestMergeShares(t *testing.T) {
	t.Parallel()
	lower, upper := mustBuild(t, "a/ a/f b/ b/f"), mustBuild(t, "b/ b/g c/ c/f")
	got := Merge(lower, upper, nil)
	for path, from := range map[string]*Node{"a": lower, "b/f": lower, "b/g": upper, "c": upper} {
		if got.Descend(path) != from.Descend(path) {
			t.Errorf("%s is copied", path)
		}
	}
	if got.Descend("b") == lower.Descend("b") || len(lower.Descend("b").Children) != 1 {
		t.Error("a layer is changed")
	}
	if Merge(lower, mustBuild(t, "-a").Descend("a"), nil) != nil {
		t.Error("a removal is a file")
	}
}

// TestPlacesOfLinkedFiles: a file keeps its content when the name that came with it goes.
func TestPlacesOfLinkedFiles(t *testing.T) {
	t.Parallel()
	x, err := build("f l>f m>f f=2")
	if err != nil {
		t.Fatal(err)
	}
	root := fromTable(t, x)
	if got := text(root); got != "f=2 l m>l" {
		t.Errorf("%q", got)
	}
	if l, m := root.Descend("l"), root.Descend("m"); l.Entry.Hardlink != "" || m.Entry.Hardlink != "l" {
		t.Errorf("%+v, %+v", l.Entry, m.Entry)
	}
}

func TestDamagedTables(t *testing.T) {
	t.Parallel()
	for _, layer := range []string{"l>f", "f f/g", "d/ l>d", "f l>l"} {
		list := entries(layer)
		table := &toc.Table{Entries: list, Places: make([]toc.Place, len(list))}
		if _, err := FromTable(table); err != toc.ErrDamaged { //nolint:errorlint // itself
			t.Errorf("%s: %v", layer, err)
		}
	}
}
