package registrytest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
)

// Server is a registry in memory behind a proxy. Its methods Put… add what tests need, unchecked.
type Server struct {
	*Memory
	*Proxy
	T testing.TB // whose server it is
}

// New starts a server, until the test ends.
func New(t testing.TB) *Server {
	t.Helper()
	m := NewMemory()
	return &Server{m, NewProxy(t, m), t}
}

// Name is the full name of an image of this registry.
func (s *Server) Name(image string) string { return s.Addr + "/" + image }

// Count makes the proxy misbehave, and counts how often it did.
func (s *Server) Count(choose func(Request) Fault) *atomic.Int32 {
	var n atomic.Int32
	s.Misbehave(func(r Request) Fault {
		f := choose(r)
		if f != nil {
			n.Add(1)
		}
		return f
	})
	return &n
}

// PutBlob adds a blob.
func (s *Server) PutBlob(repo, mediaType string, data []byte) Descriptor {
	s.AddBlob(repo, data)
	return Descriptor{MediaType: mediaType, Digest: Digest(data), Size: len(data)}
}

// PutDocument adds a manifest or an index under its digest and, unless it is "", a tag.
func (s *Server) PutDocument(repo, tag, mediaType string, v any) Descriptor {
	s.T.Helper()
	data := encode(s.T, v)
	refs := []string{Digest(data)}
	if tag != "" {
		refs = append(refs, tag)
	}
	s.AddManifest(repo, Document{Type: mediaType, Data: data}, refs...)
	return Descriptor{MediaType: mediaType, Digest: Digest(data), Size: len(data)}
}

// PutRaw adds any bytes as a manifest under a tag.
func (s *Server) PutRaw(repo, tag, mediaType, text string) {
	s.AddManifest(repo, Document{Type: mediaType, Data: []byte(text)}, tag, Digest([]byte(text)))
}

// PutImage adds an image for an architecture; edit, unless it is nil, changes its manifest first.
func (s *Server) PutImage(repo, tag, arch string, edit func(*Contents), layers ...[]byte) Descriptor {
	s.T.Helper()
	c := Contents{SchemaVersion: 2, MediaType: TypeManifest}
	ids := []string{}
	for _, l := range layers {
		ids = append(ids, Digest(l))
		c.Layers = append(c.Layers, s.PutBlob(repo, TypeLayer+"+gzip", Gzip(s.T, l)))
	}
	config := s.PutBlob(repo, TypeConfig, encode(s.T, map[string]any{
		"architecture": arch, "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	}))
	c.Config = &config
	if edit != nil {
		edit(&c)
	}
	d := s.PutDocument(repo, tag, c.MediaType, c)
	d.Platform = map[string]string{"architecture": arch, "os": "linux"}
	return d
}

// PutPacked adds an image of layers whose blobs are given, with their types and annotations. ids are the digests of their tars.
func (s *Server) PutPacked(repo, tag, arch string, ids []string, layers []Descriptor, data [][]byte) Descriptor {
	s.T.Helper()
	return s.PutImage(repo, tag, arch, func(c *Contents) {
		config := s.PutBlob(repo, TypeConfig, encode(s.T, map[string]any{
			"architecture": arch, "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": ids},
		}))
		c.Config, c.Layers = &config, layers
		for _, d := range data {
			s.AddBlob(repo, d)
		}
	})
}

// PutIndex adds an index of documents.
func (s *Server) PutIndex(repo, tag string, list ...Descriptor) Descriptor {
	s.T.Helper()
	return s.PutDocument(repo, tag, TypeIndex, Contents{SchemaVersion: 2, MediaType: TypeIndex, Manifests: list})
}

// PutPlatforms adds an index of an image for this host and one for OtherArch. The file "made" has the architecture.
func (s *Server) PutPlatforms(repo, tag string) (index, ours, theirs Descriptor) {
	s.T.Helper()
	shared := Layer(s.T, "shared", []byte("both"))
	ours = s.PutImage(repo, "", runtime.GOARCH, nil, shared, Layer(s.T, "made", []byte(runtime.GOARCH)))
	theirs = s.PutImage(repo, "", OtherArch(), nil, shared, Layer(s.T, "made", []byte(OtherArch())))
	return s.PutIndex(repo, tag, ours, theirs), ours, theirs
}

// PutSignature adds an artifact with the given content that refers to a subject, unless that is nil.
func (s *Server) PutSignature(repo, tag string, subject *Descriptor, content string) Descriptor {
	s.T.Helper()
	config := s.PutBlob(repo, "application/vnd.oci.empty.v1+json", []byte("{}"))
	if subject != nil {
		subject = &Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}
	}
	d := s.PutDocument(repo, tag, TypeManifest, Contents{
		SchemaVersion: 2, MediaType: TypeManifest, ArtifactType: "application/vnd.example.signature",
		Config: &config, Layers: []Descriptor{s.PutBlob(repo, "application/octet-stream", []byte(content))}, Subject: subject,
		Annotations: map[string]string{"content": content},
	})
	d.ArtifactType = "application/vnd.example.signature"
	return d
}

// PutNested adds an index that lists an index of two platforms and, beside it, what only other tools understand: a plugin, an
// image for WebAssembly, and a chart.
func (s *Server) PutNested(repo, tag string) (root, inner, ours Descriptor) {
	s.T.Helper()
	inner, ours, _ = s.PutPlatforms(repo, "")
	plugin := s.PutDocument(repo, "", "application/vnd.docker.plugin.v1+json", map[string]string{"is": "a plugin"})
	plugin.Platform = ours.Platform
	wasm := s.PutImage(repo, "", "wasm", func(c *Contents) {
		c.Layers[0].MediaType = "application/vnd.wasm.content.layer.v1+wasm"
	}, []byte("wasm"))
	chart := s.PutImage(repo, "", runtime.GOARCH, func(c *Contents) {
		c.Config.MediaType = "application/vnd.cncf.helm.config.v1+json"
	}, []byte("chart"))
	chart.Platform = nil
	return s.PutIndex(repo, tag, plugin, wasm, chart, inner), inner, ours
}

// OtherArch is an architecture that is not this host's.
func OtherArch() string {
	if runtime.GOARCH == "arm64" {
		return "amd64"
	}
	return "arm64"
}

// Noise is bytes that do not compress, always the same.
func Noise(size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data) // it has no errors
	return data
}

// Layer is a tar with one file.
func Layer(t testing.TB, name string, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Gzip compresses, always to the same bytes. It is fast: the race detector makes compression slow.
func Gzip(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	z, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
