package imagediff_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/google/go-cmp/cmp"

	"github.com/micabuild/mica/internal/imagediff"
	"github.com/micabuild/mica/internal/inspect"
	. "github.com/micabuild/mica/internal/inspect/inspecttest"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/registry/registrytest"
)

// TestRemote: of two images in a registry, only the layers that differ are fetched, and those below if they are needed; for texts, too.
func TestRemote(t *testing.T) {
	t.Parallel()
	base := []Entry{Dir("d"), File("d/old", "x"), Symlink("l", "d")}
	for _, test := range []struct {
		name    string
		a, b    [][]Entry
		fetched int
		want    []string
	}{
		{"the same", nil, nil, 0, nil},
		{"the same names", [][]Entry{{File("d/f", "1"), File("g", "1")}}, [][]Entry{{File("d/f", "2"), File("g", "1")}}, 2, []string{"~ /d/f content"}},
		{"hard links", [][]Entry{{File("d/f", "1"), Link("e", "d/f")}}, [][]Entry{{File("d/f", "2"), Link("e", "d/f")}}, 2, []string{"~ /d/f content", "~ /e content"}},
		{"behind what was a symlink", [][]Entry{{Dir("l"), File("l/f", "1")}}, [][]Entry{{Dir("l"), File("l/f", "2")}}, 2, []string{"~ /l/f content"}},
		{"the same names in two layers", [][]Entry{{File("d/f", "1")}, {File("g", "1")}}, [][]Entry{{File("g", "2"), File("d/f", "1")}}, 3, []string{"~ /g content"}},
		{"a name of the base", [][]Entry{{File("f", "1"), File("d/old", "x")}}, [][]Entry{{File("f", "2")}}, 3, []string{"~ /f content"}},
		{"a removal", [][]Entry{{Removal("d/old"), File("f", "1")}}, [][]Entry{{File("f", "1")}}, 3, []string{"+ /d/old"}},
		{"an opaque directory", [][]Entry{{Dir("d"), Opaque("d"), File("d/f", "1")}}, [][]Entry{{Dir("d"), File("d/f", "1")}}, 3, []string{"+ /d/old"}},
		{"another kind", [][]Entry{{File("d", "1")}}, [][]Entry{{Dir("d")}}, 3, []string{"+ /d/old", "~ /d type mode"}},
		{"another kind in between", [][]Entry{{File("d", "1")}, {Dir("d")}}, [][]Entry{{Dir("d")}}, 3, []string{"+ /d/old"}},
		{"one continues the other", nil, [][]Entry{{File("d/old", "x"), File("f", "")}}, 2, []string{"+ /f"}},
	} {
		s, reg := NewStore(t), registrytest.New(t)
		for tag, layers := range map[string][][]Entry{"a": test.a, "b": test.b} {
			tars := [][]byte{Tar(t, base...)}
			for _, l := range layers {
				tars = append(tars, Tar(t, l...))
			}
			reg.PutImage("app", tag, "amd64", nil, tars...)
		}
		client := registry.New(registry.Options{Docker: configfile.New(filepath.Join(t.TempDir(), "config.json")), RegistriesConf: os.DevNull})
		o := &inspect.Opener{Local: s.Local, Registry: func() *registry.Client { return client }}
		var images [2]*inspect.Image
		for i, tag := range []string{"a", "b"} {
			img, err := o.Open(t.Context(), reg.Name("app:"+tag))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = img.Close() }()
			images[i] = img
		}
		configs := len(reg.SeenBy("GET", registrytest.Blob))
		if _, err := imagediff.Compare(t.Context(), images[0], images[1], imagediff.Options{Only: []string{"config", "history", "layers"}}); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if fetched := len(reg.SeenBy("GET", registrytest.Blob)) - configs; fetched != 0 {
			t.Errorf("%s: %d layers fetched for no file", test.name, fetched)
		}
		r, err := imagediff.Compare(t.Context(), images[0], images[1], imagediff.Options{Only: []string{"layers", "files"}, Text: []string{"**"}, Causes: true})
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		for _, c := range r.Files.Changes {
			if text := "-1\n\\ No newline at end of file\n+2\n"; slices.Contains(c.Aspects, imagediff.Content) && !strings.Contains(c.Text, text) {
				t.Errorf("%s: %s%s", test.name, c.Text, c.NoText)
			}
		}
		if diff := cmp.Diff(test.want, lines(r)); diff != "" {
			t.Errorf("%s:\n%s", test.name, diff)
		}
		if fetched := len(reg.SeenBy("GET", registrytest.Blob)) - configs; fetched != test.fetched {
			t.Errorf("%s: %d layers fetched, want %d", test.name, fetched, test.fetched)
		}
	}
}
