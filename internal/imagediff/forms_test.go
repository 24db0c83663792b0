package imagediff_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/imagediff"
	"github.com/micabuild/mica/internal/inspect"
	. "github.com/micabuild/mica/internal/inspect/inspecttest"
	"github.com/micabuild/mica/internal/oci"
)

// TestForms: the same files in other layers are other layers, and no difference of files; --semantic says which kind of difference it is.
func TestForms(t *testing.T) {
	t.Parallel()
	a, b, c := File("a", "1"), Dir("b"), File("b/c", "2")
	for _, test := range []struct {
		name    string
		a, b    [][]Entry
		options imagediff.Options
		layers  string // removed, added
		causes  []imagediff.Cause
	}{
		{"the same", [][]Entry{{a}, {b, c}}, [][]Entry{{a}, {b, c}}, imagediff.Options{}, "", nil},
		{"squashed", [][]Entry{{a}, {b, c}}, [][]Entry{{a, b, c}}, imagediff.Options{}, "removed removed added", []imagediff.Cause{imagediff.Layering}},
		{"moved", [][]Entry{{a, b}, {c}}, [][]Entry{{a}, {b, c}}, imagediff.Options{}, "removed removed added added", []imagediff.Cause{imagediff.Layering}},
		{"layers in another order", [][]Entry{{a}, {b, c}}, [][]Entry{{b, c}, {a}}, imagediff.Options{}, "removed added", []imagediff.Cause{imagediff.Layering}},
		{"an empty layer more", [][]Entry{{a}}, [][]Entry{{a}, {}}, imagediff.Options{}, "added", []imagediff.Cause{imagediff.Layering}},
		{"a whiteout of nothing", [][]Entry{{a}}, [][]Entry{{a, Removal("none")}}, imagediff.Options{}, "removed added", []imagediff.Cause{imagediff.Layering}},
		{"entries in another order", [][]Entry{{a, b, c}}, [][]Entry{{b, c, a}}, imagediff.Options{}, "removed added", []imagediff.Cause{imagediff.Order}},
		{"an entry twice", [][]Entry{{a, a, b}}, [][]Entry{{a, b}}, imagediff.Options{}, "removed added", []imagediff.Cause{imagediff.Encoding}},
		{"entries twice, in another order", [][]Entry{{a, b, a}}, [][]Entry{{b, a, b, b}}, imagediff.Options{}, "removed added", []imagediff.Cause{imagediff.Order}},
		{"content, and only layers", [][]Entry{{a}}, [][]Entry{{File("a", "2")}}, imagediff.Options{Only: []string{"layers"}}, "removed added", []imagediff.Cause{imagediff.Unexplained}},
		{"order, and only layers", [][]Entry{{a, b}}, [][]Entry{{b, a}}, imagediff.Options{Only: []string{"layers"}}, "removed added", []imagediff.Cause{imagediff.Order}},
	} {
		test.options.Causes = true
		if test.options.Only == nil {
			test.options.Only = []string{"layers", "files"}
		}
		r := compared(t, test.options, [2]func(*Image){none, none}, test.a, test.b)
		var layers []string
		for _, l := range r.Layers.Layers {
			if l.Change != "" {
				layers = append(layers, string(l.Change))
			}
		}
		if got := strings.Join(layers, " "); got != test.layers || r.Same != (got == "") || r.Files != nil && len(r.Files.Changes) > 0 {
			t.Errorf("%s: same is %t, layers: %s, files: %v", test.name, r.Same, got, r.Files)
		}
		if diff := cmp.Diff(test.causes, causesOf(r)); diff != "" {
			t.Errorf("%s:\n%s", test.name, diff)
		}
	}
}

func causesOf(r *imagediff.Report) (list []imagediff.Cause) {
	for _, c := range r.Causes.Causes {
		list = append(list, c.Cause)
	}
	return list
}

