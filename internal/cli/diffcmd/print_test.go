package diffcmd

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/micabuild/mica/internal/imagediff"
)

// TestPrintOddNames: names of images cannot add lines to the report.
func TestPrintOddNames(t *testing.T) {
	t.Parallel()
	value := json.RawMessage(`"1"`)
	r := &imagediff.Report{
		A: imagediff.Subject{Name: "a", ID: "sha256:0123456789abcdef", Platform: "linux/\nx"}, B: imagediff.Subject{Name: "b"},
		Notes: []string{"one\nnote"},
		Config: &imagediff.ConfigReport{Changes: []imagediff.ConfigChange{
			{Field: "Labels", Key: "a\nb", Change: imagediff.Added, New: value}, {Field: "x\u2028", Change: imagediff.Removed, Old: value},
			{Field: "Labels", Key: "plain", Change: imagediff.Changed, Old: value, New: value},
		}},
		Packages: &imagediff.PackagesReport{Changes: []imagediff.PackageChange{{Type: "deb", Name: "a\nb", Change: imagediff.Changed, Old: []string{"1\n"}, New: []string{"2", "3"}}}},
		Files: &imagediff.FilesReport{Changes: []imagediff.FileChange{
			{Path: "/a\nb", Change: imagediff.Added, New: &imagediff.File{Type: "symlink", Target: "\n"}},
			{Path: "/c", Change: imagediff.Changed, Aspects: []imagediff.Aspect{imagediff.Xattrs, imagediff.Hardlink},
				Old: &imagediff.File{First: "/x y"}, New: &imagediff.File{Xattrs: map[string]string{"user.\n": "00"}}},
		}},
	}
	want := `--- a (, 0123456789ab, linux/ x)
+++ b ()
config:   1 added, 1 removed, 1 changed
packages: 1 changed
files:    same
note:     one note

Config
  + Labels "a\nb": "1"
  - "x\u2028": "1"
  ~ Labels plain: "1" → "1"

Packages
  ~ deb a b  1 → 2, 3

Files
  + "/a\nb" → "\n"
  ~ /c  xattrs +"user.\n", hard link to "/x y" → none
`
	var out strings.Builder
	printReport(&out, r)
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

// TestPrintHistory: a line says in what two lines of the same step differ.
func TestPrintHistory(t *testing.T) {
	t.Parallel()
	when := time.Unix(0, 5)
	line := func(createdBy, comment, author string, empty bool, created *time.Time) *imagediff.HistoryLine {
		return &imagediff.HistoryLine{CreatedBy: createdBy, Comment: comment, Author: author, Empty: empty, Created: created}
	}
	r := &imagediff.Report{History: &imagediff.HistoryReport{Changes: []imagediff.HistoryChange{
		{Change: imagediff.Added, New: line("", "only a\ncomment", "", false, nil)},
		{Change: imagediff.Changed, Fields: []string{"comment", "author", "emptyLayer", "created"}, Old: line("RUN a", "1", "", false, &when), New: line("RUN a", "2", "me", true, nil)},
		{Change: imagediff.Changed, Fields: []string{"createdBy", "emptyLayer"}, Old: line("", "a", "", true, nil), New: line("a", "a", "", false, nil)},
	}}}
	want := `
History
  + only a comment
  ~ RUN a  (comment "1" → "2", author "" → "me", made a layer → makes none, created 1970-01-01T00:00:00.000000005Z → never)
  ~ a  (command "" → "a", made no layer → makes one)
`
	var out strings.Builder
	printReport(&out, r)
	if _, got, _ := strings.Cut(out.String(), "changed\n"); got != want {
		t.Error(cmp.Diff(want, got))
	}
}

// TestPrintRecompressed: the summary says how many layers are compressed in another way.
func TestPrintRecompressed(t *testing.T) {
	t.Parallel()
	r := &imagediff.Report{Same: true, Layers: &imagediff.LayersReport{
		Shared: imagediff.LayerSum{Count: 2, Size: 5}, Layers: []imagediff.LayerChange{{OtherBlob: "sha256:1"}, {}},
	}}
	var out strings.Builder
	printReport(&out, r)
	if want := "layers:   2 (5B) shared, 1 of them compressed in another way, 0 removed, 0 added\n"; !strings.Contains(out.String(), want) {
		t.Error(out.String())
	}
}
