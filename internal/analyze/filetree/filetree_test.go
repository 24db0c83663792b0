package filetree

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

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

// records is a table in its encoded form.
func records(tb testing.TB, table *toc.Table) *toc.Records {
	tb.Helper()
	enc := toc.Encoder{Undigested: table.Undigested}
	numbers := map[string]int{}
	for i, e := range table.Entries {
		numbers[e.Path] = i
		enc.Add(e, table.Places[i], numbers[e.Hardlink])
	}
	id := digest.FromString("layer")
	file, _ := enc.Finish(id, 0, false)
	r, err := toc.DecodeRecords(file, id)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// shown is what a tree has after a layer, and what the layer changed.
func shown(t *Tree, layer int) string {
	var list []string
	t.Walk(func(n *Node) bool {
		c, ok := t.Changed(n, layer, layer)
		if !ok || n == t.Root {
			return true
		}
		name := n.Path()
		if e := t.EntryAt(n, layer); e != nil && e.IsDir() {
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
			decoded, encoded := New(), New()
			for _, l := range test.layers {
				decoded.Add(table(l...))
				encoded.Add(records(t, table(l...)))
			}
			for _, tree := range []*Tree{decoded, encoded} {
				var got []string
				for i := range test.layers {
					got = append(got, shown(tree, i))
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Error(diff)
				}
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
	if got := tree.Find("a").At(2).Removed(); got != 1 {
		t.Errorf("the removal of a has %d bytes, want that of a/b", got)
	}
	if got := tree.Find("a/c").At(1).Removed(); got != 1 {
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

// TestReplace checks that a tree gets digests from tables of the same files, and from no others.
func TestReplace(t *testing.T) {
	t.Parallel()
	tables := func(undigested bool, files ...string) []toc.List {
		made := table(files...)
		made.Undigested = undigested
		for _, e := range made.Entries {
			e.Digest = digest.FromString(e.Path)
		}
		return []toc.List{records(t, made)}
	}
	tree := New()
	tree.Add(tables(true, "a", "b>a", "c/")[0])
	a := tree.Find("a")
	if _, ok := tree.Sum(a.At(0)); ok || !tree.Undigested || tree.EntryAt(a, 0).Digest != "" {
		t.Error("a digest is known before it is computed")
	}
	digested, ok := tree.Replace(tables(false, "a", "b>a", "c/"))
	if !ok || digested.Undigested || digested.Find("a") != a {
		t.Fatalf("replaced: %v, %+v", ok, digested)
	}
	for _, name := range []string{"a", "b"} {
		sum, ok := digested.Sum(digested.Find(name).At(0))
		if want := digest.FromString("a"); !ok || digest.NewDigestFromBytes(digest.SHA256, sum[:]) != want || digested.EntryAt(digested.Find(name), 0).Digest != want {
			t.Errorf("%s has the sum %x, %v", name, sum, ok)
		}
	}
	if _, ok := digested.Sum(digested.Find("c").At(0)); ok {
		t.Error("a directory has a sum")
	}
	for name, others := range map[string][]toc.List{
		"nothing": nil, "another name": tables(false, "a", "x>a", "c/"), "another type": tables(false, "a", "b>a", "c"), "fewer": tables(false, "a", "b>a"),
	} {
		if _, ok := tree.Replace(others); ok {
			t.Errorf("%s: replaced", name)
		}
	}
}

// TestVersions checks what versions know without their entries.
func TestVersions(t *testing.T) {
	t.Parallel()
	tree := New()
	tree.Add(records(t, table("d/f", "l>d/f")))
	tree.Add(records(t, table("-d")))
	for path, want := range map[string]struct {
		layer              int
		size, bytes, freed int64
		dir, present       bool
	}{
		"d": {0, 0, 0, 0, true, true}, "d/f": {0, 1, 1, 0, false, true}, "l": {0, 1, 0, 0, false, true}, ".": {1, 0, 0, 0, true, true},
	} {
		v := tree.Find(path).At(want.layer)
		if v.Size() != want.size || v.Bytes() != want.bytes || v.Removed() != want.freed || v.IsDir() != want.dir || v.Present() != want.present {
			t.Errorf("%s: %+v", path, v)
		}
	}
	if v := tree.Find("d").At(1); v.Present() || v.Removed() != 1 || v.Size() != 0 {
		t.Errorf("the removal of d: %+v", v)
	}
	if n := tree.Find("d/f"); n.PresentAt(1) != nil || tree.EntryAt(n, 1) != nil || tree.Entry(n, n.At(1)) != nil {
		t.Errorf("d/f is there after its removal")
	}
	if e := tree.EntryAt(tree.Find("d"), 0); e == nil || e.Path != "d" || !e.IsDir() || e.Mode != 0o755 {
		t.Errorf("the implied directory is %+v", e)
	}
	if e := tree.EntryAt(tree.Find("l"), 1); e == nil || e.Hardlink != "d/f" {
		t.Errorf("the hard link is %+v", e)
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
	t := records(b, table(files...))
	b.ReportAllocs()
	for b.Loop() {
		tree := New()
		tree.Add(t)
		if tree.Count != len(files)+1 {
			b.Fatal(tree.Count)
		}
	}
}