// TestRecompressed: another compression and Docker's media types are no difference, and --semantic shows them.
func TestRecompressed(t *testing.T) {
	t.Parallel()
	s := NewStore(t)
	s.Image(nil, [][]Entry{{File("f", "x")}}, "a:1")
	a, b := s.Open("a:1"), s.Open("a:1")
	b.Layers[0].Blob.Digest, b.Target.MediaType = digest.FromString("compressed"), oci.DockerManifest
	r, err := imagediff.Compare(t.Context(), a, b, imagediff.Options{Causes: true})
	if err != nil {
		t.Fatal(err)
	}
	l := r.Layers.Layers[0]
	if !r.Same || l.OtherBlob == "" || l.Blob == l.OtherBlob {
		t.Errorf("same is %t, %+v", r.Same, l)
	}
	if diff := cmp.Diff([]imagediff.Cause{imagediff.Compression, imagediff.MediaTypes}, causesOf(r)); diff != "" {
		t.Error(diff)
	}
}

// configOf is an image of a config, without layers.
func configOf(config string, change func(*inspect.Image)) *inspect.Image {
	i := &inspect.Image{Name: "x", Kind: inspect.Layout, RawConfig: []byte(config)}
	if change != nil {
		change(i)
	}
	return i
}

func TestRawConfig(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, a, b string
		options    imagediff.Options
		want       []string
	}{
		{"healthcheck", `{"config":{"Healthcheck":{"Test":["NONE"]}}}`, `{"config":{"Healthcheck":{"Test":["NONE"],"Interval":1}}}`, imagediff.Options{},
			[]string{`changed Healthcheck  {"Test":["NONE"]} {"Test":["NONE"],"Interval":1}`}},
		{"order of a list", `{"config":{"OnBuild":["RUN a","RUN b"],"Shell":["a","b"]}}`, `{"config":{"OnBuild":["RUN b","RUN a"],"Shell":["b","a"]}}`, imagediff.Options{},
			[]string{`changed OnBuild  ["RUN a","RUN b"] ["RUN b","RUN a"]`, `changed Shell  ["a","b"] ["b","a"]`}},
		{"order of a set", `{"config":{"Volumes":{"/a":{},"/b":{}},"Labels":{"a":"1","b":"2"}}}`, `{"config":{"Labels":{"b":"2","a":"1"},"Volumes":{"/b":{},"/a":{}}}}`, imagediff.Options{}, nil},
		{"flags", `{"config":{"ArgsEscaped":true,"OpenStdin":false}}`, `{"config":{"Tty":true}}`, imagediff.Options{}, []string{`removed ArgsEscaped  true`, `added Tty   true`}},
		{"a label without a value", `{"config":{"Labels":{"a":""}}}`, `{"config":{"Labels":{}}}`, imagediff.Options{}, []string{`removed Labels a ""`}},
		{"a variable without a value", `{"config":{"Env":["A"]}}`, `{"config":{"Env":["A="]}}`, imagediff.Options{}, []string{`changed Env  ["A"] ["A="]`}},
		{"unknown fields", `{"x":{"y":[1]},"config":{"z":1}}`, `{"x":{"y":[1.5]},"config":{"z":"1"}}`, imagediff.Options{}, []string{`changed x y [1] [1.5]`, `changed z  1 "1"`}},
		{"a field of the image that is called as one of the process", `{"Env":"x","config":{"Env":["A=1"]}}`, `{"Env":"y","config":{"Env":["A=2"]}}`, imagediff.Options{},
			[]string{`changed Env  "x" "y"`, `changed config.Env  ["A=1"] ["A=2"]`}},
		{"Windows", `{"os.version":"10.0.1","os.features":["win32k"]}`, `{"os.version":"10.0.2"}`, imagediff.Options{}, []string{`removed os.features  ["win32k"]`, `changed os.version  "10.0.1" "10.0.2"`}},
		{"no config of the process", `{"config":null}`, `{}`, imagediff.Options{}, nil},
		{"times", `{"created":"2020-01-01T00:00:00Z","config":{"Labels":{"org.opencontainers.image.created":"a","x":"1"}}}`, `{"config":{"Labels":{"org.opencontainers.image.created":"b","x":"1"}}}`,
			imagediff.Options{IgnoreTimes: true}, nil},
	} {
		test.options.Only = []string{"config"}
		r, err := imagediff.Compare(t.Context(), configOf(test.a, nil), configOf(test.b, nil), test.options)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if diff := cmp.Diff(test.want, configLines(r)); diff != "" || r.Same != (test.want == nil) {
			t.Errorf("%s: same is %t\n%s", test.name, r.Same, diff)
		}
	}
	for _, bad := range []string{``, `[]`, `{"config":1}`} {
		if _, err := imagediff.Compare(t.Context(), configOf(bad, nil), configOf(`{}`, nil), imagediff.Options{Only: []string{"config"}}); err == nil {
			t.Errorf("config %q is compared", bad)
		}
	}
}

