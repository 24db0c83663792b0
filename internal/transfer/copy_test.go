package transfer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/ocilayout"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/registry/registrytest"
)

// source opens a location of package ocilayout, or a repository.
func (c *client) source(name string) Source {
	c.t.Helper()
	at, ok, err := ocilayout.Parse(name)
	if err != nil {
		c.t.Fatal(err)
	}
	var src Source
	if ok {
		src, err = at.Open(c.t.Context(), c.t.TempDir())
	} else {
		src, err = OpenSource(c.t.Context(), c.client, parseName(c.t, name))
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = src.Close() })
	return src
}

func (c *client) destination(name string) Destination {
	c.t.Helper()
	at, ok, err := ocilayout.Parse(name)
	if err != nil {
		c.t.Fatal(err)
	}
	var dst Destination
	if ok {
		dst, err = at.Create(c.t.Context(), ocilayout.CreateOptions{})
	} else {
		dst, err = OpenDestination(c.t.Context(), c.client, parseName(c.t, name))
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return dst
}

// copyTo copies between any places, and returns the digest.
func (c *client) copyTo(from, to string, o CopyOptions) string {
	c.t.Helper()
	dst := c.destination(to)
	d, err := Copy(c.t.Context(), c.source(from), dst, o)
	if err := errors.Join(err, dst.Close()); err != nil {
		c.t.Fatalf("copy %s to %s: %v", from, to, err)
	}
	return d.Digest.String()
}

// TestCopyKeepsDigests from registry to registry, layout, archive and back, of nested indexes, too.
func TestCopyKeepsDigests(t *testing.T) {
	t.Parallel()
	for name, put := range map[string]func(*registrytest.Server) registrytest.Descriptor{
		"image": func(m *registrytest.Server) registrytest.Descriptor {
			return m.PutImage("app", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", registrytest.Noise(100_000)))
		},
		"index":  func(m *registrytest.Server) registrytest.Descriptor { d, _, _ := m.PutPlatforms("app", "1"); return d },
		"nested": func(m *registrytest.Server) registrytest.Descriptor { d, _, _ := m.PutNested("app", "1"); return d },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, other := registrytest.New(t), registrytest.New(t)
			want := put(m).Digest
			dir := t.TempDir()
			c := newClient(t)
			places := []string{m.Name("app:1"), other.Name("team/app:2"), "oci:" + dir + "/layout:v1", "oci-archive:" + dir + "/a.tar:v2", other.Name("back:1")}
			for i, to := range places[1:] {
				if got := c.copyTo(places[i], to, CopyOptions{}); got != want {
					t.Errorf("copied %s from %s to %s, want %s", got, places[i], to, want)
				}
			}
			for repo, tag := range map[string]string{"team/app": "2", "back": "1"} {
				if got := registrytest.Digest(other.Manifest(repo, tag).Data); got != want {
					t.Errorf("%s has %s, want %s", repo, got, want)
				}
			}
			fresh := newClient(t)
			fresh.pull(other.Name("back:1"))
			if fresh.content(other.Name("back:1"), "made") == "" {
				t.Error("the copy is empty")
			}
		})
	}
}

func TestCopyPlatform(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	_, _, theirs := m.PutPlatforms("app", "1")
	c := newClient(t)
	want := other()
	if got := c.copies(m.Name("app:1"), m.Name("one:1"), CopyOptions{Platform: &want}); got != theirs.Digest {
		t.Errorf("copied %s, want %s", got, theirs.Digest)
	}
	if got := registrytest.Digest(m.Manifest("one", "1").Data); got != theirs.Digest {
		t.Errorf("the registry has %s, want %s", got, theirs.Digest)
	}
	c.refuses(`no matching manifest`, func() error {
		_, err := c.tryCopy(m.Name("app:1"), m.Name("one:2"), CopyOptions{Platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}})
		return err
	})
}

