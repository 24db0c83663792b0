package view

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// listed is the Listing of src in a directory with the given files; a name that ends in "/" is a directory, a content that begins with
// "->" a symbolic link.
func listed(t *testing.T, files map[string]string, src string, opt CopyOptions) *Listing {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case len(content) > 2 && content[:2] == "->":
			err = os.Symlink(content[2:], path)
		default:
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	from, err := Dir(dir, DirOptions{Anonymous: true})
	if err != nil {
		t.Fatal(err)
	}
	l, err := List(context.Background(), from, src, opt)
	if err != nil {
		t.Fatal(err)
	}
	sum, selected, err := Select(context.Background(), from, src, opt)
	if err != nil || sum != l.Digest().String() || selected == nil || selected.Digest() != l.Digest() {
		t.Fatalf("Select gives %s, %v, %v; List has %s", sum, selected, err, l.Digest())
	}
	again, err := UnmarshalListing(l.Marshal())
	if err != nil || !slices.Equal(again.Marshal(), l.Marshal()) {
		t.Fatalf("the listing is not what was marshaled: %v", err)
	}
	return again
}

// TestDifferences: the files that two selections differ in, by their paths in the source.
func TestDifferences(t *testing.T) {
	t.Parallel()
	contents := CopyOptions{DirCopyContents: true}
	pattern := CopyOptions{DirCopyContents: true, AllowWildcard: true}
	for name, tt := range map[string]struct {
		old, now map[string]string
		src      string
		opt      CopyOptions
		want     []string
	}{
		"a file": {
			map[string]string{"a": "1"}, map[string]string{"a": "22"}, "/a", contents, []string{"a: 1 bytes, 2 bytes"},
		},
		"one of three": {
			map[string]string{"d/a": "1", "d/b": "1", "d/c": "1"}, map[string]string{"d/a": "1", "d/b": "22", "d/c": "1"}, "/d/", contents,
			[]string{"d/b: 1 bytes, 2 bytes"},
		},
		"added and removed": {
			map[string]string{"d/a": "1", "d/s/b": "1"}, map[string]string{"d/c": "333", "d/s/b": "1"}, "d", contents,
			[]string{"d/a: 1 bytes, none", "d/c: none, 3 bytes"},
		},
		"a name with a line break": {
			map[string]string{"d/a\nb": "1", "d/x": "1"}, map[string]string{"d/a\nb": "22", "d/x": "1"}, "d", contents,
			[]string{"d/a\nb: 1 bytes, 2 bytes"},
		},
		"a link": {
			map[string]string{"l": "->a", "a": "1"}, map[string]string{"l": "->b", "a": "1"}, "/", contents, []string{"l: 0 bytes, 0 bytes"},
		},
		"a pattern": {
			map[string]string{"d/a.go": "1", "d/b.go": "1", "d/c": "1"}, map[string]string{"d/a.go": "22", "d/b.go": "1", "d/c": "22"}, "/d/*.go", pattern,
			[]string{"d/a.go: 1 bytes, 2 bytes"},
		},
		"all": {map[string]string{"a": "1"}, map[string]string{"b": "1"}, "/", contents, []string{"a: 1 bytes, none", "b: none, 1 bytes"}},
		"nothing": {
			map[string]string{"a": "1", "b": "2"}, map[string]string{"a": "1", "b": "2"}, "/", contents, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list, err := Differences(listed(t, tt.old, tt.src, tt.opt), listed(t, tt.now, tt.src, tt.opt), tt.src)
			if err != nil {
				t.Fatal(err)
			}
			size := func(e *Entry) string {
				if e == nil {
					return "none"
				}
				return fmt.Sprintf("%d bytes", e.Size)
			}
			var got []string
			for _, c := range list {
				got = append(got, c.Path()+": "+size(c.Old)+", "+size(c.New))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestListingKeepsMetadata: an entry that is parsed is the one that was written.
func TestListingKeepsMetadata(t *testing.T) {
	t.Parallel()
	want := &Entry{
		Path: "selection", Type: TypeChar, Mode: 0o4711, UID: 12, GID: 34, Linkname: "to", Hardlink: "selection/other", Major: 1, Minor: 3,
		Digest: "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		Xattrs: map[string]string{"user.a": "1;\n", "user.b": ""},
	}
	line := appendEntry(nil, want, want.Digest)
	p := entryParser{rest: line}
	got := p.entry()
	if p.bad || len(p.rest) != 0 || string(appendEntry(nil, got, got.Digest)) != string(line) || got.Xattrs["user.a"] != "1;\n" || got.Mode != 0o4711 {
		t.Errorf("got %+v (bad: %t, %d bytes left)", got, p.bad, len(p.rest))
	}
}

// FuzzListing: a damaged listing gives an error, or differences, and no panic.
func FuzzListing(f *testing.F) {
	l := &Listing{}
	for _, name := range []string{"selection/a", "selection/b"} {
		l.add(appendEntry(nil, &Entry{Path: name, Type: TypeRegular, Mode: 0o644}, ""), 1)
	}
	f.Add(l.Marshal())
	f.Add([]byte{1, 1, 1, '9'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := UnmarshalListing(data)
		if err != nil {
			return
		}
		if _, err := Differences(got, l, "d"); err != nil {
			return
		}
		if again, err := UnmarshalListing(got.Marshal()); err != nil || again.Digest() != got.Digest() {
			t.Errorf("the listing is not what was marshaled: %v", err)
		}
	})
}
