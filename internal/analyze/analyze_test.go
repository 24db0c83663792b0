package analyze

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/view"
)

// made is an image of layers that are lists of files: "path" or "path=content", "path/" for a directory, "-path" for a removal,
// "path/!" for an opaque directory, "path>target" for a hard link, "path:mode" before the content for another mode.
func made(t *testing.T, layers ...string) *Image {
	t.Helper()
	img := &Image{Name: "test"}
	for i, text := range layers {
		table, contents := tableOf(t, strings.Fields(text))
		img.Layers = append(img.Layers, Layer{
			DiffID: digest.FromString(fmt.Sprint(i)), Size: -1,
			List: func(context.Context) (toc.List, error) { return table, nil },
			Read: func(_ context.Context, paths []string, visit func(string, io.Reader) error) error {
				for _, p := range paths {
					if err := visit(p, strings.NewReader(contents[p])); err != nil {
						return err
					}
				}
				return nil
			},
		})
		img.Config.History = append(img.Config.History, ocispec.History{CreatedBy: fmt.Sprintf("RUN /bin/sh -c step %d # buildkit", i+1)})
	}
	return img
}

func tableOf(t *testing.T, files []string) (*toc.Table, map[string]string) {
	t.Helper()
	contents := map[string]string{}
	b := index.NewBuilder("", len(files))
	for _, f := range files {
		name, content, _ := strings.Cut(f, "=")
		e := &view.Entry{Path: name, Type: view.TypeRegular, Mode: 0o644, ModTime: time.Unix(1, 0)}
		content = strings.NewReplacer(`\n`, "\n", `\_`, " ").Replace(content)
		if count, rest, ok := strings.Cut(content, "*"); ok { // 1000*x
			n := 0
			if _, err := fmt.Sscan(count, &n); err == nil {
				content = strings.Repeat(rest, n)
			}
		}
		var err error
		switch {
		case strings.HasPrefix(name, "-"):
			e.Path, e.Type = name[1:], view.TypeWhiteout
			err = b.Replace(e)
		case strings.HasSuffix(name, "/!"):
			err = b.Opaque(strings.TrimSuffix(name, "/!"))
		case strings.HasSuffix(name, "/"):
			e.Path, e.Type, e.Mode = strings.TrimSuffix(name, "/"), view.TypeDir, 0o755
			err = b.Add(e, toc.Place{})
		case strings.Contains(name, ">"):
			e.Path, e.Hardlink, _ = strings.Cut(name, ">")
			err = b.Add(e, toc.Place{})
		default:
			if path, mode, ok := strings.Cut(name, ":"); ok {
				e.Path = path
				if _, err := fmt.Sscanf(mode, "%o", &e.Mode); err != nil {
					t.Fatalf("%s: %v", f, err)
				}
			}
			e.Size, e.Digest = int64(len(content)), digest.FromString(content)
			contents[e.Path] = content
			err = b.Add(e, toc.Place{})
		}
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
	}
	b.Root()
	encoder := b.Table()
	file, _ := encoder.Finish(digest.FromString("x"), 0, false)
	table, err := toc.Decode(bytes.Clone(file), digest.FromString("x"))
	if err != nil {
		t.Fatal(err)
	}
	return table, contents
}

func analyzed(t *testing.T, img *Image) *Report {
	t.Helper()
	r, err := Analyze(t.Context(), img, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestWaste compares what is wasted with what dive finds. The scores are those that dive v0.13.2 prints for such images.
func TestWaste(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		layers       []string
		want         []string
		efficiency   float64
		inefficient  int64
		wastedOfUser float64
	}{
		"nothing":     {[]string{"a=aa d/ d/b=bb", "d/c=c"}, nil, 1, 0, 0},
		"overwritten": {[]string{"a=aaaa b=bbbb", "a=aa"}, []string{"a 4 overwritten 1>2"}, 0.6, 6, 3},
		"chmod":       {[]string{"a=aaaa", "a:755=aaaa"}, []string{"a 4 rewritten 1>2"}, 0.5, 8, 2},
		"removed":     {[]string{"a=aaaa b=bbbb", "-a"}, []string{"a 4 removed 1>2"}, 0.5, 4, 0},
		"removed directory is one": {
			[]string{"d/ d/a=aaaa d/e/ d/e/b=bb c=cccc", "-d"}, []string{"d 6 removed 1>2"}, 1, 0, 0,
		},
		"opaque":              {[]string{"d/ d/a=aaaa", "d/! d/b=bb"}, []string{"d 4 removed 1>2"}, 1, 0, 0},
		"file over directory": {[]string{"d/ d/a=aaaa", "d=x"}, []string{"d 4 removed 1>2"}, 1, 0, 0},
		"removed and again":   {[]string{"a=aaaa", "-a", "a=aa"}, []string{"a 4 removed 1>2"}, 0, 6, 3},
		"twice":               {[]string{"a=aaaa", "a=aaa", "a=aa"}, []string{"a 4 overwritten 1>2", "a 3 overwritten 2>3"}, 2.0 / 9, 9, 9.0 / 5},
		"other name is left":  {[]string{"a=aaaa b>a", "-a"}, nil, 0, 4, 0},
		"both names removed":  {[]string{"a=aaaa b>a", "-a -b"}, []string{"a 4 removed 1>2"}, 0, 4, 0},
		"empty":               {[]string{""}, nil, 1, 0, 0},
		"no layers":           {nil, nil, 1, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := analyzed(t, made(t, test.layers...))
			var got []string
			var sum int64
			for _, w := range r.Waste {
				got = append(got, fmt.Sprintf("%s %d %s %d>%d", w.Path, w.Bytes, w.How, w.Step, w.By))
				sum += w.Bytes
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("waste: %s", diff)
			}
			if r.Wasted.Bytes != sum {
				t.Errorf("%d bytes are wasted, the list has %d", r.Wasted.Bytes, sum)
			}
			want := Dive{test.efficiency, test.inefficient, test.wastedOfUser}
			if diff := cmp.Diff(want, r.Dive); diff != "" {
				t.Errorf("dive: %s", diff)
			}
		})
	}
}