func TestCopyMounts(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	m.PutImage("app", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", registrytest.Noise(100_000)))
	c := newClient(t)
	c.copies(m.Name("app:1"), m.Name("other:1"), CopyOptions{})
	for _, r := range m.SeenBy("PATCH", registrytest.Upload) {
		t.Errorf("sends bytes that can be mounted: %+v", r)
	}
	if len(m.SeenBy("POST", registrytest.Upload)) == 0 {
		t.Errorf("mounts nothing: %v", m.Seen())
	}
	m.Behave()
	c.copies(m.Name("app:1"), m.Name("other:1"), CopyOptions{})
	if got := m.SeenBy("POST", registrytest.Upload); len(got) != 0 {
		t.Errorf("sends what is there: %v", got)
	}
}

func TestCopyFails(t *testing.T) {
	t.Parallel()
	m, to := registrytest.New(t), registrytest.New(t)
	m.PutImage("app", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", registrytest.Noise(100_000)))
	c := newClient(t)
	m.Misbehave(registrytest.On("GET", registrytest.Blob, 1, 0, registrytest.Flip()))
	dir := t.TempDir()
	for _, dst := range []string{"oci:" + dir + "/l:x", "oci-archive:" + dir + "/l.tar:x", to.Name("app:1")} {
		c.refuses(`digest`, func() error {
			d := c.destination(dst)
			_, err := Copy(t.Context(), c.source(m.Name("app:1")), d, CopyOptions{})
			_ = d.Close()
			return err
		})
	}
	if to.Manifest("app", "1").Data != nil {
		t.Error("there is a tag")
	}
	if left, err := filepath.Glob(dir + "/*.tar"); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	m.Behave()
	var missing *registry.NotFoundError
	if _, err := c.tryCopy(m.Name("app:2"), to.Name("app:2"), CopyOptions{}); !errors.As(err, &missing) {
		t.Errorf("of a tag that is missing: %v", err)
	}
}

// TestCopyRecovers: a blob whose upload broke is read again from its source.
func TestCopyRecovers(t *testing.T) {
	t.Parallel()
	m, to := registrytest.New(t), registrytest.New(t)
	d := m.PutImage("app", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", registrytest.Noise(500_000)))
	met := to.Count(registrytest.Sending(1, 2, registrytest.CutUpload(1000)))
	c := newClient(t)
	if got := c.copies(m.Name("app:1"), to.Name("app:1"), CopyOptions{}); got != d.Digest || met.Load() == 0 {
		t.Errorf("copied %s with %d faults", got, met.Load())
	}
	to.Behave()
	c.validate(to.Name("app:1"))
}

// TestCopyReferrers by the API of OCI 1.1, and by the tag that came before it.
func TestCopyReferrers(t *testing.T) {
	t.Parallel()
	for name, api := range map[string][2]bool{
		"API to API": {true, true}, "API to tag": {true, false}, "tag to API": {false, true}, "tag to tag": {false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := registrytest.New(t), registrytest.New(t)
			from.Referrers, to.Referrers = api[0], api[1]
			image := from.PutImage("app", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", []byte("signed")))
			signature := from.PutSignature("app", "", &image, "a signature")
			second := from.PutSignature("app", "", &signature, "a signature of the signature")
			for subject, s := range map[string]registrytest.Descriptor{image.Digest: signature, signature.Digest: second} {
				if !api[0] {
					from.PutIndex("app", strings.Replace(subject, ":", "-", 1), s)
				}
			}
			c := newClient(t)
			c.copies(from.Name("app:1"), to.Name("plain:1"), CopyOptions{})
			if to.Manifest("plain", signature.Digest).Data != nil {
				t.Error("the signature is copied without the option")
			}
			layout := "oci:" + filepath.Join(t.TempDir(), "layout") + ":1"
			c.copies(from.Name("app:1"), to.Name("app:1"), CopyOptions{Referrers: true})
			c.copyTo(from.Name("app:1"), layout, CopyOptions{Referrers: true})
			c.copyTo(layout, to.Name("again:1"), CopyOptions{Referrers: true})
			for _, repo := range []string{"app", "again"} {
				for what, d := range map[string]registrytest.Descriptor{"the signature": signature, "the signature of the signature": second} {
					if to.Manifest(repo, d.Digest).Data == nil {
						t.Errorf("%s: %s is not copied", repo, what)
					}
				}
				tag := to.Manifest(repo, strings.Replace(image.Digest, ":", "-", 1)).Data
				if listed := bytes.Contains(tag, []byte(signature.Digest)); listed == api[1] {
					t.Errorf("%s: the tag of the referrers is %q", repo, tag)
				}
			}
		})
	}
}

// TestCopyReferrersOfPlatforms: of an index's images, too.
func TestCopyReferrersOfPlatforms(t *testing.T) {
	t.Parallel()
	from, to := registrytest.New(t), registrytest.New(t)
	index, ours, _ := from.PutPlatforms("app", "1")
	signed := []registrytest.Descriptor{from.PutSignature("app", "", &index, "of the index"), from.PutSignature("app", "", &ours, "of the image")}
	newClient(t).copies(from.Name("app:1"), to.Name("app:1"), CopyOptions{Referrers: true})
	for i, d := range signed {
		if to.Manifest("app", d.Digest).Data == nil {
			t.Errorf("signature %d is not copied", i)
		}
	}
}

// TestCopyCosign: signatures that cosign attaches by the names of tags are copied as referrers are.
func TestCopyCosign(t *testing.T) {
	t.Parallel()
	from, to := registrytest.New(t), registrytest.New(t)
	image := from.PutImage("app", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", []byte("signed")))
	tag := strings.Replace(image.Digest, ":", "-", 1) + ".sig"
	from.PutSignature("app", tag, nil, "a signature")
	newClient(t).copies(from.Name("app:1"), to.Name("app:1"), CopyOptions{Referrers: true})
	if to.Manifest("app", tag).Data == nil {
		t.Error("cosign's tag is not copied")
	}
}

func TestDestination(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	d := m.PutImage("app", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", []byte("x")))
	c := newClient(t)
	dst := c.destination(m.Name("app:1"))
	root, err := c.source(m.Name("app:1")).Root(t.Context())
	if err != nil || root.Digest.String() != d.Digest {
		t.Fatalf("root %v, %v", root, err)
	}
	layer := contents(t, m, "app", "1").Layers[0]
	blob := ocispec.Descriptor{MediaType: layer.MediaType, Digest: digest.Digest(layer.Digest), Size: int64(layer.Size)}
	for _, want := range []ocispec.Descriptor{root, blob} {
		r, err := dst.Fetch(t.Context(), want)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil || digest.FromBytes(data) != want.Digest {
			t.Errorf("fetched %d bytes of %s, %v", len(data), want.Digest, err)
		}
	}
	if there, err := dst.Exists(t.Context(), root); err != nil || !there {
		t.Errorf("exists: %v, %v", there, err)
	}
}

func TestManifestList(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	ours := m.PutImage("one", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", []byte("one")))
	theirs := m.PutImage("two", "1", registrytest.OtherArch(), nil, registrytest.Layer(t, "made", []byte("two")))
	c := newClient(t)
	name := parseName(t, m.Name("list:1"))
	if _, err := LoadList(c.Store, name); err == nil {
		t.Error("a list that was not saved is there")
	}
	list := &ManifestList{Name: name.String()}
	for _, of := range []string{"one:1", "two:1", "one:1"} {
		if err := list.Add(t.Context(), c.client, parseName(t, m.Name(of))); err != nil {
			t.Fatal(err)
		}
	}
	if err := list.Add(t.Context(), c.client, parseName(t, m.Name("three:1"))); err == nil {
		t.Error("an image that is missing is added")
	}
	entry, err := list.Entry(t.Context(), c.client, parseName(t, m.Name("two@"+theirs.Digest)))
	if err != nil {
		t.Fatal(err)
	}
	entry.Descriptor.Platform.Variant = "v8"
	if _, err := list.Entry(t.Context(), c.client, parseName(t, m.Name("one@"+registrytest.Digest(nil)))); err == nil {
		t.Error("an entry that is missing is found")
	}
	if err := list.Save(c.Store); err != nil {
		t.Fatal(err)
	}
	if list, err = LoadList(c.Store, name); err != nil {
		t.Fatal(err)
	}
	pushed, err := list.Push(t.Context(), c.client, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.validate(m.Name("list:1")); got != pushed.Digest.String() {
		t.Errorf("pushed %s, the registry has %s", pushed.Digest, got)
	}
	index := contents(t, m, "list", "1")
	if len(index.Manifests) != 2 || index.Manifests[0].Digest != ours.Digest || index.Manifests[1].Platform["variant"] != "v8" {
		t.Errorf("the index lists %+v", index.Manifests)
	}
	if err := RemoveList(c.Store, name); err != nil {
		t.Error(err)
	}
}

func TestManifestListOfDocker(t *testing.T) {
	t.Parallel()
	const manifest, list = "application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json"
	for i, test := range []struct {
		types []string
		want  string
	}{
		{[]string{manifest, manifest}, list},
		{[]string{manifest, ocispec.MediaTypeImageManifest}, ocispec.MediaTypeImageIndex},
		{nil, ocispec.MediaTypeImageIndex},
	} {
		l := &ManifestList{Name: fmt.Sprint("app:", i)}
		for _, mediaType := range test.types {
			l.Entries = append(l.Entries, ListEntry{Descriptor: ocispec.Descriptor{MediaType: mediaType}})
		}
		if d, _, err := l.Index(); err != nil || d.MediaType != test.want {
			t.Errorf("of %v: %s, %v", test.types, d.MediaType, err)
		}
	}
}
