package explore

import (
	"archive/tar"
	"context"
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gdamore/tcell/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/analyze"
	"github.com/micabuild/mica/internal/analyze/filetree"
	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/inspect/inspecttest"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/view"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// app is an image with something of everything: three layers that add, modify and remove.
func app() [][]inspecttest.Entry {
	return [][]inspecttest.Entry{
		{
			inspecttest.Dir("etc"), inspecttest.File("etc/conf", "old\nsame\n"), inspecttest.File("etc/passwd", "root"),
			inspecttest.Dir("usr"), inspecttest.Dir("usr/lib"), inspecttest.File("usr/lib/big", strings.Repeat("b", 3000)), inspecttest.File("usr/lib/small", "s"),
			inspecttest.Symlink("lib", "usr/lib"),
		},
		{inspecttest.Dir("etc"), inspecttest.File("etc/conf", "new\nsame\n"), inspecttest.File("etc/new\x1b[2J", "\x00\x01")},
		{inspecttest.Dir("usr"), inspecttest.Removal("usr/lib"), inspecttest.Dir("srv"), inspecttest.File("srv/Größe", "x")},
	}
}

// screen is a model with the surface that it is drawn on.
type screen struct {
	t     *testing.T
	model *Model
	w, h  int
}

// open shows images of layers.
func open(t *testing.T, w, h int, images ...[][]inspecttest.Entry) *screen {
	t.Helper()
	store := inspecttest.NewStore(t)
	var shown []*Image
	for i, layers := range images {
		name := "app:" + string(rune('1'+i))
		store.Image(nil, layers, name)
		shown = append(shown, shownImage(store, name))
	}
	s := &screen{t: t, w: w, h: h}
	var queue []func(context.Context) any
	s.model = New(func(work func(context.Context) any) { queue = append(queue, work) }, shown...)
	s.model.later = func(work func(context.Context) any) { s.model.Update(work(t.Context())) }
	for _, work := range queue {
		s.model.Update(work(t.Context()))
	}
	return s
}

func shownImage(store *inspecttest.Store, name string) *Image {
	img := store.Open(name)
	out := &Image{Name: name, ID: img.ID.String()}
	analyzed := &analyze.Image{Name: name, ID: img.ID, Config: img.Config}
	for i, l := range img.Layers {
		if err := l.AddDigests(context.Background()); err != nil {
			panic(err)
		}
		out.Layers = append(out.Layers, Layer{DiffID: l.DiffID.String(), Command: "RUN step " + string(rune('1'+i)), Size: int64(1000 * (i + 1))})
		analyzed.Layers = append(analyzed.Layers, analyze.Layer{DiffID: l.DiffID, Size: -1, List: func(ctx context.Context) (toc.List, error) { return l.List(ctx) }})
	}
	out.Load = func(ctx context.Context) (*filetree.Tree, error) { return analyze.Load(ctx, analyzed) }
	out.Analyze = func(ctx context.Context, tree *filetree.Tree) (*analyze.Report, error) {
		return analyze.FromTree(ctx, analyzed, tree, analyze.Options{})
	}
	out.Open = func(ctx context.Context, layer int, path string) (io.ReadCloser, error) {
		for ; layer >= 0; layer-- {
			v, err := img.Layers[layer].View(ctx)
			if err != nil {
				return nil, err
			}
			if in, err := v.Open(ctx, path); err == nil {
				return in, nil
			}
		}
		return nil, os.ErrNotExist
	}
	return out
}

// press presses keys, which spaces separate.
func (s *screen) press(keys string) *screen {
	for k := range strings.FieldsSeq(keys) {
		s.model.Press(Key(strings.ReplaceAll(k, "SPACE", " ")))
	}
	return s
}

// text is what the screen shows, line by line.
func (s *screen) text() string {
	var cells tcell.CellBuffer
	cells.Resize(s.w, s.h)
	s.model.Draw(&cells)
	var b strings.Builder
	for y := range s.h {
		line := ""
		for x := 0; x < s.w; {
			text, _, width := cells.Get(x, y)
			line += text
			x += max(width, 1)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// has checks that the screen shows texts, and does not show those that begin with "!".
func (s *screen) has(texts ...string) *screen {
	s.t.Helper()
	got := s.text()
	for _, want := range texts {
		if text, not := strings.CutPrefix(want, "!"); strings.Contains(got, text) == not {
			s.t.Errorf("want %q in\n%s", want, got)
		}
	}
	return s
}

func TestScreens(t *testing.T) {
	t.Parallel()
	other := app()
	other[1][1] = inspecttest.File("etc/conf", "newer\nsame\n")
	other[2] = append(other[2], inspecttest.File("srv/added", "a"))
	for name, c := range map[string]struct {
		w, h   int
		images [][][]inspecttest.Entry
		keys   string
	}{
		"wide":     {120, 20, [][][]inspecttest.Entry{app()}, ""},
		"middle":   {120, 20, [][][]inspecttest.Entry{app()}, "down ctrl-a tab ctrl-space"},
		"narrow":   {60, 16, [][][]inspecttest.Entry{app()}, "end tab ctrl-space"},
		"compare":  {120, 12, [][][]inspecttest.Entry{app(), other}, "ctrl-space"},
		"narrower": {60, 12, [][][]inspecttest.Entry{app(), other}, "ctrl-space"},
		"waste":    {100, 20, [][][]inspecttest.Entry{app()}, "w"},
		"help":     {80, 40, [][][]inspecttest.Entry{app()}, "?"},
		"tiny":     {15, 4, [][][]inspecttest.Entry{app()}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := open(t, c.w, c.h, c.images...).press(c.keys).text()
			golden := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		keys string
		has  []string
	}{
		"fold":                        {"tab down down SPACE", []string{"usr", "▾ usr", "▸ lib"}},
		"unfold":                      {"tab down down SPACE SPACE", []string{"▸ usr", "!▸ lib "}},
		"left goes up":                {"tab down down right down left left", []string{"▸ usr"}},
		"hide what is unmodified":     {"down tab =", []string{"without unmodified", "~ drwxr-xr-x       0:0      15B ▸ etc", "!▸ usr"}},
		"hide what is added":          {"down tab ctrl-space a", []string{"without added", "conf", "!x1b"}},
		"hide what is removed":        {"end tab ctrl-space r", []string{"without removed", "!big"}},
		"removed":                     {"end tab ctrl-space", []string{"- -rw-r--r--       0:0      3kB       big", "srv"}},
		"sort by size":                {"tab down down right down right s", []string{"big"}},
		"without attributes":          {"tab p", []string{"!0:0   "}},
		"filter":                      {"tab ctrl-f b i g enter", []string{"big", "!small", "1 path matches", "/big/"}},
		"filter ends":                 {"tab ctrl-f b i g enter esc", []string{"▸ usr", "!big"}},
		"filter that is invalid":      {"tab ctrl-f (", []string{"Filter: (▏  invalid filter: missing closing )"}},
		"filter that stays invalid":   {"tab ctrl-f b ( enter", []string{"Filter: b(▏  invalid", "!/b(/", "small"}},
		"filter by Ctrl-/":            {"tab ctrl-_ b i g enter", []string{"/big/"}},
		"search":                      {"tab / S M A L enter", []string{"not found"}},
		"search without case":         {"tab / s m a l enter", []string{"▾ usr", "small", "/usr/lib/small"}},
		"search next":                 {"tab / b i g enter n", []string{"/usr/lib/big"}},
		"control characters":          {"down tab ctrl-space", []string{`new\x1b[2J`}},
		"show text":                   {"down tab ctrl-f c o n f enter down enter", []string{"new", "same", "/etc/conf"}},
		"show the version of a layer": {"tab ctrl-f c o n f enter down enter", []string{"old", "!new"}},
		"show bytes":                  {"down tab ctrl-f 2 J enter down enter", []string{"00000000  00 01"}},
		"show no symlink":             {"tab down enter", []string{"/lib is not a regular file"}},
		"waste goes to a path":        {"w down down enter", []string{"▾ usr", "/usr/lib\n"}},
		"no build":                    {"b", []string{"no build of this store made the image"}},
		"no Dockerfile":               {"f", []string{"its Dockerfile is not known"}},
		"keys that mean nothing":      {"x ctrl-z 5 f9", []string{"Layers"}},
		"pages as in dive":            {"tab ctrl-space d", []string{"/usr/lib/small"}},
		"pages back":                  {"tab ctrl-space d u", []string{"│/etc\n"}},
		"beyond the ends":             {"down down down down down up pgup tab pgdn pgdn end down home up", []string{"/etc"}},
		"a filter that is edited":     {"tab ctrl-f b i x backspace g enter", []string{"/big/"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open(t, 120, 24, app()).press(c.keys).has(c.has...)
		})
	}
}

// TestOddNames checks names that could break the screen.
func TestOddNames(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("d/", 199) + "leaf"
	device := inspecttest.Entry{Header: tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}}
	attributes := inspecttest.File("attributes", "")
	attributes.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "\x01b"}
	image := [][]inspecttest.Entry{{
		inspecttest.File(deep, ""), device, attributes, inspecttest.File("new\nline\ttab", ""), inspecttest.File(strings.Repeat("n", 255), ""), inspecttest.File("bad\xff", ""),
		inspecttest.File("日本語のファイル名のとても長いもの", ""), inspecttest.File("e\u0301", ""), inspecttest.File("\u202erlo", ""),
	}}
	for _, w := range []int{20, 40, 60, 61, 120, 200} {
		s := open(t, w, 20, image).press("tab ctrl-space")
		for _, wrapped := range []bool{false, true} {
			if wrapped {
				s.press("ctrl-p")
			}
			for s.press("home"); s.model.cursor.at < len(s.model.rows)-1; s.press("d") {
				for line := range strings.Lines(s.text()) {
					if got := utf8.RuneCountInString(strings.TrimRight(line, "\n")); got > w || !utf8.ValidString(line) || strings.ContainsAny(line, "\t\x1b\u202e") {
						t.Fatalf("a line of %d characters on a screen of %d: %q", got, w, line)
					}
				}
			}
		}
	}
	s := open(t, 60, 20, image).press("tab / l e a f enter")
	s.has("(199)   leaf", "…/d/d/", "/leaf\n")
	s.press("/ n n n enter ctrl-p").has(strings.Repeat("n", 28) + "\n")
	if got := strings.Count(s.text(), "n"); got < 255 {
		t.Errorf("%d characters of the name are shown", got)
	}
	open(t, 120, 20, image).press("tab").has(`new\nline\ttab`, `bad\xff`, `\u202erlo`, "日本語", "e\u0301").press("/ n u l l enter").has(" 1, 3\n").press("/ a t t r enter").has(` user.a="\x01b"`)
}

// TestSizesOfLayersElsewhere checks that layers have their sizes once they are known, not those of their blobs.
func TestSizesOfLayersElsewhere(t *testing.T) {
	t.Parallel()
	s := open(t, 120, 20, app())
	img := s.model.images[0]
	img.Layers[0] = Layer{Size: 77, Compressed: true, DiffID: img.Layers[0].DiffID}
	s.has("~77B")
	s.model.Update(s.model.load(t.Context()))
	s.has("┃   3.02kB", "!~77B")
}

// TestStepOfLayer checks that a layer has the number of its step, which findings name.
func TestStepOfLayer(t *testing.T) {
	t.Parallel()
	s := open(t, 120, 20, app()).press("down")
	s.has("\nLayer 2 ", "!(step")
	s.model.report.Steps = []analyze.Step{{Number: 1, Layer: 1}, {Number: 2}, {Number: 4, Layer: 2}}
	s.has("Layer 2 (step 4)")
}

// TestNothingDiffers checks what is said of two images with the same files.
func TestNothingDiffers(t *testing.T) {
	t.Parallel()
	s := open(t, 120, 20, app(), app()).has("no file differs").press("a").has("nothing to show", "!no file differs")
	s.press("w").has("Waste and findings of app:2")
}

// TestQuit checks which keys end the program.
func TestQuit(t *testing.T) {
	t.Parallel()
	for keys, want := range map[string]bool{"q": true, "ctrl-c": true, "? q": true, "esc": false, "ctrl-f q": false, "ctrl-f ctrl-c": true} {
		if got := open(t, 80, 20, app()).press(keys).model.Done(); got != want {
			t.Errorf("%q: done is %v, want %v", keys, got, want)
		}
	}
}

// TestCompareText checks that Enter shows how a text differs between two images.
func TestCompareText(t *testing.T) {
	t.Parallel()
	other := app()
	other[1][1] = inspecttest.File("etc/conf", "newer\nsame\n")
	open(t, 100, 20, app(), other).press("ctrl-space down enter").has("-new", "+newer", " same", "--- app:1:/etc/conf", "+++ app:2:/etc/conf")
}

// TestExtract checks that a file is written, never over another, and that its name in the image cannot lead elsewhere.
func TestExtract(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	s := open(t, 100, 20, app()).press("down tab ctrl-f c o n f enter down e enter").has("wrote conf (9B)")
	s.press("e enter").has("extract /etc/conf: conf exists: choose another name")
	s.press("esc ctrl-f 2 J enter down e").has("Write to: new_[2J")
	got, err := os.ReadFile(filepath.Join(dir, "conf"))
	if err != nil || string(got) != "new\nsame\n" {
		t.Errorf("extracted %q, %v", got, err)
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 1 {
		t.Errorf("the directory has %v, %v; want conf alone", list, err)
	}
}

// TestExtractEnds checks that the end of the program does not wait for a large file, and leaves no part of it.
func TestExtractEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	endless := readerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })
	dest := filepath.Join(t.TempDir(), "file")
	_, err := extract(ctx, func(context.Context) (io.ReadCloser, error) { return io.NopCloser(endless), nil }, dest)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Lstat(dest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a part of the file is left: %v", err)
	}
}

// TestExtractOverLinks checks that nothing is written through a link that stands where the file would be.
func TestExtractOverLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, target := range map[string]string{"dangling": filepath.Join(dir, "elsewhere"), "a directory": "/"} {
		dest := filepath.Join(dir, name)
		if err := os.Symlink(target, dest); err != nil {
			t.Fatal(err)
		}
		_, err := extract(t.Context(), func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil }, dest)
		if err == nil || !strings.Contains(err.Error(), "exists: choose another name") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "elsewhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was written through a link: %v", err)
	}
}

