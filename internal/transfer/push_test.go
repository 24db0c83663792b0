package transfer

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/registry/registrytest"
)

func contents(t *testing.T, m *registrytest.Server, repo, ref string) registrytest.Contents {
	t.Helper()
	var c registrytest.Contents
	if err := json.Unmarshal(m.Manifest(repo, ref).Data, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPushComesBackUnchanged(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	c := newClient(t)
	img := c.build("one", m.Name("team/app:1"))
	pushed := c.push(m.Name("team/app:1"), PushOptions{})
	if got := registrytest.Digest(m.Manifest("team/app", "1").Data); got != pushed.Root.Digest.String() {
		t.Errorf("pushed %s, the registry has %s", pushed.Root.Digest, got)
	}
	if found, err := c.Images.Find(t.Context(), m.Name("team/app@"+pushed.Root.Digest.String())); err != nil || found.ID != img.ID {
		t.Errorf("by the digest that was pushed: %v, %v", found, err)
	}
	fresh := newClient(t)
	if got := fresh.pull(m.Name("team/app:1")); got.Image.ID != img.ID || got.Root.Digest != pushed.Root.Digest {
		t.Errorf("pushed %s as %s, pulled %s as %s", img.ID, pushed.Root.Digest, got.Image.ID, got.Root.Digest)
	}
	if got := fresh.content(m.Name("team/app:1"), "made"); got != "one" {
		t.Errorf("content %q", got)
	}
}

func TestPushTwiceUploadsNothing(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	c := newClient(t)
	c.build("one", m.Name("app:1"))
	first := c.push(m.Name("app:1"), PushOptions{}).Root.Digest
	if len(m.SeenBy("POST", registrytest.Upload)) == 0 {
		t.Fatal("the first push uploads nothing")
	}
	m.Behave()
	if again := c.push(m.Name("app:1"), PushOptions{}).Root.Digest; again != first {
		t.Errorf("first %s, then %s", first, again)
	}
	if got := append(m.SeenBy("POST"), m.SeenBy("PATCH")...); len(got) != 0 {
		t.Errorf("uploads again: %v", got)
	}
	// A layer that the registry has lost is sent again.
	lost := contents(t, m, "app", "1").Layers[0].Digest
	m.DropBlob("app", lost)
	c.push(m.Name("app:1"), PushOptions{})
	if m.Blob("app", lost) == nil {
		t.Error("the lost layer is not sent")
	}
}

func TestPushMounts(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	c := newClient(t)
	c.build("one", m.Name("app:1"), m.Name("team/app:1"), m.Name("third:1"))
	first := c.push(m.Name("app:1"), PushOptions{}).Root.Digest
	m.Behave()
	var mu sync.Mutex
	var from []string
	got := c.push(m.Name("team/app:1"), PushOptions{Progress: func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.State == Mounted {
			from = append(from, e.From)
		}
	}})
	if got.Root.Digest != first || strings.Join(from, " ") != "app app" {
		t.Errorf("pushed %s, want %s, with layers from %v", got.Root.Digest, first, from)
	}
	// A registry that does not mount starts an upload instead.
	m.Misbehave(func(r registrytest.Request) registrytest.Fault {
		if r.Method != http.MethodPost || !strings.Contains(r.Path, "mount=") {
			return nil
		}
		return func(w http.ResponseWriter, req *http.Request, next http.Handler) {
			req.URL.RawQuery = ""
			next.ServeHTTP(w, req)
		}
	})
	if got := c.push(m.Name("third:1"), PushOptions{}).Root.Digest; got != first {
		t.Errorf("pushed %s, want %s", got, first)
	}
	c.validate(m.Name("third:1"))
}

func TestPushCompression(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	c := newClient(t)
	img := c.build("one", m.Name("app:1"))
	for name, test := range map[string]struct{ magic, mediaType string }{
		"gzip":         {"\x1f\x8b", ocispec.MediaTypeImageLayerGzip},
		"zstd":         {"\x28\xb5\x2f\xfd", ocispec.MediaTypeImageLayerZstd},
		"uncompressed": {"", ocispec.MediaTypeImageLayer},
	} {
		o := PushOptions{Compression: compression.Algorithm(name)}
		if name == "uncompressed" {
			o.Compression = compression.None
		}
		c.tag(m.Name("app:1"), m.Name(name+":1"))
		c.push(m.Name(name+":1"), o)
		l := contents(t, m, name, "1").Layers[0]
		data := m.Blob(name, l.Digest)
		if l.MediaType != test.mediaType || !strings.HasPrefix(string(data), test.magic) {
			t.Errorf("%s: %s begins with %q", name, l.MediaType, data[:min(len(data), 8)])
		}
		fresh := newClient(t)
		if got := fresh.pull(m.Name(name + ":1")); got.Image.ID != img.ID || fresh.content(m.Name(name+":1"), "made") != "one" {
			t.Errorf("%s: pulled %s, want %s", name, got.Image.ID, img.ID)
		}
	}
	// What came with one compression is pushed with another only by force.
	fresh := newClient(t)
	fresh.pull(m.Name("gzip:1"))
	fresh.tag(m.Name("gzip:1"), m.Name("again:1"))
	kept := fresh.push(m.Name("again:1"), PushOptions{Compression: compression.Zstd}).Root.Digest.String()
	forced := fresh.push(m.Name("again:1"), PushOptions{Compression: compression.Zstd, Force: true}).Root.Digest.String()
	if kept != registrytest.Digest(m.Manifest("gzip", "1").Data) || forced == kept {
		t.Errorf("kept %s, forced %s", kept, forced)
	}
	best := fresh.push(m.Name("again:1"), PushOptions{Level: 9, Force: true}).Root.Digest
	if fast := fresh.push(m.Name("again:1"), PushOptions{Level: 1, Force: true}).Root.Digest; fast == best {
		t.Error("the level changes nothing")
	}
	c.refuses(`compression`, func() error { _, err := c.tryPush(m.Name("app:1"), PushOptions{Compression: "rar"}); return err })
	c.refuses(`level`, func() error { _, err := c.tryPush(m.Name("app:1"), PushOptions{Level: 99}); return err })
}

// TestPushKeepsForm: what came from one registry goes to another as it was, even if the store has the layer in another form.
func TestPushKeepsForm(t *testing.T) {
	t.Parallel()
	from, to := registrytest.New(t), registrytest.New(t)
	made := newClient(t)
	made.build("one", from.Name("none:1"), from.Name("zstd:1"), from.Name("gzip:1"))
	for _, a := range []compression.Algorithm{compression.None, compression.Zstd, compression.Gzip} {
		name := string(a) + ":1"
		if a == compression.None {
			name = "none:1"
		}
		pushed := made.push(from.Name(name), PushOptions{Compression: a}).Root.Digest
		c := newClient(t)
		c.build("one", "mine:1")
		c.pull(from.Name(name))
		c.tag(from.Name(name), to.Name(name))
		if got := c.push(to.Name(name), PushOptions{}).Root.Digest; got != pushed {
			t.Errorf("%s: pulled %s, pushed %s", name, pushed, got)
		}
	}
}

func TestPushIndex(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	index, ours, theirs := m.PutPlatforms("app", "1")
	for name, test := range map[string]struct {
		pulled  []string
		options PushOptions
		root    string // "" for a reduced index
		reduced bool
	}{
		"whole":    {[]string{"all"}, PushOptions{}, index.Digest, false},
		"one here": {nil, PushOptions{}, ours.Digest, true},
		"one of both": {[]string{"all"}, PushOptions{Platform: &ocispec.Platform{OS: "linux", Architecture: registrytest.OtherArch()}},
			theirs.Digest, false},
		"without a tag": {[]string{"all"}, PushOptions{ByDigest: true}, index.Digest, false},
	} {
		t.Run(name, func(t *testing.T) {
			to := registrytest.New(t)
			c := newClient(t)
			c.pull(m.Name("app:1"), test.pulled...)
			c.tag(m.Name("app:1"), to.Name("app:2"))
			got := c.push(to.Name("app:2"), test.options)
			if got.Root.Digest.String() != test.root || (got.Reduced.Digest != "") != test.reduced {
				t.Errorf("pushed %+v, want %s", got, test.root)
			}
			if tagged := to.Manifest("app", "2").Data != nil; tagged == test.options.ByDigest {
				t.Errorf("has a tag: %v", tagged)
			}
			c.validate(to.Name("app@" + test.root))
		})
	}
	// Pulled one after the other, the index is whole.
	c := newClient(t)
	c.pull(m.Name("app:1"))
	c.pull(m.Name("app:1"), "linux/"+registrytest.OtherArch())
	to := registrytest.New(t)
	c.tag(m.Name("app:1"), to.Name("app:1"))
	if got := c.push(to.Name("app:1"), PushOptions{}).Root.Digest.String(); got != index.Digest {
		t.Errorf("pulled in two steps %s, pushed %s", index.Digest, got)
	}
}

// TestPushReducedIndex: of three platforms the two that are here are pushed in an index of their own.
func TestPushReducedIndex(t *testing.T) {
	t.Parallel()
	m, to := registrytest.New(t), registrytest.New(t)
	_, ours, theirs := m.PutPlatforms("app", "")
	third := m.PutImage("app", "", "riscv64", nil, registrytest.Layer(t, "made", []byte("third")))
	index := m.PutIndex("app", "1", ours, theirs, third)
	c := newClient(t)
	c.pull(m.Name("app:1"), "linux/"+runtime.GOARCH, "linux/"+registrytest.OtherArch())
	c.tag(m.Name("app:1"), to.Name("app:1"))
	got := c.push(to.Name("app:1"), PushOptions{})
	if got.Reduced.Digest.String() != index.Digest || len(contents(t, to, "app", "1").Manifests) != 2 {
		t.Errorf("pushed %+v: %s", got, to.Manifest("app", "1").Data)
	}
	c.validate(to.Name("app:1"))
}

// TestPushElsewhere: a layer that the store does not have is mounted or read from where it is, and the store keeps nothing.
func TestPushElsewhere(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	tar := registrytest.Layer(t, "made", registrytest.Noise(10_000))
	blob := registrytest.Gzip(t, tar)
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
	config := mustJSON(t, map[string]any{
		"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": []digest.Digest{digest.FromBytes(tar)}},
	})
	for name, test := range map[string]struct {
		repositories []string
		opened       int
	}{
		"mounted": {[]string{m.Name("base")}, 0},
		"read":    {nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			m.PutBlob("base", d.MediaType, blob)
			c := newClient(t)
			img, err := c.Images.Assemble(t.Context(), image.Draft{Config: config, Layers: []ocispec.Descriptor{d}, Absent: true})
			if err != nil {
				t.Fatal(err)
			}
			opened := 0
			at := Elsewhere{Blob: d, Repositories: test.repositories, Open: func(context.Context) (io.ReadCloser, error) {
				opened++
				return io.NopCloser(strings.NewReader(string(blob))), nil
			}}
			_, err = Push(t.Context(), c.client, c.Local, parseName(t, m.Name(name+":1")), img.Target,
				PushOptions{Elsewhere: map[digest.Digest]Elsewhere{digest.FromBytes(tar): at}})
			if err != nil {
				t.Fatal(err)
			}
			if opened != test.opened {
				t.Errorf("opened %d times, want %d", opened, test.opened)
			}
			c.validate(m.Name(name + ":1"))
			if got := c.images(); got != "" {
				t.Errorf("the store has %s", got)
			}
		})
	}
}

