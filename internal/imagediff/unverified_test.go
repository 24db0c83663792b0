package imagediff_test

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/micabuild/mica/internal/catalog"
	"github.com/micabuild/mica/internal/imagediff"
	"github.com/micabuild/mica/internal/inspect"
	. "github.com/micabuild/mica/internal/inspect/inspecttest"
	"github.com/micabuild/mica/internal/layer/seekable/seekabletest"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/registry/registrytest"
)

// sizable is a layer that is worth to be read in parts. Its times have fractions of seconds.
func sizable(t *testing.T, files ...Entry) []byte {
	t.Helper()
	data := make([]byte, 400_000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	files = append(files, File("big", string(data)))
	for i := range files {
		files[i].ModTime = Time.Add(700 * time.Millisecond)
	}
	return Tar(t, files...)
}

// TestUnverified: tables of contents in a registry show what differs. That nothing differs is said of the layers alone.
func TestUnverified(t *testing.T) {
	t.Parallel()
	one, two := sizable(t, File("f", "1"), File("secret", "old")), sizable(t, File("f", "2"), File("secret", "old"))
	for name, test := range map[string]struct {
		blob func() *seekabletest.Blob
		want []string
		note bool
	}{
		"estargz":                   {func() *seekabletest.Blob { return seekabletest.Estargz(t, two) }, []string{"~ /f content"}, true},
		"estargz, the same files":   {func() *seekabletest.Blob { return seekabletest.Estargz(t, one) }, nil, false},
		"zstd:chunked":              {func() *seekabletest.Blob { return seekabletest.Zstd(t, two, nil) }, []string{"~ /f content"}, true},
		"a table of other contents": {func() *seekabletest.Blob { return forged(t, two, one) }, []string{"~ /f content"}, false},
		"a table without a file": {func() *seekabletest.Blob {
			return forged(t, sizable(t, File("backdoor", "x"), File("f", "1"), File("secret", "old")), one)
		}, []string{"+ /backdoor"}, false},
	} {
		for _, only := range [][]string{{"files"}, {"layers", "files"}} {
			s, reg := NewStore(t), registrytest.New(t)
			s.ImageOf("app:1", one)
			Publish(t, reg, "app", "2", test.blob())
			client := Registry(t)
			o := &inspect.Opener{Local: s.Local, Registry: func() *registry.Client { return client }}
			b, err := o.Open(t.Context(), reg.Name("app:2"))
			if err != nil {
				t.Fatal(err)
			}
			r, err := imagediff.Compare(t.Context(), s.Open("app:1"), b, imagediff.Options{Only: only, Text: []string{"f"}})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if diff := cmp.Diff(test.want, lines(r)); diff != "" || r.Same != (len(test.want) == 0 && r.Layers == nil) {
				t.Errorf("%s, %s: same %t\n%s", name, only, r.Same, diff)
			}
			if noted := strings.Contains(strings.Join(r.Notes, "\n"), "1 of 1 layers"); noted != test.note {
				t.Errorf("%s, %s: %q", name, only, r.Notes)
			}
			for _, c := range r.Files.Changes {
				if c.Change == imagediff.Changed && !strings.Contains(c.Text, "-1\n") {
					t.Errorf("%s, %s: %q", name, only, c.Text)
				}
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestUnverifiedPackages: packages are only compared of layers that are read anyway, unless the user asks for them.
func TestUnverifiedPackages(t *testing.T) {
	t.Parallel()
	s, reg := NewStore(t), registrytest.New(t)
	s.ImageOf("app:1", sizable(t, File("f", "1")))
	Publish(t, reg, "app", "2", seekabletest.Estargz(t, sizable(t, File("f", "2"))))
	client := Registry(t)
	o := &inspect.Opener{Local: s.Local, Registry: func() *registry.Client { return client }}
	b, err := o.Open(t.Context(), reg.Name("app:2"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	packages := &catalog.Cataloguer{Store: s.Store, Program: filepath.Join(t.TempDir(), "missing")}
	r, err := imagediff.Compare(t.Context(), b, s.Open("app:1"), imagediff.Options{Packages: packages})
	if err != nil || !strings.Contains(strings.Join(r.Notes, "\n"), "only the tables of contents were downloaded") || b.Unverified() != 1 {
		t.Errorf("%q, %d unverified, %v", r.Notes, b.Unverified(), err)
	}
	_, err = imagediff.Compare(t.Context(), b, s.Open("app:1"), imagediff.Options{Packages: packages, Only: []string{"packages"}})
	if !errors.As(err, new(*catalog.NotInstalledError)) || !b.Layers[0].Stored() {
		t.Errorf("%v, stored %t", err, b.Layers[0].Stored())
	}
}

// forged is a blob of a layer that has the table of another.
func forged(t *testing.T, layer, other []byte) *seekabletest.Blob {
	t.Helper()
	var table *seekabletest.Table
	seekabletest.Zstd(t, other, func(of *seekabletest.Table) { table = of })
	return seekabletest.Zstd(t, layer, func(of *seekabletest.Table) { *of = *table })
}