// TestBuild checks the times and causes of a build, and its Dockerfile at a step.
func TestBuild(t *testing.T) {
	t.Parallel()
	s := open(t, 120, 20, app())
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	layer := s.model.images[0].Layers[1].DiffID
	s.model.images[0].Build = &history.Build{
		Ref: "abcdefghijklmnop", Dockerfile: "Dockerfile", Text: "FROM base\nCOPY . .\nRUN make\n", Started: start, Completed: start.Add(10 * time.Second), Status: history.Completed,
		Steps: []*history.Step{
			{Vertex: "a", Name: "[1/2] COPY . .", State: history.StepCached, Line: 2},
			{
				Vertex: "b", Name: "[2/2] RUN make", State: history.StepRan, Line: 3, Started: start.Add(5 * time.Second), Completed: start.Add(10 * time.Second),
				Layer: digest.Digest(layer), Causes: []history.Cause{{Kind: history.Gone}},
			},
			{Vertex: "c", Name: "never reached"},
		},
	}
	s.press("b").has("Build abcdefghijkl", "cached   [1/2] COPY . .", "··········██████████     5.0s ran      [2/2] RUN make", "because", "!never reached")
	s.press("end enter").has("Dockerfile", "   3  RUN make")
	if l, ok := s.model.overlay.(*lines); !ok || l.at.at != 2 {
		t.Errorf("the cursor is not on line 3: %+v", s.model.overlay)
	}
	s.press("esc down f")
	if l, ok := s.model.overlay.(*lines); !ok || l.at.at != 2 {
		t.Errorf("f is not at the line of the layer: %+v", s.model.overlay)
	}
}

