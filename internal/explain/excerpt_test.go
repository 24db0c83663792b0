package explain

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// throughCache returns the excerpt of a build as another machine reads it.
func throughCache(t *testing.T, builds *history.Builds, b *history.Build) *Excerpt {
	t.Helper()
	data, err := NewExcerpt(builds, b).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, _ := NewExcerpt(builds, b).Marshal()
	if !bytes.Equal(data, again) {
		t.Error("the same build gives two excerpts")
	}
	x, err := ReadExcerpt(data, "cache")
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// seen are the names of what causes are about.
func seen(list []history.Cause) []string {
	names := map[string]bool{}
	for _, c := range list {
		names[string(c.Kind)+" "+c.Name+" "+c.Change] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// coarser are the cases in which digests of values do not show that one value is made of another.
var coarser = map[string][]string{
	"an argument in another variable":   {"argument V ", "environment E "},
	"an argument in the text of a COPY": {"command  "},
	"what is made of a secret argument": {"environment URL ", "option user "},
	"a secret argument that was given":  {"argument API_TOKEN content"},
	"nothing that is known":             {"unknown its key differs from that in build cache "},
}

// checkExcerpt explains a step by the excerpt of the earlier build: what that names is what the build itself would.
func checkExcerpt(t *testing.T, l *lab, old, b *history.Build, s *history.Step, name string) {
	t.Helper()
	want := seen(New(l.builds, b).Differences(s))
	if list, ok := coarser[name]; ok {
		want = list
	}
	causes := Remote(l.builds, b, throughCache(t, l.builds, old)).Differences(s)
	if got := seen(causes); !slices.Equal(got, want) {
		t.Errorf("by the excerpt: %q, want %q", got, want)
	}
	for _, c := range causes {
		if strings.Contains(c.Old+c.New, sealed) {
			t.Errorf("a digest of a value is shown: %+v", c)
		}
	}
}

// TestExcerptHasNoValues: names are in an excerpt, values of arguments and variables are not, nor is the Dockerfile.
func TestExcerptHasNoValues(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	base := source("debian:12@x", "a")
	base.Source.Env = []string{"BASE=s3cret"}
	run := l.step("[1/1] RUN x", []history.Ingredient{exec(`"meta":{"args":["x"],"env":["V=s3cret","W=s3cret"]}`)}, base)
	b := l.build(&history.Build{Args: map[string]string{"V": "s3cret"}, Text: "ARG V=s3cret\nENV W=s3cret\nRUN echo s3cret\n", Context: "/home/s3cret"}, base, run)
	data, err := NewExcerpt(l.builds, b).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	r, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	doc, err := r.DecodeAll(data, nil)
	if err != nil || strings.Contains(string(doc), "s3cret") || !strings.Contains(string(doc), `"V"`) {
		t.Errorf("%s, %v", doc, err)
	}
}

// TestExcerptNamesFiles: the lists of files that a step read are in the excerpt, as long as there is room.
func TestExcerptNamesFiles(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	reads := func(content, other string) *history.Step {
		list, err := view.List(context.Background(), view.Files(map[string][]byte{"a": []byte(content), "b": []byte("same"), "c": []byte(other)}), "/", view.CopyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		sum := list.Digest()
		if err := l.builds.SaveFiles(sum, list.Marshal()); err != nil {
			t.Fatal(err)
		}
		return l.step("[1/1] COPY . /", []history.Ingredient{{Kind: "source", Name: "/", Value: sum.String(), Input: -1}})
	}
	old := l.build(&history.Build{}, reads("one", "one"))
	s := reads("two", "two")
	b := l.build(&history.Build{}, s)
	x := throughCache(t, l.builds, old)
	if got := seen(Remote(l.builds, b, x).Differences(s)); !slices.Equal(got, []string{"file a content", "file c content"}) {
		t.Errorf("%q", got)
	}
	clear(x.Lists)
	if got := seen(Remote(l.builds, b, x).Differences(s)); len(got) != 1 || !strings.HasPrefix(got[0], "unknown files of / changed") {
		t.Errorf("without the list: %q", got)
	}
	if n := x.addList(l.builds, history.Ingredient{Kind: "source", Value: old.Steps[0].Key.String()}, 1); n != 0 || len(x.Lists) != 0 {
		t.Errorf("%d bytes of a list that there is no room for", n)
	}
}

// TestHostileExcerpt: what is no excerpt is refused.
func TestHostileExcerpt(t *testing.T) {
	t.Parallel()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	for name, data := range map[string][]byte{
		"nothing": nil, "no compression": []byte("{}"), "no JSON": w.EncodeAll([]byte("{"), nil),
		"a step that is missing":       w.EncodeAll([]byte(`{"build":{"steps":[null]}}`), nil),
		"an input that comes later":    w.EncodeAll([]byte(`{"build":{"steps":[{"vertex":"a","inputs":["b"]},{"vertex":"b"}]}}`), nil),
		"zeros without an end":         w.EncodeAll(make([]byte, maxExcerptJSON+1), nil),
		"a key that is a path":         w.EncodeAll([]byte(`{"build":{"steps":[{"vertex":"a","key":"../../x"}]}}`), nil),
		"ingredients of another shape": w.EncodeAll([]byte(`{"ingredients":{"a":3}}`), nil),
	} {
		if _, err := ReadExcerpt(data, "cache"); err == nil || !strings.Contains(err.Error(), "record of the build in cache cache") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzExcerpt: no excerpt that anybody may have written makes an explanation panic, or puts control characters into it.
func FuzzExcerpt(f *testing.F) {
	s, err := store.Open(filepath.Join(f.TempDir(), "store"))
	if err != nil {
		f.Fatal(err)
	}
	builds := history.Open(s)
	base := source("debian:12@x", "a")
	copied := &history.Step{Vertex: "sha256:c", Name: "[2/3] COPY --link a /", Key: digest.FromString("copy"), Output: "sha256:co", Inputs: []digest.Digest{base.Vertex}}
	ran := &history.Step{Vertex: "sha256:r", Name: "[3/3] RUN x", Line: 3, Key: digest.FromString("run"), Output: "sha256:ro", Inputs: []digest.Digest{copied.Vertex}}
	for _, step := range []*history.Step{copied, ran} {
		err := builds.SaveIngredients(step.Key, func() []history.Ingredient {
			return []history.Ingredient{exec(`"meta":{"args":["x"],"env":["A=1"],"cwd":"/"},"mounts":[{"dest":"/m"}]`), {Kind: "layers", Name: "/", Value: "sha256:l"}, {Kind: "mount", Name: "/m", Value: step.Key.String()}}
		})
		if err != nil {
			f.Fatal(err)
		}
	}
	now := &history.Build{Ref: "now", Text: "FROM debian\nCOPY --link a /\nRUN x\n", Args: map[string]string{"A": "1"}, Steps: []*history.Step{base, copied, ran}}
	x := NewExcerpt(builds, now)
	x.Build.Steps[1].Key, x.Build.Steps[2].Key = digest.FromString("other copy"), digest.FromString("other run")
	for key, list := range x.Ingredients {
		x.Ingredients[digest.FromString(key.String())] = list
	}
	x.Ingredients[x.Build.Steps[1].Key], x.Ingredients[x.Build.Steps[2].Key] = x.Ingredients[ran.Key][:1], x.Ingredients[ran.Key]
	doc, err := json.Marshal(x)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(doc)
	f.Add([]byte(strings.ReplaceAll(string(doc), "COPY", "\x1b[31m")))
	f.Add([]byte(strings.ReplaceAll(string(doc), `"input":-1`, `"input":7`)))
	f.Fuzz(func(t *testing.T, doc []byte) {
		x, err := parseExcerpt(doc, "cache")
		if err != nil {
			return
		}
		for _, step := range []*history.Step{copied, ran} {
			text := history.Summary(Remote(builds, now, x).Differences(step), now.StepName)
			if strings.ContainsFunc(text, unicode.IsControl) {
				t.Errorf("%q", text)
			}
		}
	})
}
