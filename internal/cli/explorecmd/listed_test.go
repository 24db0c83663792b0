package explorecmd

import (
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/inspect"
	"github.com/micabuild/mica/internal/inspect/inspecttest"
	"github.com/micabuild/mica/internal/layer/seekable/seekabletest"
	"github.com/micabuild/mica/internal/registry/registrytest"
)

// published is a registry with an image whose layer has a table of contents, which leaves out a file with a secret.
func published(t *testing.T) *registrytest.Server {
	t.Helper()
	data := make([]byte, 600_000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	layer := inspecttest.Tar(t, inspecttest.File("big", string(data)), inspecttest.File("app/.npmrc", "//r/:_authToken=hunter2hunter2"),
		inspecttest.File("app/.netrc", "machine r login a password hunter2hunter2"))
	reg := registrytest.New(t)
	inspecttest.Publish(t, reg, "app", "1", seekabletest.Zstd(t, layer, func(table *seekabletest.Table) {
		table.Entries = table.Entries[:len(table.Entries)-1]
	}))
	return reg
}

// TestAnalyzeListed: an image in a registry is analyzed by its table of contents, and by its layers where a threshold depends on it.
func TestAnalyzeListed(t *testing.T) {
	t.Parallel()
	reg := published(t)
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "app/.npmrc, unverified 1"},
		{[]string{"--fail-on", "secret"}, "app/.netrc, app/.npmrc, unverified 0"},
	} {
		m := commandtest.New(t)
		args := append([]string{reg.Name("app:1"), "--format", "{{range .Findings}}{{.Path}}, {{end}}unverified {{.Unverified}}"}, test.args...)
		got := m.Run(NewAnalyzeCommand, args...)
		if text := strings.TrimSpace(got.Stdout); strings.ReplaceAll(text, "/app", "app") != test.want {
			t.Errorf("%v: %q, want %q, %v", test.args, got.Stdout, test.want, got.Err)
		}
	}
	got := commandtest.New(t).Run(NewAnalyzeCommand, reg.Name("app:1"))
	if !strings.Contains(got.Stdout, "The files of 1 of the layers are those of the registry's tables of contents") || got.Err != nil {
		t.Errorf("%s, %v", got.Stdout, got.Err)
	}
}

// TestExploreListed: a file of an image in a registry is shown without its layer.
func TestExploreListed(t *testing.T) {
	t.Parallel()
	reg := published(t)
	m := commandtest.New(t)
	if err := m.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	opener, err := newOpener(t.Context(), m.App, nil)
	if err != nil {
		t.Fatal(err)
	}
	img, err := opener.Open(t.Context(), reg.Name("app:1"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = img.Close() }()
	shown, err := exploreImage(t.Context(), m.App, img)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := shown.Load(t.Context())
	if err != nil || tree.Layers != 1 {
		t.Fatalf("%+v, %v", tree, err)
	}
	f, err := shown.Open(t.Context(), 0, "app/.npmrc")
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(f)
	if err != nil || !strings.HasPrefix(string(data), "//r/") {
		t.Errorf("%q, %v", data, err)
	}
	_ = f.Close()
	for _, r := range reg.SeenBy("GET", registrytest.Blob) {
		if r.Ref == img.Layers[0].Blob.Digest.String() && r.Range == "" {
			t.Error("the whole layer is fetched")
		}
	}
	if img.Unverified() != 1 || img.Kind != inspect.Published {
		t.Errorf("%d layers unverified", img.Unverified())
	}
}