// TestPushDockerTypes: a push leaves an image the media types of its family, and what it writes can be pulled.
func TestPushDockerTypes(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	for name, test := range map[string]struct {
		layers compression.Algorithm // those of the image; "" for plain ones
		push   PushOptions
		want   string // of the manifest and a layer
	}{
		"gzip":         {push: PushOptions{}, want: oci.DockerManifest + " " + oci.DockerLayerGzip},
		"uncompressed": {push: PushOptions{Compression: compression.None}, want: oci.DockerManifest + " " + oci.DockerLayer},
		"zstd":         {push: PushOptions{Compression: compression.Zstd}, want: ocispec.MediaTypeImageManifest + " " + ocispec.MediaTypeImageLayerZstd},
		"of zstd":      {layers: compression.Zstd, push: PushOptions{}, want: oci.DockerManifest + " " + oci.DockerLayerZstd},
	} {
		c := newClient(t)
		made := c.build("one", m.Name("plain:1"))
		draft := image.Draft{Config: made.RawConfig, DockerTypes: true}
		for _, id := range made.Chain() {
			if test.layers == "" {
				break
			}
			d, err := c.Layers.Compress(t.Context(), id, test.layers, 0)
			if err != nil {
				t.Fatal(err)
			}
			draft.Layers = append(draft.Layers, d)
		}
		name = m.Name(strings.ReplaceAll(name, " ", "-") + ":1")
		img, err := c.Images.Assemble(t.Context(), draft)
		if err == nil {
			_, err = c.Images.Keep(t.Context(), img.Target, parseName(t, name).String())
		}
		if err != nil {
			t.Fatal(err)
		}
		pushed := c.push(name, test.push)
		var got ocispec.Manifest
		if err := json.Unmarshal(m.Manifest(reference.Path(parseName(t, name)), "1").Data, &got); err != nil {
			t.Fatal(err)
		}
		if types := got.MediaType + " " + got.Layers[0].MediaType; types != test.want || pushed.Root.MediaType != got.MediaType {
			t.Errorf("%s: %s, want %s", name, types, test.want)
		}
		fresh := newClient(t)
		if again := fresh.pull(name); again.Image.ID != made.ID || fresh.content(name, "made") != "one" {
			t.Errorf("%s: pulled %s, want %s", name, again.Image.ID, made.ID)
		}
	}
}
