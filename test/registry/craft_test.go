//go:build e2e

package registry

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// memory is a registry in memory behind a proxy.
type memory struct {
	*rig.Memory
	*rig.Proxy
	t *testing.T
}

func newMemory(t *testing.T) *memory {
	t.Helper()
	m := rig.NewMemory()
	return &memory{m, rig.NewProxy(t, m), t}
}

// hurt makes the proxy misbehave, and gives how often it has.
func (m *memory) hurt(choose func(rig.Request) rig.Fault) *atomic.Int32 {
	var n atomic.Int32
	m.Misbehave(func(r rig.Request) rig.Fault {
		f := choose(r)
		if f != nil {
			n.Add(1)
		}
		return f
	})
	return &n
}

// name is an image of this registry.
func (m *memory) name(s string) string { return m.Addr + "/" + s }

// noise is bytes that do not compress, always the same.
func noise(size int) []byte {
	data := make([]byte, size)
	state := uint64(88172645463325252) // xorshift
	for i := range data {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		data[i] = byte(state)
	}
	return data
}

// zipped compresses, always to the same bytes.
func zipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// blob adds a blob.
func (m *memory) blob(repo, mediaType string, data []byte) rig.Descriptor {
	m.AddBlob(repo, data)
	return rig.Descriptor{MediaType: mediaType, Digest: rig.Digest(data), Size: len(data)}
}

// document adds a manifest or an index under its digest and, if there is one, a tag.
func (m *memory) document(repo, tag, mediaType string, v any) rig.Descriptor {
	m.t.Helper()
	data := encode(m.t, v)
	refs := []string{rig.Digest(data)}
	if tag != "" {
		refs = append(refs, tag)
	}
	m.AddManifest(repo, rig.Document{Type: mediaType, Data: data}, refs...)
	return rig.Descriptor{MediaType: mediaType, Digest: rig.Digest(data), Size: len(data)}
}

// image adds an image for an architecture; edit, if there is one, changes its manifest first.
func (m *memory) image(repo, tag, arch string, edit func(*rig.Contents), layers ...[]byte) rig.Descriptor {
	m.t.Helper()
	c := rig.Contents{SchemaVersion: 2, MediaType: rig.TypeManifest}
	ids := []string{}
	for _, l := range layers {
		ids = append(ids, rig.Digest(l))
		c.Layers = append(c.Layers, m.blob(repo, rig.TypeLayer+"+gzip", zipped(m.t, l)))
	}
	config := m.blob(repo, rig.TypeConfig, encode(m.t, map[string]any{
		"architecture": arch, "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	}))
	c.Config = &config
	if edit != nil {
		edit(&c)
	}
	d := m.document(repo, tag, c.MediaType, c)
	d.Platform = map[string]string{"architecture": arch, "os": "linux"}
	return d
}

// index adds an index of documents.
func (m *memory) index(repo, tag string, list ...rig.Descriptor) rig.Descriptor {
	m.t.Helper()
	return m.document(repo, tag, rig.TypeIndex, rig.Contents{SchemaVersion: 2, MediaType: rig.TypeIndex, Manifests: list})
}

// layer is a tar with one file.
func layer(t *testing.T, name string, data []byte) []byte {
	t.Helper()
	return rig.LayerOf(t, map[string][]byte{name: data})
}

// here is this host's architecture, there another.
func here() string { return runtime.GOARCH }

func there() string {
	if here() == "arm64" {
		return "amd64"
	}
	return "arm64"
}

// twoPlatforms adds an image for this host and another; the file "made" says which.
func (m *memory) twoPlatforms(repo, tag string) (index, ours, theirs rig.Descriptor) {
	m.t.Helper()
	shared := layer(m.t, "shared", []byte("both"))
	ours = m.image(repo, "", here(), nil, shared, layer(m.t, "made", []byte(here())))
	theirs = m.image(repo, "", there(), nil, shared, layer(m.t, "made", []byte(there())))
	return m.index(repo, tag, ours, theirs), ours, theirs
}