func TestSteps(t *testing.T) {
	t.Parallel()
	img := made(t, "a=aaaa b=bb", "a=a c=cc", "-b d/ d/e=e")
	img.Config.History = slices.Insert(img.Config.History, 1, ocispec.History{CreatedBy: "ENV TOKEN=abcdef", EmptyLayer: true})
	r := analyzed(t, img)
	var got []string
	for _, s := range r.Steps {
		got = append(got, fmt.Sprintf("%d %q layer %d: %d bytes, +%d ~%d -%d, wasted %d", s.Number, s.Instruction, s.Layer, s.Size, s.Added, s.Modified, s.Removed, s.Wasted))
	}
	want := []string{
		`1 "RUN step 1" layer 1: 6 bytes, +2 ~0 -0, wasted 6`,
		`2 "ENV TOKEN=*****" layer 0: 0 bytes, +0 ~0 -0, wasted 0`,
		`3 "RUN step 2" layer 2: 3 bytes, +1 ~1 -0, wasted 0`,
		`4 "RUN step 3" layer 3: 1 bytes, +1 ~0 -1, wasted 0`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if r.Files != 3 || r.Size != 10 {
		t.Errorf("%d files of %d bytes", r.Files, r.Size)
	}
}

func TestStepsWithoutHistory(t *testing.T) {
	t.Parallel()
	img := made(t, "a=a", "-a")
	img.Config.History = img.Config.History[:1]
	r := analyzed(t, img)
	if len(r.Steps) != 2 || r.Steps[1].Instruction != unknownStep || r.Waste[0].By != 2 {
		t.Errorf("steps: %+v, waste: %+v", r.Steps, r.Waste)
	}
}

func TestLargestAndCopies(t *testing.T) {
	t.Parallel()
	img := made(t, "x/a=ccc b=ccc l>b old=dddddd", "d=ccc e=eee -old f=ffff g= h=")
	r := analyzed(t, img)
	var got []string
	for _, f := range r.Largest {
		got = append(got, fmt.Sprintf("%s %d %d", f.Path, f.Bytes, f.Step))
	}
	if diff := cmp.Diff([]string{"f 4 2", "b 3 1", "d 3 2", "e 3 2", "x/a 3 1"}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Copies{{digest.FromString("ccc"), 3, []string{"b", "d", "x/a"}}}, r.Copies); diff != "" {
		t.Error(diff)
	}
	if r.Duplicates != (Total{6, 2}) {
		t.Errorf("duplicates: %+v", r.Duplicates)
	}
	top, err := Analyze(t.Context(), img, Options{Top: 1})
	if err != nil || len(top.Largest) != 1 || len(top.Waste) != 1 {
		t.Errorf("the first of each: %+v %v", top, err)
	}
}

// TestFindings: one finding for what is mended in one place, and none that saves little.
func TestFindings(t *testing.T) {
	t.Parallel()
	img := made(t,
		"d/a=200000*a d/b=200000*b e=200000*e var/lib/apt/lists/x=300000*x root/.cache/pip/y=300000*y srv/var/lib/apt/lists/z=300000*z small=s",
		"-d e:600=200000*e -small",
		"f=200000*e",
	)
	var got []string
	for _, f := range analyzed(t, img).Findings {
		got = append(got, fmt.Sprintf("%s %s %d: %s", f.Kind, f.Path, f.Step, f.Text))
		if f.Advice == "" {
			t.Errorf("no advice: %+v", f)
		}
	}
	want := []string{
		"waste d 2: step 2 removes 3 files (400kB) of step 1, which stay in the layer",
		"waste e 2: step 2 writes 1 file (200kB) of step 1 again with the same content",
		"cache root/.cache/pip 1: cache of pip: 1 file (300kB)",
		"cache var/lib/apt/lists 1: lists of apt: 1 file (300kB)",
		"duplicate e 0: 2 files have the same content, 200kB each",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestEmptyReport: scripts read lists, also empty ones.
func TestEmptyReport(t *testing.T) {
	t.Parallel()
	for _, img := range []*Image{made(t), made(t, "a=a")} {
		text, err := json.Marshal(analyzed(t, img))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("null")) {
			t.Errorf("a list is null: %s", text)
		}
	}
}
