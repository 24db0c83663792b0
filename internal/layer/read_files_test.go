package layer

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/micabuild/mica/internal/view"
)

// TestReadFiles: the content of many files of a layer, in whichever form it is, and whatever the visitor reads of each.
func TestReadFiles(t *testing.T) {
	t.Parallel()
	data := map[string][]byte{}
	want := map[string]string{}
	var paths []string
	var changes []view.Change
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		data[name] = bytes.Repeat([]byte(name), 700)
		want[name], paths = strings.Repeat(name, 700), append(paths, name)
		changes = append(changes, view.Change{Entry: &view.Entry{Path: name, Type: view.TypeRegular, Mode: 0o644, Size: 700}, Source: content(data), SourcePath: name})
	}
	changes = append(changes, view.Change{Entry: &view.Entry{Path: "g", Type: view.TypeRegular, Mode: 0o644, Size: 700, Hardlink: "a"}})
	want["g"], paths = want["a"], append([]string{"g"}, paths...)
	l := newLayers(t)
	written := write(t, l, changes, AsBlob)
	read := func() map[string]string {
		got := map[string]string{}
		err := l.ReadFiles(t.Context(), written.DiffID, paths, func(p string, r io.Reader) error {
			if p == "c" {
				r = io.LimitReader(r, 10)
			}
			text, err := io.ReadAll(r)
			got[p] = string(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	want["c"] = want["c"][:10]
	if diff := cmp.Diff(want, read()); diff != "" {
		t.Errorf("plain: %s", diff)
	}
	packed := zipped(t, func(w io.Writer) error { _, err := w.Write(readTar(t, l, written.DiffID)); return err })
	l = newLayers(t)
	if _, _, err := l.Ingest(t.Context(), bytes.NewReader(packed), "", written.DiffID); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, read()); diff != "" {
		t.Errorf("compressed: %s", diff)
	}
	if l.unpacked(written.DiffID) {
		t.Error("the layer was unpacked")
	}
	if err := l.ReadFiles(t.Context(), written.DiffID, []string{"missing"}, nil); err == nil {
		t.Error("a missing file is read")
	}
}
