package inspect_test

import (
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/inspect"
	. "github.com/micabuild/mica/internal/inspect/inspecttest"
	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/seekable/seekabletest"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/internal/view"
)

// noise does not compress, and differs with its number.
func noise(n byte) string {
	data := make([]byte, 400_000)
	_, _ = rand.NewChaCha8([32]byte{n}).Read(data)
	return string(data)
}

// largeLayers are layers that are worth to be read in parts. The link of the first is hidden by the second.
func largeLayers() [][]Entry {
	return [][]Entry{
		{Dir("etc"), File("etc/motd", "hello"), File("etc/old", "x"), Dir("real"), Symlink("link", "real"), File("big", noise(1))},
		{Dir("etc"), Removal("etc/old"), File("etc/new", "new"), File("link/f", "f"), File("big2", noise(2))},
	}
}

// published is an image in a registry, and what is needed to open it.
type published struct {
	*registrytest.Server
	opener *inspect.Opener
	notes  []string
}

func publish(t *testing.T, makeBlob func([]byte) *seekabletest.Blob, change func([]*seekabletest.Blob)) *published {
	t.Helper()
	p := &published{Server: registrytest.New(t)}
	var blobs []*seekabletest.Blob
	for _, l := range largeLayers() {
		blobs = append(blobs, makeBlob(Tar(t, l...)))
	}
	if change != nil {
		change(blobs)
	}
	Publish(t, p.Server, "app", "1", blobs...)
	Publish(t, p.Server, "app", "2", blobs[0])
	client := Registry(t)
	p.opener = &inspect.Opener{Local: NewStore(t).Local, Registry: func() *registry.Client { return client }, Note: func(text string) {
		p.notes = append(p.notes, text)
	}}
	return p
}

func (p *published) open(t *testing.T, tag string) *inspect.Image {
	t.Helper()
	img, err := p.opener.Open(t.Context(), p.Name("app:"+tag))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = img.Close() })
	return img
}

// whole counts the requests for whole blobs so far, configs left out.
func (p *published) whole(tags int) int {
	n := 0
	for _, r := range p.SeenBy(http.MethodGet, registrytest.Blob) {
		if r.Range == "" {
			n++
		}
	}
	return n - tags
}

func pathsOf(n *index.Node) (list []string) {
	e := n.Entry
	text := e.Path
	if e.Type == view.TypeRegular {
		text += " " + e.Digest.Encoded()[:8]
	}
	list = append(list, text)
	for _, kid := range n.Children {
		list = append(list, pathsOf(kid)...)
	}
	return list
}

var formats = map[string]func(t *testing.T) func([]byte) *seekabletest.Blob{
	"estargz": func(t *testing.T) func([]byte) *seekabletest.Blob {
		return func(tar []byte) *seekabletest.Blob { return seekabletest.Estargz(t, tar) }
	},
	"zstd:chunked": func(t *testing.T) func([]byte) *seekabletest.Blob {
		return func(tar []byte) *seekabletest.Blob { return seekabletest.Zstd(t, tar, nil) }
	},
}

