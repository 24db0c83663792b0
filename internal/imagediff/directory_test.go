package imagediff_test

import (
	"encoding/hex"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/micabuild/mica/internal/imagediff"
	. "github.com/micabuild/mica/internal/inspect/inspecttest"
)

// TestDirectory: a directory of the host is the same as a layer with its files, links and times, and different where it is changed.
func TestDirectory(t *testing.T) {
	t.Parallel()
	s, dir := NewStore(t), t.TempDir()
	s.Image(nil, [][]Entry{{Dir("a"), File("a.b", "linked"), Link("a/c", "a.b"), Link("z", "a.b"), Symlink("l", "a"), mode(File("m", ""), 0o600), File("x", "x")}}, "image:1")
	at := func(name string) string { return dir + "/" + name }
	write := func(name, content string, mode os.FileMode) error {
		return errors.Join(os.WriteFile(at(name), []byte(content), 0o600), os.Chmod(at(name), mode), os.Chtimes(at(name), Time, Time))
	}
	if err := errors.Join(os.Mkdir(at("a"), 0o755), write("a.b", "linked", 0o644), os.Link(at("a.b"), at("a/c")), os.Link(at("a.b"), at("z")), os.Symlink("a", at("l")),
		write("m", "", 0o600), write("x", "x", 0o644), os.Chtimes(at("a"), Time, Time)); err != nil {
		t.Fatal(err)
	}
	o := imagediff.Options{IgnoreOwners: true, Ignore: []string{"l"}} // of a symlink, Go cannot set the time
	compare := func(o imagediff.Options, want ...string) {
		t.Helper()
		r, err := imagediff.Compare(t.Context(), s.Open("image:1"), s.Open("dir:"+dir), o)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, lines(r)); diff != "" || r.Config != nil || len(r.Notes) != 1 {
			t.Errorf("%v\n%s", r.Notes, diff)
		}
	}
	compare(o)
	compare(imagediff.Options{IgnoreOwners: true, IgnoreTimes: true})
	if err := errors.Join(os.Remove(at("z")), write("z", "linked", 0o644), os.Chmod(at("m"), 0o640), write("x", "y", 0o644), write("new", "", 0o644), os.Chtimes(at("a"), Time, Time.Add(time.Second))); err != nil {
		t.Fatal(err)
	}
	compare(o, "+ /new", "~ /a time", "~ /m mode", "~ /x content", "~ /z hardlink")
}

// TestRaw: names that are not UTF-8 can be read from the JSON.
func TestRaw(t *testing.T) {
	t.Parallel()
	r := compared(t, imagediff.Options{}, [2]func(*Image){none, none}, [][]Entry{{File("ä", "1"), File("\xff", "1"), Symlink("l", "\xfe")}},
		[][]Entry{{File("ä", "2"), File("\xff", "2"), Symlink("l", "\xff"), Link("\xff\xff", "\xff")}})
	got := map[string][]string{}
	for _, c := range r.Files.Changes {
		for _, f := range []*imagediff.File{c.Old, c.New} {
			if f != nil {
				got[c.Path] = append(got[c.Path], c.RawPath, f.RawTarget, f.RawFirst)
			}
		}
	}
	path := hex.EncodeToString([]byte("/\xff"))
	want := map[string][]string{"/ä": {"", "", "", "", "", ""}, "/\xff": {path, "", "", path, "", ""}, "/l": {"", "fe", "", "", "ff", ""}, "/\xff\xff": {hex.EncodeToString([]byte("/\xff\xff")), "", path}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
