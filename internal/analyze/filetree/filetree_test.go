package filetree

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/view"
)

// table is a layer: "dir/" "file" "-removed" "dir/!" (opaque), "dir/~" for one that the tar has no entry for, "file>link".
func table(files ...string) *toc.Table {
	t := &toc.Table{}
	for _, f := range files {
		e := &view.Entry{Path: f, Type: view.TypeRegular, Size: 1}
		p := toc.Place{}
		switch {
		case f[0] == '-':
			e.Path, e.Type, e.Size = f[1:], view.TypeWhiteout, 0
		case strings.Contains(f, "/!"):
			e.Path, e.Type, e.Opaque, e.Size = strings.TrimSuffix(f, "/!"), view.TypeDir, true, 0
		case strings.Contains(f, "/~"):
			e.Path, e.Type, e.Opaque, e.Size, p.Implied = strings.TrimSuffix(f, "/~"), view.TypeDir, true, 0, true
		case strings.HasSuffix(f, "/"):
			e.Path, e.Type, e.Size = strings.TrimSuffix(f, "/"), view.TypeDir, 0
		case strings.Contains(f, ">"):
			e.Path, e.Hardlink, _ = strings.Cut(f, ">")
		}
		t.Entries, t.Places = append(t.Entries, e), append(t.Places, p)
	}
	return t
}

// shown is what a tree has after a layer, and what the layer changed.
func shown(t *Tree, layer int) string {
	var list []string
	t.Walk(func(n *Node) bool {
		c, ok := n.Changed(layer, layer)
		if !ok || n == t.Root {
			return true
		}
		name := n.Path()
		if e := n.EntryAt(layer); e != nil && e.IsDir() {
			name += "/"
		}
		list = append(list, strings.TrimSpace(name+" "+[]string{"", "+", "~", "-"}[c]))
		return true
	})
	return strings.Join(list, ", ")
}

func TestTree(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		layers [][]string
		want   []string
	}{
		"added":               {[][]string{{"a/", "a/b"}, {"a/", "a/c"}}, []string{"a/ +, a/b +", "a/, a/b, a/c +"}},
		"unsorted":            {[][]string{{"b", "a", "c/z", "c/y"}}, []string{"a +, b +, c/ +, c/y +, c/z +"}},
		"removed":             {[][]string{{"a/", "a/b", "c"}, {"-a"}, {"a/"}}, []string{"a/ +, a/b +, c +", "a -, a/b -, c", "a/ +, c"}},
		"whiteout of nothing": {[][]string{{"a"}, {"-b"}, {"-b/c"}}, []string{"a +", "a", "a"}},
		"opaque":              {[][]string{{"a/", "a/b", "a/c"}, {"a/!", "a/c", "a/d"}}, []string{"a/ +, a/b +, a/c +", "a/, a/b -, a/c, a/d +"}},
		"implied":             {[][]string{{"a/", "a/b"}, {"a/~"}}, []string{"a/ +, a/b +", "a/, a/b -"}},
		"file over directory": {[][]string{{"a/", "a/b"}, {"a"}}, []string{"a/ +, a/b +", "a ~, a/b -"}},
		"directory over file": {[][]string{{"a"}, {"a/b"}}, []string{"a +", "a/ ~, a/b +"}},
		"order of the tar":    {[][]string{{"a/", "a/b"}, {"a/c", "a/!"}}, []string{"a/ +, a/b +", "a/, a/b -, a/c +"}},
		"beneath no entry":    {[][]string{{"a/b/c"}}, []string{"a/ +, a/b/ +, a/b/c +"}},
		"one layer twice":     {[][]string{{"a"}, {"-a"}, {"a"}, {"-a"}}, []string{"a +", "a -", "a +", "a -"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree := New()
			for _, l := range test.layers {
				tree.Add(table(l...))
			}
			var got []string
			for i := range test.layers {
				got = append(got, shown(tree, i))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhiteoutKnowsItsSize(t *testing.T) {
	t.Parallel()
	tree := New()
	tree.Add(table("a/", "a/b", "a/c/", "a/c/d", "a/e>a/b"))
	tree.Add(table("-a/c"))
	tree.Add(table("-a"))
	if got := tree.Find("a").At(2).Removed; got != 1 {
		t.Errorf("the removal of a has %d bytes, want that of a/b", got)
	}
	if got := tree.Find("a/c").At(1).Removed; got != 1 {
		t.Errorf("the removal of a/c has %d bytes", got)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	tree := New()
	tree.Add(table("a", "b>a", "c>a", "d"))
	for path, want := range map[string]string{"a": "b c", "b": "c a", "d": ""} {
		n := tree.Find(path)
		var got []string
		for _, other := range tree.Names(n, n.At(0)) {
			got = append(got, other.Path())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("other names of %s: %v, want %s", path, got, want)
		}
	}
}

func TestSame(t *testing.T) {
	t.Parallel()
	was := view.Entry{Type: view.TypeRegular, Mode: 0o644, Size: 3, Digest: "sha256:1"}
	for name, change := range map[string]func(e *view.Entry){
		"mode": func(e *view.Entry) { e.Mode = 0o600 }, "owner": func(e *view.Entry) { e.UID = 1 }, "group": func(e *view.Entry) { e.GID = 1 },
		"size": func(e *view.Entry) { e.Size = 4 }, "content": func(e *view.Entry) { e.Digest = "sha256:2" }, "type": func(e *view.Entry) { e.Type = view.TypeFifo },
		"attributes": func(e *view.Entry) { e.Xattrs = map[string]string{"user.a": "b"} },
	} {
		now := was
		change(&now)
		if Same(&was, &now) {
			t.Errorf("another %s is the same", name)
		}
	}
	now := was
	now.ModTime = now.ModTime.Add(1)
	if !Same(&was, &now) {
		t.Error("another time is a change")
	}
	now.Digest = ""
	if Same(&was, &now) {
		t.Error("a file without digest and with another time is the same")
	}
}

// BenchmarkAdd makes the tree of an image of 300,000 files.
func BenchmarkAdd(b *testing.B) {
	var files []string
	for d := range 3000 {
		files = append(files, fmt.Sprintf("d%04d/", d))
		for f := range 100 {
			files = append(files, fmt.Sprintf("d%04d/f%02d", d, f))
		}
	}
	t := table(files...)
	b.ReportAllocs()
	for b.Loop() {
		tree := New()
		tree.Add(t)
		if tree.Count != len(files)+1 {
			b.Fatal(tree.Count)
		}
	}
}
