// Package inspecttest makes images for tests of what looks into them: of layers whose tars are given entry by entry.
package inspecttest

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/inspect"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/layer/seekable/seekabletest"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/transfer"
)

// Time is the time of files that have no other.
var Time = time.Unix(1_600_000_000, 0)

// Entry is an entry of a tar.
type Entry struct {
	tar.Header
	Content string
}

// File is a regular file.
func File(name, content string) Entry {
	return Entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content)), ModTime: Time}, content}
}

// Dir is a directory.
func Dir(name string) Entry {
	return Entry{Header: tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: Time}}
}

// Symlink is a symlink to a target.
func Symlink(name, target string) Entry {
	return Entry{Header: tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeSymlink, Mode: 0o777, ModTime: Time}}
}

// Link is another name of an earlier entry.
func Link(name, first string) Entry {
	return Entry{Header: tar.Header{Name: name, Linkname: first, Typeflag: tar.TypeLink, Mode: 0o644, ModTime: Time}}
}

// Removal is the whiteout of a name.
func Removal(name string) Entry {
	return File(filepath.Join(filepath.Dir(name), ".wh."+filepath.Base(name)), "")
}

// Opaque makes a directory opaque.
func Opaque(dir string) Entry { return File(dir+"/.wh..wh..opq", "") }

// Tar is the tar of entries.
func Tar(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		h := e.Header
		h.Format = tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.Content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Publish puts an image of layers that have tables of contents into a registry.
func Publish(t testing.TB, reg *registrytest.Server, repo, tag string, blobs ...*seekabletest.Blob) {
	t.Helper()
	var ids []string
	var layers []registrytest.Descriptor
	var data [][]byte
	for _, b := range blobs {
		ids, data = append(ids, registrytest.Digest(b.Layer(t))), append(data, b.Data)
		layers = append(layers, registrytest.Descriptor{MediaType: b.MediaType, Digest: b.Digest.String(), Size: len(b.Data), Annotations: b.Annotations})
	}
	reg.PutPacked(repo, tag, "amd64", ids, layers, data)
}

// Registry is a client of a registry of a test.
func Registry(t testing.TB) *registry.Client {
	t.Helper()
	return registry.New(registry.Options{Docker: configfile.New(filepath.Join(t.TempDir(), "config.json")), RegistriesConf: os.DevNull})
}

// Store is a store that lasts as long as the test.
type Store struct {
	*transfer.Local
	t     testing.TB
	known map[digest.Digest]ingested // by the digests of tars
}

type ingested struct {
	id   digest.Digest
	blob ocispec.Descriptor
}

// NewStore makes an empty store.
func NewStore(t testing.TB) *Store {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	layers := layer.New(s)
	return &Store{&transfer.Local{Store: s, Layers: layers, Images: image.New(s, layers)}, t, map[digest.Digest]ingested{}}
}

// Image is a config.
type Image = ocispec.Image

// Config is a config with a line of history for each of count layers.
func Config(count int) Image {
	config := Image{Platform: ocispec.Platform{Architecture: "amd64", OS: "linux"}}
	for n := range count {
		config.History = append(config.History, ocispec.History{CreatedBy: "RUN step " + string(rune('1'+n))})
	}
	return config
}

// Image makes an image of layers. change, unless it is nil, changes its config. names are its names.
func (s *Store) Image(change func(*Image), layers [][]Entry, names ...string) *image.Image {
	s.t.Helper()
	tars := make([][]byte, len(layers))
	for i, entries := range layers {
		tars[i] = Tar(s.t, entries...)
	}
	return s.make(change, tars, names...)
}

// ImageOf makes an image of the tars of its layers.
func (s *Store) ImageOf(name string, tars ...[]byte) *image.Image {
	s.t.Helper()
	return s.make(nil, tars, name)
}

func (s *Store) make(change func(*Image), tars [][]byte, names ...string) *image.Image {
	s.t.Helper()
	ctx := context.Background()
	config := Config(len(tars))
	config.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	blobs := []ocispec.Descriptor{}
	for _, data := range tars {
		l, ok := s.known[digest.FromBytes(data)]
		if !ok {
			got, blob, err := s.Layers.Ingest(ctx, bytes.NewReader(data), "", "")
			if err != nil {
				s.t.Fatal(err)
			}
			l = ingested{got.DiffID, blob}
			s.known[digest.FromBytes(data)] = l
		}
		config.RootFS.DiffIDs, blobs = append(config.RootFS.DiffIDs, l.id), append(blobs, l.blob)
	}
	if change != nil {
		change(&config)
	}
	raw, err := json.Marshal(config)
	if err != nil {
		s.t.Fatal(err)
	}
	img, err := s.Images.Create(ctx, image.Draft{Config: raw, Layers: blobs})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, n := range names {
		if err := s.Images.Tag(ctx, img, n); err != nil {
			s.t.Fatal(err)
		}
	}
	return img
}

// Open opens an image until the test ends.
func (s *Store) Open(name string) *inspect.Image {
	s.t.Helper()
	o := &inspect.Opener{Local: s.Local}
	img, err := o.Open(context.Background(), name)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := img.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return img
}