// TestTablesOfRegistries: files are listed, and small ones are read, without their layers; the store learns nothing of these.
func TestTablesOfRegistries(t *testing.T) {
	t.Parallel()
	for name, makeBlob := range formats {
		p := publish(t, makeBlob(t), nil)
		img := p.open(t, "1")
		root, err := img.Files(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := []string{
			".", "big " + digest.FromString(noise(1)).Encoded()[:8], "big2 " + digest.FromString(noise(2)).Encoded()[:8], "etc",
			"etc/motd " + digest.FromString("hello").Encoded()[:8], "etc/new " + digest.FromString("new").Encoded()[:8], "link",
			"link/f " + digest.FromString("f").Encoded()[:8], "real",
		}
		if diff := cmp.Diff(want, pathsOf(root)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		files, err := img.Browse(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if text := readFile(t, files, "etc/motd"); text != "hello" {
			t.Errorf("%s: %q", name, text)
		}
		own, err := img.Layers[1].Browse(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if text := readFile(t, own, "etc/new"); text != "new" {
			t.Errorf("%s: %q", name, text)
		}
		if err := img.AddDigests(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		size, err := img.Layers[0].Size(t.Context())
		if err != nil || size != 400_000+5+1+4 {
			t.Errorf("%s: %d, %v", name, size, err)
		}
		if n := p.whole(1); n != 0 || img.Unverified() != 2 || img.Layers[0].Stored() || len(p.notes) > 0 {
			t.Errorf("%s: %d layers fetched, %d unverified, %v", name, n, img.Unverified(), p.notes)
		}
		// Another image with the same layer needs no other table.
		before := len(p.SeenBy(http.MethodGet, registrytest.Blob))
		if _, err := p.open(t, "2").Files(t.Context()); err != nil || len(p.SeenBy(http.MethodGet, registrytest.Blob)) != before+1 {
			t.Errorf("%s: %d requests, %v", name, len(p.SeenBy(http.MethodGet, registrytest.Blob))-before, err)
		}
	}
}

func readFile(t *testing.T, files view.View, name string) string {
	t.Helper()
	f, err := files.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestWholeLayers: where a table of contents cannot be used, and where a layer's contents are needed, the layer is fetched and verified.
func TestWholeLayers(t *testing.T) {
	t.Parallel()
	broken := func(blobs []*seekabletest.Blob) {
		for _, b := range blobs {
			for name := range b.Annotations {
				if strings.HasSuffix(name, "digest") || strings.HasSuffix(name, "checksum") {
					b.Annotations[name] = digest.FromString("another").String()
				}
			}
		}
	}
	for format, makeBlob := range formats {
		for name, c := range map[string]struct {
			change func([]*seekabletest.Blob)
			fault  func(registrytest.Request) registrytest.Fault
			use    func(p *published, img *inspect.Image) error
			notes  int
		}{
			"another table": {broken, nil, nil, 2},
			"no ranges":     {nil, registrytest.Always(registrytest.NoRanges), nil, 0},
			"a view": {nil, nil, func(_ *published, img *inspect.Image) error {
				_, err := img.View(t.Context())
				return err
			}, 0},
			"most files": {nil, nil, func(_ *published, img *inspect.Image) error {
				ignore := func(string, io.Reader) error { return nil }
				if err := img.Layers[0].ReadFiles(t.Context(), []string{"big"}, ignore); err != nil {
					return err
				}
				return img.Layers[1].ReadFiles(t.Context(), []string{"big2"}, ignore)
			}, 0},
		} {
			p := publish(t, makeBlob(t), c.change)
			if c.fault != nil {
				p.Misbehave(c.fault)
			}
			img := p.open(t, "1")
			if c.use != nil {
				if err := c.use(p, img); err != nil {
					t.Errorf("%s, %s: %v", format, name, err)
				}
			}
			root, err := img.Files(t.Context())
			if err != nil {
				t.Fatalf("%s, %s: %v", format, name, err)
			}
			if len(pathsOfView(t, root)) != 9 || img.Unverified() != 0 || !img.Layers[0].Stored() || !img.Layers[1].Stored() || len(p.notes) != c.notes {
				t.Errorf("%s, %s: %v, %d unverified, notes %v", format, name, pathsOfView(t, root), img.Unverified(), p.notes)
			}
		}
		p := publish(t, makeBlob(t), nil)
		p.opener.Whole = true
		if _, err := p.open(t, "1").Files(t.Context()); err != nil || p.whole(1) != 2 {
			t.Errorf("%s: %d layers fetched, %v", format, p.whole(1), err)
		}
	}
}

func pathsOfView(t *testing.T, root *index.Node) (list []string) {
	t.Helper()
	list = append(list, root.Entry.Path)
	for _, kid := range root.Children {
		list = append(list, pathsOfView(t, kid)...)
	}
	return list
}

// TestForgedTables: the store believes the layer, not what a table of contents said of it.
func TestForgedTables(t *testing.T) {
	t.Parallel()
	p := publish(t, func(tar []byte) *seekabletest.Blob {
		return seekabletest.Zstd(t, tar, func(table *seekabletest.Table) { table.Entries[1]["name"] = "etc/forged" })
	}, nil)
	img := p.open(t, "2")
	root, err := img.Files(t.Context())
	if err != nil || root.Descend("etc/forged") == nil {
		t.Fatalf("%v, %v", pathsOf(root), err)
	}
	if _, err := img.View(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, opened := range []*inspect.Image{img, p.open(t, "2")} {
		root, err = opened.Files(t.Context())
		if err != nil || root.Descend("etc/forged") != nil || root.Descend("etc/motd") == nil {
			t.Errorf("%v, %v", root, err)
		}
	}
}
