package inspect_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/cli/cli/config/configfile"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/inspect"
	"github.com/micabuild/mica/internal/inspect/inspecttest"
	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/internal/transfer"
)

// exampleLayers have the files "etc/motd" with "hello" and "bin/tool", and a removal.
func exampleLayers() [][]inspecttest.Entry {
	return [][]inspecttest.Entry{
		{inspecttest.Dir("bin"), inspecttest.File("bin/tool", "#!"), inspecttest.File("gone", "x")},
		{inspecttest.Dir("etc"), inspecttest.File("etc/motd", "hello"), inspecttest.Removal("gone")},
	}
}

// paths lists the files below a node.
func paths(n *index.Node) (list []string) {
	for _, kid := range n.Children {
		list = append(append(list, kid.Entry.Path), paths(kid)...)
	}
	return list
}

// contents are the files of an image, and the content of etc/motd.
func contents(t *testing.T, img *inspect.Image) string {
	t.Helper()
	root, err := img.Files(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v, err := img.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f, err := v.Open(t.Context(), "etc/motd")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return strings.Join(paths(root), " ") + ": " + string(text)
}

// saved writes an image to an archive and a layout, and returns their names.
func saved(t *testing.T, s *inspecttest.Store, img *image.Image) (archive, layout string) {
	t.Helper()
	dir := t.TempDir()
	archive, layout = filepath.Join(dir, "image.tar"), filepath.Join(dir, "layout")
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	items := []transfer.Item{{Image: img, Names: []string{"docker.io/library/saved:latest"}}}
	if err := errors.Join(s.Save(t.Context(), f, items), f.Close(), os.Mkdir(layout, 0o755), s.SaveDirectory(t.Context(), layout, items)); err != nil {
		t.Fatal(err)
	}
	return archive, layout
}

func record(t *testing.T, s *inspecttest.Store, b *history.Build) {
	t.Helper()
	b.Started = time.Now()
	w, err := history.Open(s.Store).Begin(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	b.Status = history.Completed
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
}

// TestOpen: one image is the same by any of its names, in a store that has it and in one that has nothing.
func TestOpen(t *testing.T) {
	t.Parallel()
	full, empty, reg := inspecttest.NewStore(t), inspecttest.NewStore(t), registrytest.New(t)
	img := full.Image(nil, exampleLayers(), "example:1")
	archive, layout := saved(t, full, img)
	record(t, full, &history.Build{Ref: "abcdefghijkl", Line: "line", Image: img.Target.Digest})
	var blobs [][]byte
	for _, l := range exampleLayers() {
		blobs = append(blobs, inspecttest.Tar(t, l...))
	}
	reg.PutImage("app", "1", "amd64", nil, blobs...)
	directory := t.TempDir()
	if err := errors.Join(os.MkdirAll(directory+"/bin", 0o755), os.MkdirAll(directory+"/etc", 0o755),
		os.WriteFile(directory+"/bin/tool", []byte("#!"), 0o644), os.WriteFile(directory+"/etc/motd", []byte("hello"), 0o644)); err != nil {
		t.Fatal(err)
	}
	client := registry.New(registry.Options{Docker: configfile.New(filepath.Join(t.TempDir(), "config.json")), RegistriesConf: os.DevNull})
	chain := img.Chain()
	for _, test := range []struct {
		store  *inspecttest.Store
		name   string
		kind   inspect.Kind
		layers int
		file   string
	}{
		{full, "example:1", inspect.Stored, 2, "bin bin/tool etc etc/motd: hello"},
		{full, img.ID.String(), inspect.Stored, 2, "bin bin/tool etc etc/motd: hello"},
		{full, img.ShortID(), inspect.Stored, 2, "bin bin/tool etc etc/motd: hello"},
		{full, "abcdefgh", inspect.Built, 2, "bin bin/tool etc etc/motd: hello"},
		{full, "^0", inspect.Built, 2, "bin bin/tool etc etc/motd: hello"},
		{full, chain[1].String(), inspect.OneLayer, 1, "etc etc/motd: hello"},
		{full, chain[1].Encoded(), inspect.OneLayer, 1, "etc etc/motd: hello"},
		{empty, archive, inspect.Archive, 2, "bin bin/tool etc etc/motd: hello"},
		{empty, "docker-archive:" + archive + ":saved", inspect.Archive, 2, "bin bin/tool etc etc/motd: hello"},
		{empty, "oci-archive:" + archive, inspect.Archive, 2, "bin bin/tool etc etc/motd: hello"},
		{empty, "oci:" + layout, inspect.Layout, 2, "bin bin/tool etc etc/motd: hello"},
		{empty, layout, inspect.Layout, 2, "bin bin/tool etc etc/motd: hello"},
		{empty, directory, inspect.Directory, 1, "bin bin/tool etc etc/motd: hello"},
		{empty, "dir:" + directory, inspect.Directory, 1, "bin bin/tool etc etc/motd: hello"},
		{empty, reg.Name("app:1"), inspect.Published, 2, "bin bin/tool etc etc/motd: hello"},
		{empty, "docker://" + reg.Name("app:1"), inspect.Published, 2, "bin bin/tool etc etc/motd: hello"},
	} {
		o := &inspect.Opener{Local: test.store.Local, Registry: func() *registry.Client { return client }}
		got, err := o.Open(t.Context(), test.name)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got.Kind != test.kind || len(got.Layers) != test.layers || got.Name != test.name {
			t.Errorf("%s: %s %d %s, want %s %d", test.name, got.Kind, len(got.Layers), got.Name, test.kind, test.layers)
		}
		if file := contents(t, got); file != test.file {
			t.Errorf("%s: %q, want %q", test.name, file, test.file)
		}
		if err := got.Close(); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// TestOpenFetches: opening an image in a registry fetches no layer, and reading one fetches that alone; what the store has is not fetched.
func TestOpenFetches(t *testing.T) {
	t.Parallel()
	s, reg := inspecttest.NewStore(t), registrytest.New(t)
	layers := exampleLayers()
	s.Image(nil, layers[:1])
	reg.PutImage("app", "1", "amd64", nil, inspecttest.Tar(t, layers[0]...), inspecttest.Tar(t, layers[1]...))
	client := registry.New(registry.Options{Docker: configfile.New(filepath.Join(t.TempDir(), "config.json")), RegistriesConf: os.DevNull})
	o := &inspect.Opener{Local: s.Local, Registry: func() *registry.Client { return client }}
	img, err := o.Open(t.Context(), reg.Name("app:1"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = img.Close() }()
	fetched := func() int { return len(reg.SeenBy("GET", registrytest.Blob)) - 1 } // the config
	if stored := []bool{img.Layers[0].Stored(), img.Layers[1].Stored()}; fetched() != 0 || !slices.Equal(stored, []bool{true, false}) {
		t.Fatalf("%d layers fetched, stored %v", fetched(), stored)
	}
	table, err := img.Layers[1].Table(t.Context())
	if err != nil || len(table.Entries) != 3 {
		t.Fatalf("%v, %v", table, err)
	}
	if _, err := img.Files(t.Context()); err != nil || fetched() != 1 {
		t.Fatalf("%d layers fetched, %v", fetched(), err)
	}
}

// TestHistory: lines of history without a layer are not counted as layers.
func TestHistory(t *testing.T) {
	t.Parallel()
	s := inspecttest.NewStore(t)
	change := func(c *inspecttest.Image) {
		c.History[0].EmptyLayer = true
		c.History = append(c.History, c.History[1])
		c.History[2].CreatedBy = "COPY last"
	}
	s.Image(change, exampleLayers(), "example:1")
	img := s.Open("example:1")
	var got []int
	for _, h := range img.History {
		got = append(got, h.Layer)
	}
	if l := img.Layers[1]; !slices.Equal(got, []int{-1, 0, 1}) || l.CreatedBy != "COPY last" || l.History != 2 {
		t.Errorf("%v, %+v", got, l)
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	s := inspecttest.NewStore(t)
	s.Image(nil, exampleLayers(), "example:1")
	record(t, s, &history.Build{Ref: "abcdefghijkl", Line: "line"})
	record(t, s, &history.Build{Ref: "bbcdefghijkl", Line: "line", Image: "sha256:" + "00000000000000000000000000000000000000000000000000000000000000aa"})
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no tar"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"missing:1":    "No such image: missing:1",
		"":             "invalid reference",
		"^7":           "no such build: ^7",
		"abcdefghijkl": "build abcdefghijkl has made no image",
		"bbcdefghijkl": "is not in the store",
		"^0:RUN":       `has no step "RUN"`,
		"./missing":    "no such file",
		"oci:":         "has no path",
		"dir:" + text:  "is not a directory",
		"dir:":         `"dir:" has no path`,
		text:           text + ": ",
		"UPPER":        "invalid reference",
		"/dev/null":    "/dev/null is neither a file nor a directory",
	} {
		o := &inspect.Opener{Local: s.Local}
		img, err := o.Open(context.Background(), name)
		if err == nil {
			_ = img.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
}

// TestOtherPlatform: an image that the store has for another platform alone is looked up in its registry, and the error says both.
func TestOtherPlatform(t *testing.T) {
	t.Parallel()
	s, reg := inspecttest.NewStore(t), registrytest.New(t)
	s.Image(nil, exampleLayers(), reg.Name("app:1"))
	client := registry.New(registry.Options{Docker: configfile.New(filepath.Join(t.TempDir(), "config.json")), RegistriesConf: os.DevNull})
	o := &inspect.Opener{Local: s.Local, Registry: func() *registry.Client { return client }, Platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}}
	_, err := o.Open(t.Context(), reg.Name("app:1"))
	if err == nil || !strings.Contains(err.Error(), "no image for platform linux/s390x is in the store; manifest for "+reg.Name("app:1")+" not found") {
		t.Error(err)
	}
}

// TestFetchErrors: the error of a layer that cannot be fetched names it once.
func TestFetchErrors(t *testing.T) {
	t.Parallel()
	full, reg := inspecttest.NewStore(t), registrytest.New(t)
	img := full.Image(nil, exampleLayers(), "example:1")
	_, layout := saved(t, full, img)
	if err := os.Remove(filepath.Join(layout, "blobs", "sha256", img.Manifest.Layers[0].Digest.Encoded())); err != nil {
		t.Fatal(err)
	}
	reg.PutImage("app", "1", "amd64", nil, []byte(strings.Repeat("x", 4096)))
	client := registry.New(registry.Options{Docker: configfile.New(filepath.Join(t.TempDir(), "config.json")), RegistriesConf: os.DevNull})
	for _, name := range []string{layout, reg.Name("app:1")} {
		o := &inspect.Opener{Local: inspecttest.NewStore(t).Local, Registry: func() *registry.Client { return client }}
		got, err := o.Open(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		l := got.Layers[0]
		if _, err = l.Table(t.Context()); err == nil || strings.Count(err.Error(), "layer "+l.DiffID.String()) != 1 {
			t.Errorf("%s: %v", name, err)
		}
		if err := got.Close(); err != nil {
			t.Error(err)
		}
	}
}
