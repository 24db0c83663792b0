package index

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/quota"
	"github.com/micabuild/mica/internal/view"
)

// entries reads a layer from words: "d/" a directory, "f" a file, "f=5" and "d=5/" those of user 5, "l>f" a hard link, "s@t" a symlink, "-f" a removal.
func entries(layer string) []*view.Entry {
	var list []*view.Entry
	for word := range strings.FieldsSeq(layer) {
		e := &view.Entry{Path: word, Type: view.TypeRegular, Mode: 0o644}
		switch {
		case word[0] == '-':
			e = &view.Entry{Path: word[1:], Type: view.TypeWhiteout}
		case strings.HasSuffix(word, "/"):
			e.Path, e.Type, e.Mode = strings.TrimSuffix(word, "/"), view.TypeDir, 0o700
		case strings.Contains(word, ">"):
			e.Path, e.Hardlink, _ = strings.Cut(word, ">")
		case strings.Contains(word, "@"):
			e.Path, e.Linkname, _ = strings.Cut(word, "@")
			e.Type, e.Mode = view.TypeSymlink, 0o777
		}
		if name, owner, ok := strings.Cut(e.Path, "="); ok {
			e.Path, e.UID = name, int(owner[0]-'0')
		}
		list = append(list, e)
	}
	return list
}

// build returns the Builder of a layer. A word "!d" makes a directory opaque.
func build(layer string) (*Builder, error) {
	x := NewBuilder(digest.FromString(layer), 0)
	for i, word := range strings.Fields(layer) {
		var err error
		if word[0] == '!' {
			err = x.Opaque(word[1:])
		} else {
			err = x.Add(entries(word)[0], toc.Place{Offset: int64(512 * i)})
		}
		if err != nil {
			return nil, err
		}
	}
	return x, nil
}

// text writes what is beneath a directory in the words of entries: implied directories in parentheses, opaque ones with "!".
func text(n *Node) string {
	var words []string
	var add func(n *Node)
	add = func(n *Node) {
		e, word := n.Entry, n.Entry.Path
		if e.UID != 0 {
			word += fmt.Sprint("=", e.UID)
		}
		switch {
		case e.Type == view.TypeWhiteout:
			word = "-" + word
		case e.Hardlink != "":
			word += ">" + e.Hardlink
		case e.Type == view.TypeSymlink:
			word += "@" + e.Linkname
		case e.Opaque:
			word = "!" + word + "/"
		case n.IsDir():
			word += "/"
		}
		if !n.Described {
			word = "(" + word + ")"
		}
		words = append(words, word)
		for _, kid := range n.Children {
			add(kid)
		}
	}
	for _, kid := range n.Children {
		add(kid)
	}
	return strings.Join(words, " ")
}

func TestAdd(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ layer, want string }{
		{"b a c", "a b c"},
		{"d/ d/f", "d/ d/f"},
		{"d/f", "(d/) d/f"},
		{"d/f d/", "d/ d/f"},                        // a directory over one that was implied keeps its files
		{"f=1 f=2", "f=2"},                          // the last entry of a name counts
		{"d/ d/f d", "d"},                           // a file over a directory
		{"f f/ f/g", "f/ f/g"},                      // a directory over a file
		{"-f", "-f"},                                // a removal
		{"f -f", "f"},                               // is about the layers below
		{"d/ d/f -d", "!d/ d/f"},                    // which a directory then hides
		{"-d d/ d/f", "!d/ d/f"},                    // in either order
		{"d/ -d/f !d", "!d/"},                       // nothing of the layers below is in it
		{"!d", "(!d/)"},                             // opaque, and not described
		{"d/ s@d s/f", "d/ d/f s@d"},                // through a symlink
		{"s@/d s/f", "(d/) d/f s@/d"},               // an absolute one is inside the layer
		{"s@../../d s/f", "(d/) d/f s@../../d"},     // so is one that leads out
		{"f l>f", "f l>f"},                          // hard links
		{"f l>f m>l", "f l>f m>f"},                  // to another name
		{"f l=3>f", "f=3 l=3>f"},                    // give the file their owner
		{"f l>f f=2", "f=2 l"},                      // keep the content when its name goes
		{"d/ d/f l>d/f d", "d l"},                   // with all of its directory
		{"s@x l>s", "l@x s>l"},                      // to a symlink itself; see the order below
		{"d/ e@d l>e/f", "layer entry"},             // to nothing
		{"l>d d/", "layer entry"},                   // to what comes later
		{"d/ l>d", "layer entry"},                   // to a directory
		{"f l>l", "layer entry"},                    // to itself
		{"f f/g", "layer entry"},                    // in a file
		{"s@s s/f", "layer entry"},                  // through a loop
		{". d/", "layer's root is not a directory"}, // the root
	} {
		x, err := build(tt.layer)
		if err != nil {
			if !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("%s: %v", tt.layer, err)
			}
			continue
		}
		if got := text(fromTable(t, x)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.layer, got, tt.want)
		}
	}
}

