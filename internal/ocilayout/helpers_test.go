package ocilayout_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/memory"

	"github.com/micabuild/mica/internal/ocilayout"
)

var ctx = context.Background()

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError checks that an error is one line that says all of what.
func wantError(t testing.TB, err error, what ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, not one that says %q", what)
	}
	for _, w := range what {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q: %v", w, err)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the error has several lines: %v", err)
	}
}

type file struct{ name, data, link string }

// tarOf makes an archive; a link that begins with = is a hard one.
func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Size: int64(len(f.data)), Mode: 0o644, Typeflag: tar.TypeReg}
		if target, hard := strings.CutPrefix(f.link, "="); hard {
			h.Typeflag, h.Linkname = tar.TypeLink, target
		} else if f.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
		}
		check(t, w.WriteHeader(h))
		must[int](t)(io.WriteString(w, f.data))
	}
	check(t, w.Close())
	return buf.Bytes()
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	must[int](t)(w.Write(data))
	check(t, w.Close())
	return buf.Bytes()
}

func toJSON(t testing.TB, v any) []byte {
	t.Helper()
	return must[[]byte](t)(json.Marshal(v))
}

func describe(mediaType string, raw []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
}

// origin is a store in memory that images are made in.
type origin struct {
	*memory.Store
	t testing.TB
}

func newOrigin(t testing.TB) *origin { return &origin{memory.New(), t} }

func (o *origin) push(mediaType string, raw []byte) ocispec.Descriptor {
	o.t.Helper()
	d := describe(mediaType, raw)
	if ok := must[bool](o.t)(o.Exists(ctx, d)); !ok {
		check(o.t, o.Push(ctx, d, bytes.NewReader(raw)))
	}
	return d
}

func (o *origin) manifest(m ocispec.Manifest) ocispec.Descriptor {
	o.t.Helper()
	m.Versioned, m.MediaType = specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageManifest
	return o.push(m.MediaType, toJSON(o.t, m))
}

// image makes an image of two layers, the first of which all images share.
func (o *origin) image(name string) ocispec.Descriptor {
	o.t.Helper()
	var ids []digest.Digest
	var layers []ocispec.Descriptor
	for _, n := range []string{"base", name} {
		layer := tarOf(o.t, file{name: n, data: strings.Repeat(n, 1000)})
		ids = append(ids, digest.FromBytes(layer))
		layers = append(layers, o.push(ocispec.MediaTypeImageLayerGzip, gzipped(o.t, layer)))
	}
	config := ocispec.Image{Platform: ocispec.Platform{Architecture: "amd64", OS: "linux"}, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: ids}}
	return o.manifest(ocispec.Manifest{Config: o.push(ocispec.MediaTypeImageConfig, toJSON(o.t, config)), Layers: layers})
}

func (o *origin) index(list ...ocispec.Descriptor) ocispec.Descriptor {
	o.t.Helper()
	i := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: list}
	return o.push(i.MediaType, toJSON(o.t, i))
}

// signature makes a manifest that refers to another.
func (o *origin) signature(subject ocispec.Descriptor, what string) ocispec.Descriptor {
	o.t.Helper()
	return o.manifest(ocispec.Manifest{
		ArtifactType: "application/x-signature", Config: o.push(ocispec.MediaTypeEmptyJSON, []byte("{}")),
		Layers: []ocispec.Descriptor{o.push("application/x-signed", []byte(what))}, Subject: &subject,
		Annotations: map[string]string{"by": what},
	})
}

func locate(t testing.TB, s string) *ocilayout.Location {
	t.Helper()
	l, ok, err := ocilayout.Parse(s)
	if err != nil || !ok {
		t.Fatalf("%q is no location: %v", s, err)
	}
	return l
}

func open(t testing.TB, s string) *ocilayout.Source {
	t.Helper()
	src, err := locate(t, s).Open(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, src.Close()) })
	return src
}

// openError is the error of opening a location, or of finding what it names.
func openError(t testing.TB, s string) error {
	t.Helper()
	src, err := locate(t, s).Open(ctx, t.TempDir())
	if err != nil {
		return err
	}
	defer func() { check(t, src.Close()) }()
	_, err = src.Root(ctx)
	return err
}

func create(t testing.TB, s, name string) *ocilayout.Destination {
	t.Helper()
	dst, err := locate(t, s).Create(ctx, ocilayout.CreateOptions{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, dst.Close()) })
	return dst
}

// write copies an image to a location.
func write(t testing.TB, src content.ReadOnlyGraphStorage, root ocispec.Descriptor, to, name string) {
	t.Helper()
	check(t, writeError(t, src, root, to, name))
}

func writeError(t testing.TB, src content.ReadOnlyGraphStorage, root ocispec.Descriptor, to, name string) error {
	t.Helper()
	dst, err := locate(t, to).Create(ctx, ocilayout.CreateOptions{Name: name})
	if err != nil {
		return err
	}
	defer func() { check(t, dst.Close()) }()
	if err := oras.ExtendedCopyGraph(ctx, src, dst, root, oras.DefaultExtendedCopyGraphOptions); err != nil {
		return err
	}
	return dst.Commit(ctx, root)
}

// wantImage checks that a location names root, and that all that it is made of can be read there.
func wantImage(t testing.TB, s string, root ocispec.Descriptor) {
	t.Helper()
	src := open(t, s)
	got := must[ocispec.Descriptor](t)(src.Root(ctx))
	if got.Digest != root.Digest || got.Size != root.Size || got.MediaType != root.MediaType {
		t.Fatalf("%s is %v, not %v", s, got, root)
	}
	check(t, oras.CopyGraph(ctx, src, memory.New(), got, oras.DefaultCopyGraphOptions))
}

func put(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	check(t, os.WriteFile(path, data, 0o600))
	return path
}

func readIndex(t testing.TB, raw []byte) []string {
	t.Helper()
	var index ocispec.Index
	check(t, json.Unmarshal(raw, &index))
	var list []string
	for _, d := range index.Manifests {
		list = append(list, fmt.Sprintf("%s %s", d.Annotations[ocispec.AnnotationRefName], d.Annotations["io.containerd.image.name"]))
	}
	slices.Sort(list)
	return list
}

// members are the files of a tar.
func members(t testing.TB, path string) map[string]string {
	t.Helper()
	all := map[string]string{}
	tr := tar.NewReader(bytes.NewReader(must[[]byte](t)(os.ReadFile(path))))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		check(t, err)
		if _, twice := all[h.Name]; twice {
			t.Errorf("%s is there twice", h.Name)
		}
		mode := int64(0o644)
		if h.Typeflag == tar.TypeDir {
			mode = 0o755
		}
		if h.ModTime.Unix() != 0 || h.Uid != 0 || h.Gid != 0 || h.Mode != mode {
			t.Errorf("%s has time %v, owner %d:%d, mode %o", h.Name, h.ModTime, h.Uid, h.Gid, h.Mode)
		}
		all[h.Name] = string(must[[]byte](t)(io.ReadAll(tr)))
	}
}