// TestAnnotations: annotations of manifests are compared, but for those that an archive may have lost.
func TestAnnotations(t *testing.T) {
	t.Parallel()
	with := func(kind inspect.Kind, annotations ...string) *inspect.Image {
		return configOf(`{}`, func(i *inspect.Image) {
			i.Kind = kind
			for _, a := range annotations {
				key, value, _ := strings.Cut(a, "=")
				if i.Manifest.Annotations == nil {
					i.Manifest.Annotations = map[string]string{}
				}
				i.Manifest.Annotations[key] = value
			}
		})
	}
	for _, test := range []struct {
		name  string
		a, b  *inspect.Image
		want  []string
		notes int
	}{
		{"layouts", with(inspect.Layout, "a=1", "b=1"), with(inspect.Layout, "a=2", "c=1"), []string{`changed Annotations a "1" "2"`, `removed Annotations b "1"`, `added Annotations c  "1"`}, 0},
		{"archives of layouts", with(inspect.Archive, "a=1"), with(inspect.Archive, "a=2"), []string{`changed Annotations a "1" "2"`}, 0},
		{"an archive without", with(inspect.Archive), with(inspect.Stored, "a=2"), nil, 1},
		{"an archive without, second", with(inspect.Published, "a=2"), with(inspect.Archive), nil, 1},
		{"neither", with(inspect.Stored), with(inspect.Archive), nil, 0},
	} {
		r, err := imagediff.Compare(t.Context(), test.a, test.b, imagediff.Options{Only: []string{"config"}})
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if diff := cmp.Diff(test.want, configLines(r)); diff != "" || len(r.Notes) != test.notes {
			t.Errorf("%s: %q\n%s", test.name, r.Notes, diff)
		}
	}
}

// TestIndexes: of two indexes, one image of each is compared, and the report says so.
func TestIndexes(t *testing.T) {
	t.Parallel()
	named := func(name string, root, target digest.Digest) *inspect.Image {
		return configOf(`{}`, func(i *inspect.Image) {
			i.Name, i.Root.Digest, i.Target.Digest = name, root, target
			i.Config.Platform = ocispec.Platform{OS: "linux", Architecture: "arm64"}
		})
	}
	note := func(name string) string {
		return name + " is an index: its image for linux/arm64 was compared, and nothing else in it"
	}
	for _, test := range []struct {
		name string
		a, b *inspect.Image
		want []string
	}{
		{"manifests", named("a", "1", "1"), named("b", "2", "2"), nil},
		{"the same index", named("a", "1", "2"), named("b", "1", "2"), nil},
		{"an index and a manifest", named("a", "1", "2"), named("b", "2", "2"), []string{note("a")}},
		{"indexes", named("a", "1", "3"), named("b", "2", "3"), []string{note("a"), note("b")}},
	} {
		r, err := imagediff.Compare(t.Context(), test.a, test.b, imagediff.Options{Only: []string{"config"}})
		if err != nil || !slices.Equal(r.Notes, test.want) {
			t.Errorf("%s: %q, %v", test.name, r.Notes, err)
		}
	}
}