// fromTable returns the index of the table of contents of x.
func fromTable(t *testing.T, x *Builder) *Node {
	t.Helper()
	data, _ := x.Table().Finish(x.layer, 1<<20, false)
	table, err := toc.Decode(data, x.layer)
	if err != nil {
		t.Fatal(err)
	}
	root, err := FromTable(table)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestMerge(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ lower, upper, want string }{
		{"a b", "b=1 c", "a b=1 c"},
		{"d/ d/f", "d/g", "d/ d/f d/g"},           // an implied directory is as it is below
		{"d/ d/f", "d=1/ d/g", "d=1/ d/f d/g"},    // a described one is not
		{"d/ d/f", "-d/f", "d/"},                  // a removal
		{"d/ d/f", "-d", ""},                      // of all that is in a directory
		{"d/ d/f", "d", "d"},                      // a file over a directory
		{"f", "f/ f/g", "f/ f/g"},                 // a directory over a file
		{"d/ d/f", "d=1/ !d d/g", "d=1/ d/g"},     // an opaque directory
		{"d=2/ d/f", "!d d/g", "d=2/ d/g"},        // which the layer does not describe
		{"", "-f d/ -d/g", "d/"},                  // removals of what is not there
		{"d=3/ s@d", "s/f", "d=3/ s=3/ s/f"},      // a directory in place of a symlink is as where it leads
		{"d=3/ s@d", "s=4/ s/f", "d=3/ s=4/ s/f"}, // unless it is described
	} {
		lower, upper := mustBuild(t, tt.lower), mustBuild(t, tt.upper)
		before := text(lower) + text(upper)
		got := Merge(Merge(nil, lower, nil), upper, func(_ digest.Digest, name string) *view.Entry {
			e := lower.Descend("d").Entry.Clone()
			e.Path = name
			return e
		})
		if have := plainText(got); have != tt.want {
			t.Errorf("%q over %q: %q, want %q", tt.upper, tt.lower, have, tt.want)
		}
		if text(lower)+text(upper) != before {
			t.Errorf("%q over %q: a side is changed", tt.upper, tt.lower)
		}
	}
}

func mustBuild(t *testing.T, layer string) *Node {
	t.Helper()
	x, err := build(layer)
	if err != nil {
		t.Fatal(err)
	}
	return fromTable(t, x)
}

// plainText is text without a mark for implied directories.
func plainText(n *Node) string { return strings.NewReplacer("(", "", ")", "").Replace(text(n)) }

// TestManyFiles: directories of any size sort, and find their files.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 31, 32, 33, 1000} {
		x := NewBuilder("", 0)
		for i := range n {
			if err := x.Add(entries(fmt.Sprintf("d/%04d", i*7919%n))[0], toc.Place{}); err != nil {
				t.Fatal(err)
			}
		}
		root := x.Root()
		if !slices.IsSortedFunc(root.Children[0].Children, func(a, b *Node) int { return strings.Compare(a.name, b.name) }) {
			t.Errorf("%d files are not sorted", n)
		}
		for i := range n {
			if root.Descend(fmt.Sprintf("d/%04d", i)) == nil && n > 1 {
				t.Errorf("%d files: number %d is not found", n, i)
			}
		}
	}
}

func TestIsNew(t *testing.T) {
	t.Parallel()
	x, err := build("d/ d/f s@d")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"d/g": true, "x": true, "x/y": true, "d/f": false, "d": false, "s/g": false, "d/f/x": false} {
		if got := x.IsNew(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	p := NewPlan(mustBuild(t, "d/ d/b d/a s@d a>d/b"))
	var got []string
	for _, e := range p.Dirs {
		got = append(got, e.Path)
	}
	for _, n := range p.Files {
		got = append(got, n.Entry.Path)
	}
	for _, e := range p.Rest {
		got = append(got, e.Path)
	}
	if want := ". d a d/a s d/b"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
	var sorted []string
	for _, e := range p.Entries() {
		sorted = append(sorted, e.Path)
	}
	if want := "a d d/a d/b s"; strings.Join(sorted, " ") != want {
		t.Errorf("%v, want %s", sorted, want)
	}
}

func TestRevise(t *testing.T) {
	t.Parallel()
	x := NewBuilder("", 0)
	file := &view.Entry{Path: "f", Type: view.TypeRegular, Mode: 0o755, Xattrs: map[string]string{"user.a": "1", "security.capability": "x"}}
	link := &view.Entry{Path: "l", Hardlink: "f", Type: view.TypeRegular, Mode: 0o700, Xattrs: map[string]string{"user.b": "2"}}
	for _, e := range []*view.Entry{file, link} {
		if err := x.Add(e, toc.Place{}); err != nil {
			t.Fatal(err)
		}
	}
	got := x.Root().Descend("f").Entry
	if want := map[string]string{"user.a": "1", "user.b": "2"}; !x.Revised() || got.Mode != 0o700 || !maps.Equal(got.Xattrs, want) {
		t.Errorf("%+v, revised %v", got, x.Revised())
	}
}

// TestDeepNames: a name of 4 KiB can imply 2000 directories, whose names are half as long as it; together they are limited.
func TestDeepNames(t *testing.T) {
	t.Parallel()
	x := NewBuilder("", 0)
	for i := range 1000 {
		if _, _, err := x.dir(fmt.Sprint(i) + strings.Repeat("/d", 2000)); err != nil {
			if !errors.Is(err, quota.ErrExceeded) || i < 10 {
				t.Errorf("after %d names: %v", i, err)
			}
			return
		}
	}
	t.Error("not refused")
}
