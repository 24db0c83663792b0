package explore

import (
	"testing"

	"github.com/micabuild/mica/internal/analyze/filetree"
	"github.com/micabuild/mica/internal/inspect/inspecttest"
)

// forestOf has the files of images.
func forestOf(t *testing.T, images ...[][]inspecttest.Entry) (*forest, *screen) {
	t.Helper()
	s := open(t, 100, 20, images...)
	return s.model.files, s
}

// find is the number of a path, 0 if there is none.
func (f *forest) find(path string) int {
	for id := range f.nodes {
		if f.path(id) == path {
			return id
		}
	}
	return 0
}

// TestSizesOfHardLinks checks that a directory has the content of a file once, whatever names of the file are left.
func TestSizesOfHardLinks(t *testing.T) {
	t.Parallel()
	f, _ := forestOf(t, [][]inspecttest.Entry{
		{inspecttest.File("a/first", "0123456789"), inspecttest.Link("b/second", "a/first"), inspecttest.Link("b/third", "a/first"), inspecttest.File("b/x", "x")},
		{inspecttest.Removal("a/first")},
		{inspecttest.Removal("b")},
	})
	for _, c := range []struct {
		layer             int
		root, a, b, third int64
	}{
		{0, 11, 10, 1, 10}, {1, 11, 0, 11, 10}, {2, 0, 0, 11, 10},
	} {
		f.layers(c.layer, c.layer)
		for path, want := range map[string]int64{"/": c.root, "/a": c.a, "/b": c.b, "/b/third": c.third} {
			if got := f.states[f.find(path)].size; got != want {
				t.Errorf("layer %d: %s has %d bytes, want %d", c.layer, path, got, want)
			}
		}
	}
}

// TestUnion checks that the files of two images are one tree, sorted, and what differs in it.
func TestUnion(t *testing.T) {
	t.Parallel()
	base := []inspecttest.Entry{inspecttest.File("b/same", "1"), inspecttest.File("m", "1"), inspecttest.File("z", "1")}
	f, _ := forestOf(t,
		[][]inspecttest.Entry{base, {inspecttest.File("b/old", "1"), inspecttest.File("c", "12"), inspecttest.File("m", "2")}},
		[][]inspecttest.Entry{base, {inspecttest.File("a", "1"), inspecttest.File("b/new", "1"), inspecttest.File("c", "34"), inspecttest.File("m", "2")}})
	want := []struct {
		path   string
		change filetree.Change
	}{
		{"/a", filetree.Added}, {"/b", filetree.Unmodified}, {"/b/new", filetree.Added}, {"/b/old", filetree.Removed}, {"/b/same", filetree.Unmodified},
		{"/c", filetree.Modified}, {"/m", filetree.Unmodified}, {"/z", filetree.Unmodified},
	}
	rows := f.rows(nil, func(int) bool { return true }, 0xff, false)
	if len(rows) != len(want) {
		t.Fatalf("%d rows, want %d", len(rows), len(want))
	}
	for i, r := range rows {
		if got := f.path(r.id); got != want[i].path || f.states[r.id].change != want[i].change {
			t.Errorf("row %d is %s, %s; want %s, %s", i, got, f.states[r.id].change, want[i].path, want[i].change)
		}
	}
	if f.shared != 1 {
		t.Errorf("the images share %d layers, want 1", f.shared)
	}
	if a, b := f.entries(f.find("/m")); a == b || a.Digest != b.Digest || a.Digest == "" {
		t.Errorf("the versions of m: %+v, %+v", a, b)
	}
}