// TestError checks that an image that cannot be read is an error on the screen, with the layers still there.
func TestError(t *testing.T) {
	t.Parallel()
	img := &Image{Name: "x", Layers: []Layer{{Command: "RUN a", Size: 5}}, Load: func(context.Context) (*filetree.Tree, error) { return nil, io.ErrUnexpectedEOF }}
	s := &screen{t: t, w: 100, h: 12, model: New(func(func(context.Context) any) {}, img)}
	s.has("RUN a", "reading the files …").press("tab down enter e w n esc")
	s.model.Update(s.model.load(t.Context()))
	s.has("error: x: unexpected EOF", "RUN a").press("tab down enter e w / a enter")
}

func TestMode(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]view.Entry{
		"-rw-r--r--": {Type: view.TypeRegular, Mode: 0o644}, "drwxrwxrwt": {Type: view.TypeDir, Mode: 0o1777}, "-rwsr-x---": {Type: view.TypeRegular, Mode: 0o4750},
		"drwxr-s--T": {Type: view.TypeDir, Mode: 0o3750}, "lrwxrwxrwx": {Type: view.TypeSymlink, Mode: 0o777}, "c---------": {Type: view.TypeChar}, "---S--S---": {Type: view.TypeRegular, Mode: 0o6000},
		"?--x------": {Mode: 0o100},
	} {
		if got := mode(&e); got != want {
			t.Errorf("%o: %q, want %q", e.Mode, got, want)
		}
	}
}
