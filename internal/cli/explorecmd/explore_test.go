package explorecmd

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/analyze"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/inspect"
	"github.com/micabuild/mica/internal/terminal"
	"github.com/micabuild/mica/internal/terminal/terminaltest"
)

func TestExploreWithoutTerminal(t *testing.T) {
	t.Parallel()
	m := wasteful(t)
	got := m.Run(NewExploreCommand, "waste:1")
	if text := commandtest.Text(got.Err); !strings.Contains(text, "explore needs a terminal") || !strings.Contains(text, "mica analyze") {
		t.Errorf("error %q", text)
	}
	if got.Stdout != "" {
		t.Errorf("stdout %q", got.Stdout)
	}
}

// TestExploreOnADumbTerminal checks that a terminal without a cursor gets an error that names what works there.
func TestExploreOnADumbTerminal(t *testing.T) {
	t.Setenv("TERM", "dumb")
	device, _ := terminaltest.Screen(t)
	m := wasteful(t)
	m.Stdin = device
	m.Stdout = terminal.NewWriter(device)
	err := runExplore(t.Context(), m.App, "", []string{"waste:1"})
	if err == nil || !strings.Contains(err.Error(), "TERM is dumb: use `mica analyze`") {
		t.Errorf("error %v", err)
	}
}

// openWasteful opens images of a store as explore does.
func openWasteful(t *testing.T, m *commandtest.Mica) *inspect.Image {
	t.Helper()
	o := &inspect.Opener{Local: m.Local()}
	img, err := o.Open(t.Context(), "waste:1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = img.Close() })
	return img
}

// TestExploreImage checks what is shown of an image: layers with sizes, masked commands, versions of a file by layer, and its build.
func TestExploreImage(t *testing.T) {
	t.Parallel()
	m := wasteful(t)
	img := openWasteful(t, m)
	build := &history.Build{Ref: "abcdefghijklmnopqrstuvwxy", Line: history.LineOf("/c", "Dockerfile", ""), Status: history.Completed, Image: img.Target.Digest, Started: time.Now()}
	w, err := history.Open(m.App.Store).Begin(t.Context(), build)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	shown, err := exploreImage(t.Context(), m.App, img)
	if err != nil {
		t.Fatal(err)
	}
	if len(shown.Layers) != 2 || shown.Layers[0].Command != "COPY a /a" || shown.Layers[0].Size != 200_002 || shown.Layers[0].Compressed {
		t.Errorf("layers %+v", shown.Layers)
	}
	if shown.Build == nil || shown.Build.Ref != build.Ref {
		t.Errorf("build %+v, want %s", shown.Build, build.Ref)
	}
	tree, err := shown.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	report, err := shown.Analyze(t.Context(), tree)
	if err != nil || report.Wasted.Bytes != 200_000 {
		t.Errorf("report %+v, %v", report, err)
	}
	for layer, want := range map[int]int{0: 200_000, 1: 2, 99: 2, -1: 2} {
		in, err := shown.Open(t.Context(), layer, "a")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(in)
		_ = in.Close()
		if err != nil || len(got) != want {
			t.Errorf("a of layer %d has %d bytes, %v; want %d", layer, len(got), err, want)
		}
	}
	if _, err := shown.Open(t.Context(), 1, "nothing"); err == nil || !strings.Contains(err.Error(), "nothing is in no layer of waste:1") {
		t.Errorf("error %v", err)
	}
}

// TestExploreFindsSecrets checks that the waste and findings of explore are those of analyze, files that hold secrets among them.
func TestExploreFindsSecrets(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	m.Tag(m.Image(nil, map[string]string{"root/.npmrc": "//registry.example/:_authToken=npm_0123456789abcdefghijABCDEFGHIJ012345\n"}), "waste:1")
	img := openWasteful(t, m)
	shown, err := exploreImage(t.Context(), m.App, img)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := shown.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	report, err := shown.Analyze(t.Context(), tree)
	if err != nil || len(report.Findings) != 1 || report.Findings[0].Kind != analyze.KindSecret || report.SecretsUnread != 0 {
		t.Errorf("findings %+v, %d unread, %v; want the secret in .npmrc", report.Findings, report.SecretsUnread, err)
	}
}

// TestOwnLayers checks of which layers digests are computed.
func TestOwnLayers(t *testing.T) {
	t.Parallel()
	layers := func(ids ...string) *inspect.Image {
		img := &inspect.Image{}
		for _, id := range ids {
			img.Layers = append(img.Layers, &inspect.Layer{DiffID: digest.FromString(id)})
		}
		return img
	}
	a := layers("base", "a", "top")
	for name, c := range map[string]struct {
		other *inspect.Image
		want  int
	}{
		"the same": {layers("base", "a", "top"), 0}, "another top": {layers("base", "a", "x"), 1}, "nothing shared": {layers("x"), 3},
		"a part": {layers("base", "a"), 1}, "more": {layers("base", "a", "top", "x"), 0},
	} {
		if got := len(ownLayers(a, []*inspect.Image{a, c.other})); got != c.want {
			t.Errorf("%s: %d layers, want %d", name, got, c.want)
		}
	}
	if got := ownLayers(a, []*inspect.Image{a}); got != nil {
		t.Errorf("one image: %v", got)
	}
}
